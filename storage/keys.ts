/**
 * Keys: files that open backups, public keys that backups are encrypted for, and the keys of an installation itself.
 * Layouts in docs/formats/. A private key is in the clear only in `<name>.json`, mode 0600, and not there where a passphrase
 * locks it (locked-keys.ts).
 */
import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { link, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { calculateJwkThumbprint } from 'jose'
import { z } from 'zod'
import { HoldfastError } from '../model/errors.ts'
import { readable, slugPattern } from '../model/ids.ts'
import {
  type KeyFile,
  type KmsKey,
  type KmsKeyFile,
  keyFileSchema,
  kmsKeyFileSchema,
  type LockedKeyFile,
  lockedKeyFileSchema,
  type RecipientFile,
  recipientFileSchema,
} from '../model/manifest.ts'

/** A JSON Web Key; which members are private depends on its kind. */
export type Jwk = Record<string, string>

/** A public key that data keys are wrapped for, or one at a key management service. */
export type Recipient = { name: string; kid: string } & (
  | Pick<RecipientFile, 'algorithm' | 'publicKey'>
  | { algorithm: 'A256KW'; kms: KmsKey }
)
/** A private key that opens what was wrapped for it. */
export type PrivateKey = Pick<KeyFile, 'name' | 'kid' | 'privateKey'>
/** What opens what was wrapped for it. */
export type OpeningKey = PrivateKey | Pick<KmsKeyFile, 'name' | 'kid' | 'kms'>

/** However it opens, it does so here: by itself, with a passphrase, or through a service. */
export type AnyKeyFile = KeyFile | LockedKeyFile | KmsKeyFile

/** Key files of a ring, whether or not a passphrase locks them: whoever has it opens them in a moment. */
export const keyFilesOf = (ring: Keyring): AnyKeyFile[] => [...ring.keys, ...ring.locked, ...ring.kms]

export interface Keyring {
  /** Key files: they open and they encrypt. */
  keys: KeyFile[]
  /** Key files that a passphrase locks: they encrypt, and open with it. */
  locked: LockedKeyFile[]
  /** Of key management services: they encrypt and open, and hold no secret. */
  kms: KmsKeyFile[]
  /** Public keys only: they encrypt. */
  recipients: RecipientFile[]
}

/** Kept by the catalog, encrypted: what this installation signs manifests and resumes its own uploads with. */
export interface InstallationKeys {
  installationId: string
  /** Ed25519. */
  signingKey: Jwk
  publicKey: Jwk
  /** EC P-256. */
  wrapping: PrivateKey
}

export async function createInstallation(): Promise<InstallationKeys> {
  const installationId = readable(randomBytes(16))
  const signing = generateKeyPairSync('ed25519')
  return {
    installationId,
    signingKey: asJwk(signing.privateKey.export({ format: 'jwk' })),
    publicKey: asJwk(signing.publicKey.export({ format: 'jwk' })),
    wrapping: { name: `installation ${installationId}`, ...(await newPair()) },
  }
}

/** What data keys are wrapped for, so that `key` opens them. */
export const recipientOf = (key: OpeningKey | LockedKeyFile): Recipient => ({
  name: key.name,
  kid: key.kid,
  ...('kms' in key
    ? { algorithm: 'A256KW', kms: key.kms }
    : {
        algorithm: 'ECDH-ES+A256KW',
        publicKey: 'publicKey' in key ? key.publicKey : publicPart(key.privateKey),
      }),
})

/**
 * Makes `<directory>/<name>.json`. `installations` are those whose manifests the key's owner trusts (Ed25519 public keys by
 * id). Throws `request.exists` when a key of that name is there: key files are never written over.
 */
export async function createKey(
  directory: string,
  name: string,
  installations: Record<string, Jwk>,
): Promise<KeyFile> {
  await requireFree(directory, name)
  const key: KeyFile = {
    format: 'holdfast-key/1',
    name,
    ...(await newPair()),
    createdAt: new Date().toISOString(),
    installations,
  }
  await writeNew(directory, `${name}.json`, key)
  return key
}

/** Makes `<directory>/<name>.pub.json` from PEM (public key or certificate) or JWK text. Throws `key.invalid`. */
export async function importPublicKey(directory: string, name: string, text: string): Promise<RecipientFile> {
  await requireFree(directory, name)
  const { publicKey, algorithm } = publicKeyFrom(text, `Importing public key "${name}"`)
  const recipient: RecipientFile = {
    format: 'holdfast-recipient/1',
    name,
    kid: await thumbprint(publicKey),
    algorithm,
    createdAt: new Date().toISOString(),
    publicKey,
  }
  await writeNew(directory, `${name}.pub.json`, recipient)
  return recipient
}

/** Adds an installation to those whose manifests the key's owner trusts. Replaces the file whole. */
export async function trustInstallation(
  directory: string,
  name: string,
  installationId: string,
  publicKey: Jwk,
): Promise<AnyKeyFile> {
  const key = await loadAnyKeyFile(join(directory, `${name}.json`))
  const trusting = { ...key, installations: { ...key.installations, [installationId]: publicKey } }
  await placeKeyFile(directory, `${name}.json`, trusting)
  return trusting
}

/**
 * Every key of the directory, by name; none when it does not exist. A key goes by the name of its file: one that was brought
 * from elsewhere may have to take another name than it was made with. Throws `key.invalid` naming the file.
 */
export async function loadKeyring(directory: string): Promise<Keyring> {
  const ring: Keyring = { keys: [], locked: [], kms: [], recipients: [] }
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  for (const file of names.sort()) {
    if (file.startsWith('.') || !file.endsWith('.json')) continue
    const path = join(directory, file)
    const name = file.replace(/(\.pub)?\.json$/, '')
    if (!slugPattern.test(name)) {
      throw unusable(path, 'its name must be 1 to 63 lower-case letters, digits and dashes, before .json')
    }
    if (file.endsWith('.pub.json')) {
      ring.recipients.push({ ...(await loadRecipientFile(path)), name })
      continue
    }
    const key = await loadAnyKeyFile(path)
    if (isLocked(key)) ring.locked.push({ ...key, name })
    else if (isKms(key)) ring.kms.push({ ...key, name })
    else ring.keys.push({ ...key, name })
  }
  return ring
}

/** Of one that no passphrase locks; else as `loadAnyKeyFile`. */
export async function loadKeyFile(path: string): Promise<KeyFile> {
  const key = await loadAnyKeyFile(path)
  if (isLocked(key)) throw unusable(path, 'a passphrase locks it')
  if (isKms(key)) throw unusable(path, `its key is at ${key.kms.service}`)
  return key
}

/** Throws `key.missing` when there is no such file, `key.invalid` when it is not a key file. */
export async function loadAnyKeyFile(path: string): Promise<AnyKeyFile> {
  const schemas = [keyFileSchema, lockedKeyFileSchema, kmsKeyFileSchema] as const
  const key = await load(path, z.discriminatedUnion('format', schemas))
  if (isKms(key)) {
    if (key.kid !== kidOfKms(key.kms)) throw unusable(path, 'its kid does not name its key')
    return key
  }
  const { kty, crv, d } = isLocked(key) ? { ...key.publicKey, d: '' } : key.privateKey
  if (kty !== 'EC' || crv !== 'P-256' || d === undefined)
    throw unusable(path, 'it holds no EC P-256 private key')
  await requireKid(path, key.kid, isLocked(key) ? publicPart(key.publicKey) : publicPart(key.privateKey))
  return key
}

export const isLocked = (key: AnyKeyFile): key is LockedKeyFile => 'lockedKey' in key
export const isKms = (key: AnyKeyFile): key is KmsKeyFile => 'kms' in key

export const kidOfKms = ({ service, key }: KmsKey): string => `${service}:${key}`

/** Makes `<directory>/<name>.json` for a key of a key management service; as `createKey`. Asks nobody. */
export async function createKmsKey(
  directory: string,
  name: string,
  installations: Record<string, Jwk>,
  kms: KmsKey,
): Promise<KmsKeyFile> {
  await requireFree(directory, name)
  const key: KmsKeyFile = {
    format: 'holdfast-kms-key/1',
    name,
    kid: kidOfKms(kms),
    createdAt: new Date().toISOString(),
    kms,
    installations,
  }
  await writeNew(directory, `${name}.json`, key)
  return key
}

export async function loadRecipientFile(path: string): Promise<RecipientFile> {
  const recipient = await load(path, recipientFileSchema)
  const { publicKey, algorithm } = publicKeyFrom(JSON.stringify(recipient.publicKey), `Reading ${path}`)
  if (algorithm !== recipient.algorithm) throw unusable(path, `its key does not fit ${recipient.algorithm}`)
  await requireKid(path, recipient.kid, publicKey)
  return recipient
}

async function load<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw unusable(path, 'it cannot be read', cause)
    throw new HoldfastError('key.missing', `Reading key file ${path}: there is no such file.`, { cause })
  }
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    // The parser's message may quote the file: it is left out.
    throw unusable(path, 'it is not JSON')
  }
  const parsed = schema.safeParse(document)
  if (parsed.success) return parsed.data
  const where = parsed.error.issues[0]?.path.join('.') || 'the document'
  throw unusable(path, `${where} is not as a key file of this version has it`)
}

const unusable = (path: string, why: string, cause?: unknown): HoldfastError =>
  new HoldfastError('key.invalid', `Reading key file ${path}: ${why}.`, { cause })

async function requireKid(path: string, kid: string, publicKey: Jwk): Promise<void> {
  if ((await thumbprint(publicKey)) !== kid) throw unusable(path, 'its kid is not the thumbprint of its key')
}

function publicKeyFrom(
  text: string,
  what: string,
): { publicKey: Jwk; algorithm: RecipientFile['algorithm'] } {
  const refuse = (why: string) => new HoldfastError('key.invalid', `${what}: ${why}.`)
  const isPem = text.trimStart().startsWith('-----BEGIN')
  if (isPem && text.includes('PRIVATE KEY-----')) {
    throw refuse('this is a private key; give the public key, the private one stays with its owner')
  }
  let publicKey: Jwk
  let rsaBits: number | undefined
  try {
    const jwk = isPem ? undefined : (JSON.parse(text) as Jwk)
    if (jwk !== undefined && 'd' in jwk) throw refuse('this is a private key; give its public part')
    const key = jwk === undefined ? createPublicKey(text) : createPublicKey({ key: jwk, format: 'jwk' })
    publicKey = asJwk(key.export({ format: 'jwk' }))
    rsaBits = key.asymmetricKeyDetails?.modulusLength
  } catch (error) {
    throw error instanceof HoldfastError ? error : refuse('it is neither a PEM nor a JWK public key')
  }
  const kind = `${publicKey.kty} ${publicKey.crv ?? ''}`.trim()
  if (['EC P-256', 'EC P-384', 'OKP X25519'].includes(kind)) return { publicKey, algorithm: 'ECDH-ES+A256KW' }
  if (kind !== 'RSA')
    throw refuse(`a key of kind ${kind} cannot be encrypted for; use EC P-256, P-384, X25519 or RSA`)
  if (rsaBits === undefined || rsaBits < 2048)
    throw refuse(`RSA of ${rsaBits} bits is too short; use 2048 or more`)
  return { publicKey, algorithm: 'RSA-OAEP-256' }
}

export async function newPair(): Promise<{ kid: string; privateKey: Jwk }> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = asJwk(privateKey.export({ format: 'jwk' }))
  return { kid: await thumbprint(publicPart(jwk)), privateKey: jwk }
}

/** What a key is told by: RFC 7638, SHA-256, base64url. Rejects what is no key. */
export const thumbprint = (publicKey: Jwk): Promise<string> => calculateJwkThumbprint(publicKey, 'sha256')

export const publicPart = ({ kty, crv, x, y }: Jwk): Jwk => asJwk({ kty, crv, x, y })

const asJwk = (members: object): Jwk =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => typeof value === 'string')) as Jwk

export async function requireFree(directory: string, name: string): Promise<void> {
  if (!slugPattern.test(name)) {
    throw new HoldfastError(
      'request.invalid',
      `Naming a key "${name.slice(0, 80)}": use 1 to 63 lower-case letters, digits and dashes.`,
    )
  }
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const taken = (await readdir(directory)).find(
    file => file === `${name}.json` || file === `${name}.pub.json`,
  )
  if (taken !== undefined)
    throw new HoldfastError('request.exists', `Making key "${name}": ${taken} is there already.`)
}

/** Whole or not at all, and never over another file. */
export async function writeNew(directory: string, file: string, document: object): Promise<void> {
  const temporary = await writeTemporary(directory, document)
  try {
    await link(temporary, join(directory, file))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause
    throw new HoldfastError('request.exists', `Making key file ${file}: it is there already.`, { cause })
  } finally {
    await rm(temporary, { force: true })
  }
  await syncDirectory(directory)
}

/** Puts a key's document there, whole or not at all; over the one that is there. */
export async function placeKeyFile(
  directory: string,
  file: string,
  document: AnyKeyFile | RecipientFile,
): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await rename(await writeTemporary(directory, document), join(directory, file))
  await syncDirectory(directory)
}

/** Only for one that nobody was told of yet. */
export async function removeKeyFile(directory: string, file: string): Promise<void> {
  await rm(join(directory, file), { force: true })
  await syncDirectory(directory)
}

async function writeTemporary(directory: string, document: object): Promise<string> {
  const path = join(directory, `.new-${randomBytes(8).toString('hex')}`)
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(`${JSON.stringify(document, null, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  return path
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
