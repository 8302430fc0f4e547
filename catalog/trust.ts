/** Whose manifests we believe: our own installation's and those of the installations that key files name. */
import { keyFilesOf, trustInstallation } from '../storage/keys.ts'
import { writerIdentity } from './installation.ts'
import { keyring } from './keys.ts'
import type { Catalog } from './open.ts'

/** Ed25519 public keys (JWK) by installation id. */
export async function trustedInstallations(
  catalog: Catalog,
  keysDirectory: string,
): Promise<Record<string, Record<string, string>>> {
  const ring = await keyring(catalog, keysDirectory)
  const own = await writerIdentity(catalog)
  return Object.assign({}, ...keyFilesOf(ring).map(key => key.installations), {
    [own.installationId]: own.publicKey,
  })
}

/**
 * Makes every key file here name our installation, too: what we encrypt for a key, its owner must be able to trust with
 * the file alone. One that is older than this catalog (it was lost and made anew) or was brought from elsewhere does not.
 * Returns the names of the files that changed: copies of them kept elsewhere are out of date.
 */
export async function enterInKeyFiles(catalog: Catalog, keysDirectory: string): Promise<string[]> {
  const { installationId, publicKey } = await writerIdentity(catalog)
  const changed: string[] = []
  const ring = await keyring(catalog, keysDirectory)
  for (const { name, installations } of keyFilesOf(ring)) {
    if (Object.hasOwn(installations, installationId)) continue
    await trustInstallation(keysDirectory, name, installationId, publicKey)
    changed.push(name)
  }
  return changed
}
