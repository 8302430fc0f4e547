/**
 * Wrapping data keys: JWE in general JSON serialisation (A256GCM), one entry per recipient. Each entry's header says the
 * algorithm, the recipient's `kid` and, for people, its `name`.
 */
import { GeneralEncrypt, generalDecrypt } from 'jose'
import { HoldfastError } from '../model/errors.ts'
import type { Json } from '../model/types.ts'
import type { OpeningKey, Recipient } from './keys.ts'

/** `dataKey`: 32 bytes. At least one recipient. */
export async function wrapDataKey(
  dataKey: Uint8Array,
  recipients: readonly Recipient[],
): Promise<Record<string, Json>> {
  if (recipients.length === 0) throw new RangeError('a data key is wrapped for at least one recipient')
  const jwe = new GeneralEncrypt(dataKey).setProtectedHeader({ enc: 'A256GCM' })
  for (const { name, kid, algorithm, publicKey } of recipients) {
    jwe.addRecipient(publicKey).setUnprotectedHeader({ alg: algorithm, kid, name })
  }
  return JSON.parse(JSON.stringify(await jwe.encrypt()))
}

/**
 * The 32-byte data key, opened with the first of `keys` that it was wrapped for. Throws `key.missing` naming the recipients
 * when none of `keys` is among them, `artifact.corrupted` when the wrapped key is damaged.
 */
export async function unwrapDataKey(
  jwe: Record<string, Json>,
  keys: readonly OpeningKey[],
): Promise<Uint8Array> {
  const wrapped = recipientsOf(jwe)
  for (const { recipient, kid } of wrapped) {
    const key = keys.find(candidate => candidate.kid === kid)
    if (key === undefined) continue
    try {
      const { ciphertext, iv, tag, protected: header } = jwe
      // Only this recipient is tried, with the two algorithms we write: the sidecar is not signed.
      const single = { ciphertext, iv, tag, protected: header, recipients: [recipient] }
      const { plaintext } = await generalDecrypt(single as never, key.privateKey, {
        keyManagementAlgorithms: ['ECDH-ES+A256KW', 'RSA-OAEP-256'],
        contentEncryptionAlgorithms: ['A256GCM'],
      })
      if (plaintext.length === 32) return plaintext
    } catch {
      // Falls through: what jose says of the failure helps nobody.
    }
    throw new HoldfastError(
      'artifact.corrupted',
      `Opening a data key with key "${key.name}": it was wrapped for this key, but does not open; the sidecar is damaged.`,
    )
  }
  const names = wrapped.map(({ name, kid }) => `"${name}" (${kid})`).join(', ')
  throw new HoldfastError(
    'key.missing',
    `Opening a data key: it was wrapped for ${names || 'nobody'}; no key here is among them.`,
  )
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
