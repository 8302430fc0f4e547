/**
 * Key files that a passphrase locks. Who has the file alone encrypts for it, as with a public key; opening takes the
 * passphrase, too, which is kept nowhere. Layout in docs/formats/.
 */
import { randomBytes } from 'node:crypto'
import { CompactEncrypt, compactDecrypt } from 'jose'
import { HoldfastError } from '../model/errors.ts'
import { type LockedKeyFile, lockedKeyFileSchema } from '../model/manifest.ts'
import { type Jwk, newPair, type PrivateKey, publicPart, requireFree, writeNew } from './keys.ts'
import { argon2id, passphraseBytes } from './passphrase.ts'

/** In KiB. About a second on one core: nobody waits for it often, and guessing costs as much. */
const cost = { memoryKiB: 131_072, passes: 4, parallelism: 1 }
const keyBytes = 32

/** Makes `<directory>/<name>.json`; as `createKey`, but what is private is locked by `passphrase`. */
export async function createLockedKey(
  directory: string,
  name: string,
  installations: Record<string, Jwk>,
  passphrase: string,
): Promise<LockedKeyFile> {
  await requireFree(directory, name)
  const { kid, privateKey } = await newPair()
  const lock = { kdf: 'argon2id' as const, ...cost, salt: randomBytes(16).toString('base64url') }
  const lockedKey = await new CompactEncrypt(Buffer.from(JSON.stringify(privateKey)))
    .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', kid })
    .encrypt(await lockingKey(passphrase, lock))
  const key = lockedKeyFileSchema.parse({
    format: 'holdfast-locked-key/1',
    name,
    kid,
    createdAt: new Date().toISOString(),
    publicKey: publicPart(privateKey),
    lock,
    lockedKey,
    installations,
  })
  await writeNew(directory, `${name}.json`, key)
  return key
}

/** Throws `key.passphrase-wrong`; takes about a second either way. */
export async function openLockedKey(key: LockedKeyFile, passphrase: string): Promise<PrivateKey> {
  const wrong = () =>
    new HoldfastError('key.passphrase-wrong', `Opening key "${key.name}": this is not its passphrase.`)
  const secret = await lockingKey(passphrase, key.lock)
  let privateKey: Jwk
  try {
    const opened = await compactDecrypt(key.lockedKey, secret, {
      keyManagementAlgorithms: ['dir'],
      contentEncryptionAlgorithms: ['A256GCM'],
    })
    if (opened.protectedHeader.kid !== key.kid) throw wrong()
    privateKey = JSON.parse(Buffer.from(opened.plaintext).toString('utf8'))
  } catch {
    // Whether the passphrase is wrong or the file was changed cannot be told apart.
    throw wrong()
  }
  return { name: key.name, kid: key.kid, privateKey }
}

const lockingKey = (passphrase: string, lock: LockedKeyFile['lock']): Promise<Buffer> =>
  argon2id({
    message: passphraseBytes(passphrase),
    nonce: Buffer.from(lock.salt, 'base64url'),
    memory: lock.memoryKiB,
    passes: lock.passes,
    parallelism: lock.parallelism,
    tagLength: keyBytes,
  })
