/**
 * Locked keys that somebody has opened for a while, sealed as all secrets are: every API process opens backups with them until
 * their time is up.
 */
import { HoldfastError } from '../model/errors.ts'
import type { LockedKeyFile } from '../model/manifest.ts'
import type { PrivateKey } from '../storage/keys.ts'
import { openLockedKey } from '../storage/locked-keys.ts'
import { keyring } from './keys.ts'
import type { Catalog } from './open.ts'
import { inTurn } from './passwords.ts'
import { changeSecrets, readSecrets } from './secret-rows.ts'

const owner = 'opened-keys'

interface Opened extends PrivateKey {
  /** ISO time. */
  until: string
}

/** Returns when it is locked again. Throws `key.missing`, `key.passphrase-wrong`. */
export async function openKey(
  catalog: Catalog,
  directory: string,
  name: string,
  passphrase: string,
  minutes: number,
): Promise<string> {
  const key = await lockedKey(catalog, directory, name)
  const opened = await inTurn(() => openLockedKey(key, passphrase))
  const until = new Date(Date.now() + minutes * 60_000).toISOString()
  await catalog.transaction(tx =>
    changeSecrets(tx, catalog.box, owner, { [name]: JSON.stringify({ ...opened, until } satisfies Opened) }),
  )
  return until
}

/** Throws `key.missing`. One that is locked stays so. */
export async function lockKey(catalog: Catalog, directory: string, name: string): Promise<void> {
  await lockedKey(catalog, directory, name)
  await catalog.transaction(tx => changeSecrets(tx, catalog.box, owner, { [name]: null }))
}

/** Those whose time is not up. */
export async function openedKeys(catalog: Catalog): Promise<Opened[]> {
  const all = Object.values(await readSecrets(catalog.db, catalog.box, owner))
  const now = new Date().toISOString()
  return all.map(text => JSON.parse(text) as Opened).filter(key => key.until > now)
}

/** Takes away those whose time is up. */
export async function lockOpenedKeys(catalog: Catalog): Promise<void> {
  await catalog.transaction(async tx => {
    const now = new Date().toISOString()
    const late = Object.entries(await readSecrets(tx, catalog.box, owner)).filter(
      ([, text]) => (JSON.parse(text) as Opened).until <= now,
    )
    await changeSecrets(tx, catalog.box, owner, Object.fromEntries(late.map(([name]) => [name, null])))
  })
}

async function lockedKey(catalog: Catalog, directory: string, name: string): Promise<LockedKeyFile> {
  const key = (await keyring(catalog, directory)).locked.find(one => one.name === name)
  if (key) return key
  throw new HoldfastError('key.missing', `There is no key "${name}" that a passphrase locks.`)
}
