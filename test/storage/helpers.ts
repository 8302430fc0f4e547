/** What the storage tests share: a real local destination, artifacts written and read whole, errors by their code. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import {
  type CompressionRequest,
  codecOf,
  compressionSuffix,
  wholeCompression,
} from '../../model/compression.ts'
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'
import { type ArtifactEntry, associatedDataFor, type Manifest } from '../../model/manifest.ts'
import { backupPrefix } from '../../storage/backups.ts'
import type { Destination } from '../../storage/destination.ts'
import { openLocalDestination } from '../../storage/local/index.ts'
import { openArtifact } from '../../storage/reader.ts'
import type { SealSecrets } from '../../storage/tink.ts'
import { type WriteOptions, type WrittenArtifact, writeArtifact } from '../../storage/writer.ts'

export const mebibyte = 1 << 20

/** A directory and a local destination in it; both are gone after `act`. */
export async function inDestination(
  act: (destination: Destination, directory: string) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-storage-'))
  const destination = openLocalDestination(pathToFileURL(directory).href)
  try {
    await act(destination, directory)
  } finally {
    await destination.close()
    await rm(directory, { recursive: true, force: true })
  }
}

/** Resolves to the error; fails unless it is a HoldfastError with this code. */
export async function failing(code: ErrorCode, act: Promise<unknown>): Promise<HoldfastError> {
  const error = await act.then(
    () => assert.fail(`expected ${code}, but it succeeded`),
    thrown => thrown,
  )
  if (!(error instanceof HoldfastError)) throw error
  assert.equal(error.code, code, error.message)
  return error
}

export const secretsFor = (associatedData: string): SealSecrets => ({
  dataKey: randomBytes(32),
  salt: randomBytes(32),
  noncePrefix: randomBytes(7),
  associatedData,
})

/** Bytes that compress about 2:1, the same for the same seed. */
export function toolBytes(bytes: number, seed = 1): Buffer {
  const out = Buffer.alloc(bytes)
  let state = seed >>> 0 || 1
  for (let at = 0; at < bytes; at += 1) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    out[at] = 48 + ((state >>> 7) & 15)
  }
  return out
}

/** What the native compressor of a host's pipe makes of these bytes. */
export function pzstd(bytes: Uint8Array, level = 3): Readable {
  const child = spawn('pzstd', ['-q', `-${level}`, '-p', '2', '-c'], { stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.on('error', () => {})
  child.stdin.end(bytes)
  // Not the child's own stream: Node throws away what nobody has begun to read when the child ends.
  return child.stdout.pipe(new PassThrough())
}

/** The source in chunks of odd sizes, as pipes give them. */
export function chunked(bytes: Buffer, chunkBytes = 65_521): Readable {
  return Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes)
    })(),
    { objectMode: false },
  )
}

export interface Stored {
  key: string
  entry: ArtifactEntry
  secrets: SealSecrets | null
  written: WrittenArtifact
}

export const backupId = '20261121T031400Z-full-abcdef'

/** Writes one whole artifact as the upload activity does. */
export async function store(
  destination: Destination,
  name: string,
  source: Readable,
  options: Partial<Pick<WriteOptions, 'framing' | 'partBytes' | 'parallelParts'>> & {
    level?: number
    compression?: CompressionRequest
    plain?: boolean
    attemptId?: string
  } = {},
): Promise<Stored> {
  const { plain = false, framing = 'raw', level, attemptId = 'attempt1', ...rest } = options
  const compression = wholeCompression({ ...(level ? { level } : {}), ...options.compression })
  const { method, longWindow } = compression
  const codec = codecOf(method)
  const associatedData = associatedDataFor('installation1', backupId, name)
  const secrets = plain ? null : secretsFor(associatedData)
  const object = `${attemptId}/${name}${compressionSuffix[codec]}${plain ? '' : '.tink'}`
  const key = `${backupPrefix('shop', backupId)}${object}`
  const uploadId = await destination.openUpload(key)
  const written = await writeArtifact({
    destination,
    key,
    uploadId,
    source,
    ...rest,
    framing,
    compression,
    seal: secrets,
  })
  await destination.completeUpload(key, uploadId, written.parts)
  const entry: ArtifactEntry = {
    name,
    object,
    format: 'test',
    storedBytes: written.storedBytes,
    storedSha256: written.storedSha256,
    toolBytes: written.toolBytes,
    compressedBytes: written.compressedBytes,
    compression: {
      codec,
      level: compression.level,
      encoder: framing,
      frameBytes: written.frameBytes,
      frames: written.frames,
      ...(longWindow === null ? {} : { longWindow }),
      ...(method === 'auto' ? { storedFrames: written.storedFrames } : {}),
    },
    encryption: plain
      ? null
      : { scheme: 'tink-AES256_GCM_HKDF_1MB', keySidecar: `${attemptId}/keys-1.json`, associatedData },
  }
  return { key, entry, secrets, written }
}

export async function collect(stream: Readable): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of stream) pieces.push(piece)
  return Buffer.concat(pieces)
}

/** The compressed bytes of a stored artifact, proven to the end. */
export const open = (destination: Destination, { key, entry, secrets }: Stored): Promise<Buffer> =>
  collect(openArtifact({ destination, key, entry, dataKey: secrets?.dataKey ?? null }))

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

export function manifestOf(artifacts: ArtifactEntry[], changes: Partial<Manifest> = {}): Manifest {
  return {
    format: 'holdfast-manifest/1',
    backupId,
    installationId: 'installation1',
    epoch: 1,
    attemptId: artifacts[0]?.object.split('/')[0] ?? 'attempt1',
    connection: 'shop',
    engine: 'sqlite',
    method: 'logical',
    toolFormat: 'dump',
    type: 'full',
    consistency: 'snapshot',
    server: { identity: 'sqlite:test', version: '3.40.1', database: '/srv/shop.db' },
    facts: { pageSize: 4096, encoding: 'UTF-8' },
    tools: [{ name: 'sqlite3', version: '3.40.1' }],
    commands: ['sqlite3 -safe shop.db .dump'],
    artifacts,
    parent: null,
    startedAt: '2026-11-21T03:14:00Z',
    endedAt: '2026-11-21T03:14:02Z',
    labels: {},
    ...changes,
  }
}
