/**
 * The keys that this installation encrypts for and opens with. They are files in the keys directory; where several API
 * processes share the catalog, it holds a copy of each, sealed as all secrets are, and every process brings its directory
 * up to that before it looks: a key that was made or put there on one machine is on all of them.
 */
import { HoldfastError } from '../model/errors.ts'
import type { KeyFile, LockedKeyFile, RecipientFile } from '../model/manifest.ts'
import { type Keyring, keyFilesOf, loadKeyring, placeKeyFile, removeKeyFile } from '../storage/keys.ts'
import type { Catalog } from './open.ts'
import { putSecrets, readSecrets, removeSecret } from './secret-rows.ts'

const owner = 'keys'

type Document = KeyFile | LockedKeyFile | RecipientFile

/** Throws `key.invalid`, also when a file is another key than the catalog's of that name. */
export async function keyring(
  catalog: Pick<Catalog, 'shared' | 'transaction' | 'box'>,
  directory: string,
): Promise<Keyring> {
  const ring = await loadKeyring(directory)
  if (!catalog.shared) return ring
  const here = new Map<string, Document>([
    ...keyFilesOf(ring).map(key => [`${key.name}.json`, key] as const),
    ...ring.recipients.map(key => [`${key.name}.pub.json`, key] as const),
  ])
  const wanting = await catalog.transaction(async tx => {
    const kept = await readSecrets(tx, catalog.box, owner)
    const write: [string, Document][] = []
    for (const file of new Set([...here.keys(), ...Object.keys(kept)])) {
      const text = kept[file]
      const inCatalog = text === undefined ? undefined : (JSON.parse(text) as Document)
      const inDirectory = here.get(file)
      const both = merged(directory, file, inCatalog, inDirectory)
      if (!same(both, inDirectory)) write.push([file, both])
      if (same(both, inCatalog)) continue
      await removeSecret(tx, owner, file)
      await putSecrets(tx, catalog.box, owner, { [file]: JSON.stringify(both) })
    }
    return write
  })
  for (const [file, document] of wanting) await placeKeyFile(directory, file, document)
  return wanting.length === 0 ? ring : await loadKeyring(directory)
}

/** Makes a key, and gives up its file when another process has just made one of that name. */
export async function addKey<T>(
  catalog: Catalog,
  directory: string,
  file: string,
  make: () => Promise<T>,
): Promise<T> {
  await keyring(catalog, directory)
  const made = await make()
  try {
    await keyring(catalog, directory)
  } catch (error) {
    await removeKeyFile(directory, file)
    if (error instanceof HoldfastError && error.code === 'key.invalid') {
      throw new HoldfastError(
        'request.exists',
        `Making key file ${file}: another process has just made it.`,
        {
          cause: error,
        },
      )
    }
    throw error
  }
  return made
}

function merged(
  directory: string,
  file: string,
  kept: Document | undefined,
  there: Document | undefined,
): Document {
  const one = kept ?? there
  if (!one) throw new TypeError('a key is neither here nor there')
  if (!kept || !there) return one
  if (kept.kid !== there.kid) {
    throw new HoldfastError(
      'key.invalid',
      `${directory}/${file} is another key (${there.kid}) than the one of that name which the API processes share (${kept.kid}).`,
      { hint: 'Give the file another name.' },
    )
  }
  if (!('installations' in kept && 'installations' in there)) return kept
  return { ...kept, installations: { ...there.installations, ...kept.installations } }
}

const same = (one: Document, other: Document | undefined): boolean =>
  other !== undefined && sorted(one) === sorted(other)

const sorted = (value: unknown): string =>
  JSON.stringify(value, (_key, item: unknown) =>
    item !== null && typeof item === 'object' && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  )
