/**
 * Secrets at rest: AES-256-GCM under a key derived from HOLDFAST_SECRET_KEY, a random nonce each, and the place of the
 * value as associated data, so that a ciphertext that was moved to another row or field does not open.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { link, mkdir, open, readFile, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { HoldfastError } from '../model/errors.ts'
import type { Settings } from '../model/settings.ts'
import { isPostgresqlUrl } from './postgresql/address.ts'
import { catalogPath } from './sqlite.ts'

export interface SealedSecret {
  nonce: Uint8Array
  ciphertext: Uint8Array
}

export interface SecretBox {
  seal(owner: string, field: string, value: string): SealedSecret
  /** Throws `catalog.secret-key` when it does not open. */
  unseal(owner: string, field: string, sealed: SealedSecret): string
  /** Keyed hash of a request that may hold secrets: cannot be guessed from the catalog file alone. */
  fingerprint(text: string): string
}

const tagBytes = 16

/** `key` is what HOLDFAST_SECRET_KEY (or its file) holds. */
export function secretBox(key: string): SecretBox {
  const derive = (purpose: string) =>
    Buffer.from(hkdfSync('sha256', Buffer.from(key, 'utf8'), 'holdfast', purpose, 32))
  const sealing = derive('holdfast catalog secrets v1')
  const hashing = derive('holdfast catalog fingerprints v1')
  const place = (owner: string, field: string) =>
    Buffer.from(JSON.stringify(['secrets', owner, field]), 'utf8')
  return {
    seal(owner, field, value) {
      const nonce = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', sealing, nonce)
      cipher.setAAD(place(owner, field))
      const body = Buffer.concat([cipher.update(value, 'utf8'), cipher.final()])
      return { nonce, ciphertext: Buffer.concat([body, cipher.getAuthTag()]) }
    },
    unseal(owner, field, { nonce, ciphertext }) {
      try {
        const decipher = createDecipheriv('aes-256-gcm', sealing, nonce, { authTagLength: tagBytes })
        decipher.setAAD(place(owner, field))
        decipher.setAuthTag(ciphertext.subarray(-tagBytes))
        return Buffer.concat([decipher.update(ciphertext.subarray(0, -tagBytes)), decipher.final()]).toString(
          'utf8',
        )
      } catch (cause) {
        throw new HoldfastError(
          'catalog.secret-key',
          `The stored secret "${field}" of ${owner} does not open with this secret key.`,
          { cause },
        )
      }
    },
    fingerprint: text => createHmac('sha256', hashing).update(text, 'utf8').digest('hex'),
  }
}

/**
 * The secret key: from the setting, else from its file, else (first run only) a new file, 0600. `made` names the file
 * when it was made now, so that whoever starts Holdfast can say so. Refuses to make one beside a catalog that exists:
 * its secrets would never open again; and for one on a server, whose other processes need the same.
 */
export async function ensureSecretKey(
  settings: Pick<Settings, 'secretKey' | 'secretKeyFile' | 'catalogUrl'>,
): Promise<{ key: string; made: string | undefined }> {
  if (settings.secretKey !== undefined)
    return { key: usable(settings.secretKey, 'HOLDFAST_SECRET_KEY'), made: undefined }
  const path = settings.secretKeyFile
  const known = await readKey(path)
  if (known !== undefined) return { key: known, made: undefined }
  if (isPostgresqlUrl(settings.catalogUrl)) {
    throw new HoldfastError(
      'catalog.secret-key',
      `There is no secret key: HOLDFAST_SECRET_KEY is not set and ${path} does not exist. For a catalog on PostgreSQL none is made, as every API process needs the same one.`,
      {
        hint: `Make one for the first API process (head -c 32 /dev/urandom | base64 > ${path}; chmod 600), and copy it to the others.`,
      },
    )
  }
  const catalog = catalogPath(settings.catalogUrl)
  if (existsSync(catalog) && (await stat(catalog)).size > 0) {
    throw new HoldfastError(
      'catalog.secret-key',
      `The secret key file ${path} is missing, but the catalog ${catalog} exists and its secrets need it.`,
    )
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const key = randomBytes(32).toString('base64url')
  const beside = `${path}.${randomBytes(6).toString('hex')}`
  const file = await open(beside, 'wx', 0o600)
  try {
    await file.writeFile(`${key}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  try {
    // link() does not overwrite: of two processes that start at once, one makes the key and both use it.
    await link(beside, path)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    const winner = await readKey(path)
    if (winner !== undefined) return { key: winner, made: undefined }
    throw error
  } finally {
    await unlink(beside)
  }
  await syncDirectory(dirname(path))
  return { key, made: path }
}

async function readKey(path: string): Promise<string | undefined> {
  try {
    return usable(await readFile(path, 'utf8'), path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

function usable(text: string, from: string): string {
  const key = text.trim()
  if (key.length < 16) {
    throw new HoldfastError('settings.invalid', `The secret key in ${from} is shorter than 16 characters.`)
  }
  return key
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
