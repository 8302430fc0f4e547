/** Wrapping and opening data keys with the keys of this process. */
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { RotateInput } from '../model/records.ts'
import type { Json } from '../model/types.ts'
import { type Keyring, keyFilesOf, type OpeningKey, type Recipient, recipientOf } from '../storage/keys.ts'
import { unwrapDataKey, wrapDataKey, wrappedFor } from '../storage/wrap.ts'
import { installationKeys } from './installation.ts'
import { currentKid, keyStates } from './key-states.ts'
import { keyring } from './keys.ts'
import type { Catalog } from './open.ts'
import { openedKeys } from './opened-keys.ts'

type Jwe = Record<string, Json>

/** `jwe` for the named recipients, `own` for this installation alone. Throws `key.missing` for a name that is no key here. */
export async function wrapForNames(
  catalog: Catalog,
  keysDirectory: string,
  dataKey: Uint8Array,
  names: readonly string[],
): Promise<{ jwe: Jwe; own: Jwe }> {
  const ring = await keyring(catalog, keysDirectory)
  const own = await installationKeys(catalog)
  const chosen = names.map(name => {
    const found = recipientsHere(ring).find(candidate => candidate.name === name)
    if (found) return found
    throw new HoldfastError('key.missing', `Encrypting for key "${name}": there is no key of that name here.`)
  })
  return {
    jwe: await wrapDataKey(dataKey, chosen),
    own: await wrapDataKey(dataKey, [recipientOf(own.wrapping)]),
  }
}

/** With any key held here. Throws `key.locked`, `key.missing`. */
export async function unwrapHere(catalog: Catalog, keysDirectory: string, jwe: Jwe): Promise<Uint8Array> {
  const ring = await keyring(catalog, keysDirectory)
  const own = await installationKeys(catalog)
  const keys: OpeningKey[] = [own.wrapping, ...ring.keys, ...(await openedKeys(catalog)), ...ring.kms]
  const names = new Set(wrappedFor(jwe))
  const locked = ring.locked.filter(key => names.has(key.kid))
  if (locked.length > 0 && !keys.some(key => names.has(key.kid))) throw isLockedNow(locked)
  return await unwrapDataKey(jwe, keys)
}

/**
 * The same data key for the rotation's new key, and for all others here that it was wrapped for and that are current.
 * `wrapped`: what its sidecars hold, newest first.
 */
export async function rewrapFor(
  catalog: Catalog,
  keysDirectory: string,
  { from, to }: Pick<RotateInput, 'from' | 'to'>,
  wrapped: readonly Jwe[],
): Promise<Jwe> {
  const here = recipientsHere(await keyring(catalog, keysDirectory))
  const states = await keyStates(catalog.db)
  const before = new Set(wrapped.flatMap(wrappedFor))
  const stays = ({ kid }: Recipient) =>
    kid === to.kid || (kid !== from.kid && before.has(kid) && currentKid(states, kid) === kid)
  const recipients = here.filter(stays)
  if (!recipients.some(({ kid }) => kid === to.kid)) {
    throw new HoldfastError('key.missing', `Encrypting for key "${to.name}": it is not here any more.`)
  }
  return await wrapDataKey(await firstThatOpens(catalog, keysDirectory, wrapped), recipients)
}

async function firstThatOpens(
  catalog: Catalog,
  keysDirectory: string,
  wrapped: readonly Jwe[],
): Promise<Uint8Array> {
  const failures: unknown[] = []
  for (const jwe of wrapped) {
    try {
      return await unwrapHere(catalog, keysDirectory, jwe)
    } catch (error) {
      failures.push(error)
    }
  }
  const locked = failures.find(error => hasCode(error, 'key.locked'))
  throw locked ?? failures[0] ?? new HoldfastError('request.invalid', 'There is nothing to open.')
}

const recipientsHere = (ring: Keyring): Recipient[] => [
  ...keyFilesOf(ring).map(recipientOf),
  ...ring.recipients,
]

function isLockedNow(keys: readonly { name: string }[]): HoldfastError {
  const [{ name }] = keys as [{ name: string }]
  const names = keys.map(key => `"${key.name}"`).join(', ')
  return new HoldfastError(
    'key.locked',
    `Opening a data key: it was wrapped for ${names}, which a passphrase locks.`,
    { hint: `Open it for a while: holdfast keys unlock ${name}` },
  )
}
