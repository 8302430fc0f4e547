/** Segments as PostgreSQL's first page says them, filled with bytes of a seed; archives to put them in. */
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { readable } from '../../model/ids.ts'
import { segmentNumber } from '../../model/wal.ts'
import type { ArchiverFile } from '../../model/wal-format.ts'
import type { Jwk } from '../../storage/keys.ts'

export const systemIdentifier = '7431234567890123456'
export const mebibyte = 1 << 20

/** A whole segment of this name. `random`: of bytes that do not shrink. */
export function segmentOf(
  name: string,
  options: {
    seed?: string
    segmentBytes?: number
    random?: boolean
    server?: string
    timeline?: number
  } = {},
): Buffer {
  const segmentBytes = options.segmentBytes ?? mebibyte
  const bytes = options.random ? randomBytes(segmentBytes) : patterned(segmentBytes, options.seed ?? name)
  const start = (segmentNumber(name.slice(0, 24), segmentBytes) ?? 0n) * BigInt(segmentBytes)
  bytes.writeUInt16LE(0xd110, 0)
  bytes.writeUInt16LE(0x0002, 2)
  bytes.writeUInt32LE(options.timeline ?? Number.parseInt(name.slice(0, 8), 16), 4)
  bytes.writeBigUInt64LE(start, 8)
  bytes.writeUInt32LE(0, 16)
  bytes.writeBigUInt64LE(BigInt(options.server ?? systemIdentifier), 24)
  bytes.writeUInt32LE(segmentBytes, 32)
  bytes.writeUInt32LE(8192, 36)
  return bytes
}

function patterned(bytes: number, seed: string): Buffer {
  const piece = createHash('sha512').update(seed).digest()
  return Buffer.alloc(bytes, Buffer.concat([piece, Buffer.alloc(192)]))
}

export function newArchiver(): ArchiverFile {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  return {
    format: 'holdfast-archiver/1',
    archiver: readable(randomBytes(16)),
    createdAt: new Date().toISOString(),
    signingKey: privateKey.export({ format: 'jwk' }) as Jwk,
    publicKey: publicKey.export({ format: 'jwk' }) as Jwk,
  }
}

/** As much of a data directory as the client looks at. Returns the path of a file in its pg_wal. */
export async function dataDirectory(
  path: string,
  server = systemIdentifier,
): Promise<(name: string) => string> {
  await mkdir(join(path, 'pg_wal', 'archive_status'), { recursive: true })
  await mkdir(join(path, 'global'), { recursive: true })
  const control = Buffer.alloc(8192)
  control.writeBigUInt64LE(BigInt(server), 0)
  await writeFile(join(path, 'global', 'pg_control'), control)
  return name => join(path, 'pg_wal', name)
}

/** Writes it as PostgreSQL does, and says that it waits. */
export async function ready(path: string, bytes: Buffer): Promise<void> {
  await writeFile(path, bytes)
  await writeFile(join(dirname(path), 'archive_status', `${path.split('/').at(-1)}.ready`), '')
}

/** PostgreSQL was told that it is archived. */
export const done = (path: string): Promise<void> =>
  writeFile(join(dirname(path), 'archive_status', `${path.split('/').at(-1)}.done`), '')
