/**
 * Wrapping data keys: JWE in general JSON serialisation (A256GCM), one entry per recipient. Each entry's header says the
 * algorithm, the recipient's `kid` and, for people, its `name`.
 */
import { randomBytes } from 'node:crypto'
import { GeneralEncrypt, generalDecrypt } from 'jose'
import { HoldfastError } from '../model/errors.ts'
import type { Json } from '../model/types.ts'
import type { Jwk, OpeningKey, Recipient } from './keys.ts'
import { openKms } from './kms/index.ts'

/** Unprotected header of a recipient at a key management service: what the service made of the 32 bytes that open its entry. */
const kmsHeader = 'holdfast-kms'

/** `dataKey`: 32 bytes. At least one recipient. Throws what the service of one says. */
export async function wrapDataKey(
  dataKey: Uint8Array,
  recipients: readonly Recipient[],
): Promise<Record<string, Json>> {
  if (recipients.length === 0) throw new RangeError('a data key is wrapped for at least one recipient')
  const jwe = new GeneralEncrypt(dataKey).setProtectedHeader({ enc: 'A256GCM' })
  for (const recipient of recipients) {
    const { name, kid, algorithm: alg } = recipient
    if ('publicKey' in recipient) {
      jwe.addRecipient(recipient.publicKey).setUnprotectedHeader({ alg, kid, name })
      continue
    }
    const key = randomBytes(32)
    const encrypted = await (await openKms(recipient.kms)).encrypt(key)
    const header = { alg, kid, name, [kmsHeader]: Buffer.from(encrypted).toString('base64url') }
    jwe.addRecipient(key).setUnprotectedHeader(header)
  }
  return JSON.parse(JSON.stringify(await jwe.encrypt()))
}

/**
 * The 32-byte data key, opened with one of `keys` that it was wrapped for; keys that are here before those that a service
 * holds. Throws `key.missing` naming the recipients when none of `keys` is among them, `artifact.corrupted` when the wrapped
 * key is damaged, and what the service says.
 */
export async function unwrapDataKey(
  jwe: Record<string, Json>,
  keys: readonly OpeningKey[],
): Promise<Uint8Array> {
  const wrapped = recipientsOf(jwe)
  const fitting = wrapped.flatMap(entry => {
    const key = keys.find(candidate => candidate.kid === entry.kid)
    return key === undefined ? [] : [{ ...entry, key }]
  })
  const failures: unknown[] = []
  for (const { recipient, key } of fitting.sort((a, b) => Number('kms' in a.key) - Number('kms' in b.key))) {
    try {
      return await openedWith(jwe, recipient, key)
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures[0]
  const names = wrapped.map(({ name, kid }) => `"${name}" (${kid})`).join(', ')
  throw new HoldfastError(
    'key.missing',
    `Opening a data key: it was wrapped for ${names || 'nobody'}; no key here is among them.`,
  )
}

async function openedWith(jwe: Record<string, Json>, recipient: Json, key: OpeningKey): Promise<Uint8Array> {
  const damaged = new HoldfastError(
    'artifact.corrupted',
    `Opening a data key with key "${key.name}": it was wrapped for this key, but does not open; the sidecar is damaged.`,
  )
  let secret: Jwk | Uint8Array
  if ('kms' in key) {
    const encrypted = asObject(asObject(recipient)?.header)?.[kmsHeader]
    if (typeof encrypted !== 'string') throw damaged
    secret = await (await openKms(key.kms)).decrypt(Buffer.from(encrypted, 'base64url'))
  } else secret = key.privateKey
  try {
    const { ciphertext, iv, tag, protected: header } = jwe
    // Only this recipient is tried, with the algorithms we write: the sidecar is not signed.
    const single = { ciphertext, iv, tag, protected: header, recipients: [recipient] }
    const { plaintext } = await generalDecrypt(single as never, secret, {
      keyManagementAlgorithms: 'kms' in key ? ['A256KW'] : ['ECDH-ES+A256KW', 'RSA-OAEP-256'],
      contentEncryptionAlgorithms: ['A256GCM'],
    })
    if (plaintext.length === 32) return plaintext
  } catch {
    // Falls through: what jose says of the failure helps nobody.
  }
  throw damaged
}

/** Ids of the keys that a data key was wrapped for. */
export const wrappedFor = (jwe: Record<string, Json>): string[] => recipientsOf(jwe).map(({ kid }) => kid)

/** Whom a data key was wrapped for, as its headers say. */
function recipientsOf(jwe: Record<string, Json>): { name: string; kid: string; recipient: Json }[] {
  const list = Array.isArray(jwe.recipients) ? jwe.recipients : []
  return list.map(recipient => {
    const header = asObject(asObject(recipient)?.header)
    const text = (field: string): string => {
      const value = header?.[field]
      return typeof value === 'string' ? value : '?'
    }
    return { name: text('name'), kid: text('kid'), recipient }
  })
}

const asObject = (value: Json | undefined): { [key: string]: Json } | undefined =>
  value !== null && typeof value === 'object' && !Array.isArray(value) ? value : undefined
