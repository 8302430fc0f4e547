/**
 * The keys that this installation encrypts for and opens with. They are files in the keys directory; where several API
 * processes share the catalog, it holds a copy of each, sealed as all secrets are, and every process brings its directory
 * up to that before it looks: a key that was made or put there on one machine is on all of them.
 */
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { RecipientFile } from '../model/manifest.ts'
import {
  type AnyKeyFile,
  type Keyring,
  keyFilesOf,
  loadKeyring,
  placeKeyFile,
  removeKeyFile,
  requireFree,
} from '../storage/keys.ts'
import { keysAway, putKeyAway } from '../storage/retired-keys.ts'
import type { CatalogDatabase } from './dialect.ts'
import { keyStates, markRetired, retiredKids } from './key-states.ts'
import type { Catalog } from './open.ts'
import { changeSecrets, putSecrets, readSecrets, removeSecret } from './secret-rows.ts'

const owner = 'keys'
/** By key id. */
const awayOwner = 'retired-keys'

type Document = AnyKeyFile | RecipientFile

type Shared = Pick<Catalog, 'shared' | 'transaction' | 'box' | 'db'>

/** Throws `key.invalid`, also when a file is another key than the catalog's of that name. Those that were retired are put away. */
export async function keyring(catalog: Shared, directory: string): Promise<Keyring> {
  const ring = await loadInUse(catalog.db, directory)
  if (!catalog.shared) return ring
  const here = new Map(filesOf(ring))
  const wanting = await catalog.transaction(async tx => {
    const kept = await readSecrets(tx, catalog.box, owner)
    // Retired since we looked: it is put away the next time.
    const retired = await retiredKids(tx)
    for (const [file, { kid }] of here) if (retired.has(kid)) here.delete(file)
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
  return wanting.length === 0 ? ring : await loadInUse(catalog.db, directory)
}

const filesOf = (ring: Keyring): [string, Document][] => [
  ...keyFilesOf(ring).map((key): [string, Document] => [`${key.name}.json`, key]),
  ...ring.recipients.map((key): [string, Document] => [`${key.name}.pub.json`, key]),
]

/** A process that died while it retired a key, and every other one that has it, too, finds it here. */
async function loadInUse(db: CatalogDatabase, directory: string): Promise<Keyring> {
  const ring = await loadKeyring(directory)
  const retired = await retiredKids(db)
  const away = filesOf(ring).filter(([, { kid }]) => retired.has(kid))
  for (const [file, { kid }] of away) await putKeyAway(directory, file, kid)
  return away.length === 0 ? ring : await loadKeyring(directory)
}

/** Nothing is encrypted for it and nothing opened with it any more, until it is brought back. Throws `key.missing`. */
export async function retireKey(catalog: Catalog, directory: string, name: string): Promise<void> {
  const found = filesOf(await keyring(catalog, directory)).find(([, key]) => key.name === name)
  if (!found) throw new HoldfastError('key.missing', `There is no key "${name}".`)
  const [file, document] = found
  await catalog.transaction(async tx => {
    await markRetired(tx, { name, kid: document.kid }, new Date().toISOString())
    await changeSecrets(tx, catalog.box, 'opened-keys', { [name]: null })
    if (!catalog.shared) return
    await removeSecret(tx, owner, file)
    const kept = { [document.kid]: JSON.stringify([file, document]) }
    await changeSecrets(tx, catalog.box, awayOwner, kept)
  })
  await keyring(catalog, directory)
}

/** The one that was retired last under this name. Throws `key.missing`, and `request.exists` when the name was given again. */
export async function bringKeyBack(catalog: Catalog, directory: string, name: string): Promise<void> {
  await keyring(catalog, directory)
  await requireFree(directory, name)
  const states = await keyStates(catalog.db)
  const away: [string, Document][] = (await keysAway(directory, name)).map(one => [one.file, one.document])
  for (const text of Object.values(await readSecrets(catalog.db, catalog.box, awayOwner))) {
    const [file, document] = JSON.parse(text) as [string, Document]
    if (file === `${name}.json` || file === `${name}.pub.json`) away.push([file, document])
  }
  const retiredAt = ([, { kid }]: [string, Document]) => states.get(kid)?.retiredAt ?? ''
  const [last] = away.sort((a, b) => (retiredAt(a) < retiredAt(b) ? 1 : -1))
  if (!last) throw new HoldfastError('key.missing', `No key "${name}" was retired here.`)
  const [file, document] = last
  await catalog.transaction(async tx => {
    await markRetired(tx, { name, kid: document.kid }, null)
    await removeSecret(tx, awayOwner, document.kid)
    if (catalog.shared) await putSecrets(tx, catalog.box, owner, { [file]: JSON.stringify(document) })
  })
  // From its copy, which stays: whoever dies here finds it there again.
  await placeKeyFile(directory, file, document)
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
    if (hasCode(error, 'key.invalid')) {
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
