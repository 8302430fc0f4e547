/**
 * An archived log file, from PostgreSQL's bytes to the object and back: `bytes → zstd frame → (Tink segments) → header line and
 * body`. Files are small enough to be held whole: a segment has 16 MiB.
 */
import { createHash, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { constants, zstdCompress, zstdDecompress } from 'node:zlib'
import { HoldfastError } from '../../model/errors.ts'
import { readable } from '../../model/ids.ts'
import { letGo, letGoWhole } from '../../model/let-go.ts'
import type { Json } from '../../model/types.ts'
import { branchesIn, formatLsn, logFileOf } from '../../model/wal.ts'
import type { WalHeader } from '../../model/wal-format.ts'
import type { Jwk, Recipient } from '../keys.ts'
import { createOpener, createSealer } from '../tink.ts'
import { wrapDataKey } from '../wrap.ts'
import { headerLine, type LogSigner, provenHeader } from './header.ts'
import type { LogStream } from './layout.ts'

const compress = promisify(zstdCompress)
const decompress = promisify(zstdDecompress)
/** What the server writes shrinks as much at level 3, in twice the time. */
const level = 1
/**
 * Of what Node gives the library room for at once. Its own 16 KiB are a thousand turns of the event loop for a segment, and take more
 * time than the work. Only what is written to of it is ever taken from the machine.
 */
const inOnePiece = (contentBytes: number): number => contentBytes + (64 << 10)
const scheme = 'tink-AES256_GCM_HKDF_1MB'

/** One data key seals many files: each has a salt of its own, which Tink derives the file's key with. */
export interface SealingKey {
  keyId: string
  dataKey: Uint8Array
  jwe: Record<string, Json>
}

/** Asks the key management services of recipients that have one. */
export async function newSealingKey(recipients: readonly Recipient[]): Promise<SealingKey> {
  const dataKey = randomBytes(32)
  return { keyId: readable(randomBytes(12)), dataKey, jwe: await wrapDataKey(dataKey, recipients) }
}

export interface LogFileBytes extends LogStream {
  name: string
  content: Buffer
}

export function sha256(...pieces: Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const piece of pieces) hash.update(piece)
  return hash.digest('hex')
}

/** `key` null: not encrypted. */
export async function enveloped(
  { connection, systemIdentifier, name, content }: LogFileBytes,
  signer: LogSigner,
  key: SealingKey | null,
): Promise<Buffer> {
  const frame = await compress(content, {
    chunkSize: inOnePiece(content.length),
    pledgedSrcSize: content.length,
    params: { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 },
  })
  const associatedData = ['holdfast-wal/1', connection, systemIdentifier, name].join('\n')
  const body = key === null ? [frame] : sealed(frame, key.dataKey, associatedData)
  const line = await headerLine(
    {
      format: 'holdfast-wal/1',
      connection,
      systemIdentifier,
      name,
      contentBytes: content.length,
      contentSha256: sha256(content),
      ...branchesOf(name, content),
      compression: { codec: 'zstd', level, encoder: `node ${process.versions.zstd}` },
      encryption: key && { scheme, keyId: key.keyId, jwe: key.jwe, associatedData },
      bodyBytes: body.reduce((bytes, piece) => bytes + piece.length, 0),
      bodySha256: sha256(...body),
      archiver: signer.archiver,
      archivedAt: new Date().toISOString(),
    },
    signer,
  )
  const object = Buffer.concat([line, ...body])
  letGoWhole(frame)
  body.forEach(letGo)
  return object
}

function branchesOf(name: string, content: Buffer): Pick<WalHeader, 'branches'> {
  if (logFileOf(name)?.kind !== 'history') return {}
  const branches = branchesIn(content.toString('utf8')) ?? []
  return { branches: branches.map(({ parent, at }) => ({ timeline: parent, leftAt: formatLsn(at) })) }
}

function sealed(frame: Buffer, dataKey: Uint8Array, associatedData: string): Buffer[] {
  const secrets = { dataKey, salt: randomBytes(32), noncePrefix: randomBytes(7), associatedData }
  const sealer = createSealer(secrets)
  return [sealer.header, ...sealer.update(frame), ...sealer.final()]
}

export interface LogReader {
  /** Ed25519 public keys by the archiver's id. */
  trusted: Record<string, Jwk>
  /** Throws `key.*`. */
  dataKey(keyId: string, jwe: Record<string, Json>): Promise<Uint8Array>
}

/** PostgreSQL's bytes, proven. Throws `wal.damaged`, `wal.forged`, `key.*`. */
export async function contentOf(
  object: Buffer,
  expected: LogStream & { name: string },
  reader: LogReader,
): Promise<Buffer> {
  const damaged = (why: string, cause?: unknown) =>
    new HoldfastError(
      'wal.damaged',
      `Reading ${expected.name} from the archive of ${expected.connection}: ${why}.`,
      { cause },
    )
  const header = await provenHeader(object, reader.trusted, expected)
  const body = object.subarray(header.headerBytes)
  if (body.length !== header.bodyBytes) {
    throw damaged(`${body.length} bytes follow its header, which says ${header.bodyBytes}`)
  }
  if (sha256(body) !== header.bodySha256) throw damaged('what follows its header has another SHA-256')
  let frame = body
  if (header.encryption !== null) {
    const { keyId, jwe, associatedData } = header.encryption
    const opener = createOpener(await reader.dataKey(keyId, jwe), associatedData, expected.name)
    try {
      const pieces = [...opener.update(body), ...opener.final()]
      frame = Buffer.concat(pieces)
      pieces.forEach(letGo)
    } catch (cause) {
      throw damaged('its segments do not open with its key', cause)
    }
  }
  const { contentBytes } = header
  const content = await decompress(frame, {
    chunkSize: inOnePiece(contentBytes),
    maxOutputLength: Math.max(1, contentBytes),
  }).catch(cause => {
    throw damaged('it cannot be decompressed', cause)
  })
  if (frame !== body) letGo(frame)
  if (content.length !== contentBytes || sha256(content) !== header.contentSha256) {
    throw damaged('it unpacks to other bytes than were archived')
  }
  return content
}
