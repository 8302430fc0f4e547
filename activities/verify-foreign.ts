/** The levels of a verification for a backup that nobody signed: what it is held to is its first reading. */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { claimOf } from '../engines/index.ts'
import { fileError } from '../hosts/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { ForeignFile } from '../model/foreign.ts'
import { letGo } from '../model/let-go.ts'
import type { VerifyInput } from '../model/records.ts'
import type { Destination } from '../storage/destination.ts'
import { storedBytes } from '../storage/stored-bytes.ts'
import { cleanHost } from './cleanup.ts'
import type { WorkerContext } from './context.ts'
import { expectUnchanged } from './foreign.ts'
import type { PausableTurn } from './pausing.ts'
import { readWhole } from './reading.ts'
import { beginningOf, firstOf, unwrapped, wrappingOf } from './wrapping.ts'

/** One of the levels of a verification; returns what was found, in words. */
export async function lookAtForeign(
  context: WorkerContext,
  turn: PausableTurn,
  { backupId, level, operationId }: Pick<VerifyInput, 'backupId' | 'level' | 'operationId'>,
  name: string,
): Promise<string> {
  const destination = await context.destination(name)
  const file = await context.catalog.foreign(backupId)
  await expectUnchanged(destination, file)
  if (level === 'exists')
    return `${file.key} there, ${file.bytes} bytes, as it was catalogued; nobody signed it`
  const signal = AbortSignal.any([turn.signal, turn.pausing])
  const progress = (bytes: number) => turn.progress({ bytes, totalBytes: file.bytes })
  if (level === 'checksum') {
    const sha256 = await readThrough(destination, file, signal, progress)
    await expectUnchanged(destination, file)
    await context.catalog.recordForeignReading(backupId, { sha256 })
    return hashWords(file, sha256)
  }
  await cleanHost(context, operationId)
  try {
    return await readDeep(context, { backupId, operationId, destination, file, signal, progress })
  } finally {
    await cleanHost(context, operationId)
  }
}

const hashWords = (file: ForeignFile, sha256: string): string =>
  file.sha256 === null
    ? `${file.bytes} bytes read for the first time, SHA-256 ${sha256}; nobody signed it`
    : `${file.bytes} bytes read again, their hash is that of the first reading; nobody signed it`

/** SHA-256 of the stored bytes. Throws `artifact.corrupted` when it is known to be another one. */
async function readThrough(
  destination: Destination,
  file: ForeignFile,
  signal: AbortSignal,
  onProgress: (bytes: number) => void,
  keep: (chunk: Buffer) => Promise<void> = async chunk => letGo(chunk),
): Promise<string> {
  const hash = createHash('sha256')
  const entry = { name: file.key, storedBytes: file.bytes, storedSha256: file.sha256 ?? '', encryption: null }
  for await (const chunk of storedBytes({ destination, key: file.key, entry, signal, onProgress })) {
    hash.update(chunk)
    await keep(chunk)
  }
  const sha256 = hash.digest('hex')
  if (file.sha256 === null || sha256 === file.sha256) return sha256
  throw new HoldfastError(
    'artifact.corrupted',
    `Reading ${file.key}: its SHA-256 is ${sha256}; when it was first read it was ${file.sha256}.`,
  )
}

interface DeepReading {
  backupId: string
  operationId: string
  destination: Destination
  file: ForeignFile
  signal: AbortSignal
  progress: (bytes: number) => void
}

/** By a path: programs that unpack, and the tools of the engines, want a file. From stores it is fetched into staging first. */
async function readDeep(context: WorkerContext, reading: DeepReading): Promise<string> {
  const { backupId, operationId, destination, file, signal, progress } = reading
  const { host } = context
  const isHere = destination.kind === 'local'
  const path = isHere
    ? `${fileURLToPath(destination.uri).replace(/\/$/, '')}/${file.key}`
    : `${host.stagingDir(operationId)}/foreign`
  await host.files.ensureDirectory(host.stagingDir(operationId))
  const sha256 = isHere
    ? await readThrough(destination, file, signal, progress)
    : await fetchInto(path, keep => readThrough(destination, file, signal, progress, keep))
  const opening = { host, operation: operationId, signal }
  const head = await beginningOf(path)
  const wrapping = wrappingOf(head)
  const begins = wrapping === undefined ? head : await firstOf(unwrapped(path, wrapping, opening))
  const claim = claimOf(begins)
  if (!claim) {
    await context.catalog.recordForeignReading(backupId, { sha256, wrapping: wrapping ?? null })
    throw new HoldfastError(
      'artifact.unknown-format',
      `Reading ${file.key}: its bytes were read and hashed, but it is of no format that Holdfast knows.`,
    )
  }
  let contentBytes = 0
  const counted = async function* () {
    for await (const chunk of unwrapped(path, wrapping, opening)) {
      contentBytes += chunk.length
      yield chunk
    }
  }
  const words = await readWhole(claim.reader, counted(), {
    ...opening,
    ...(wrapping === undefined ? { file: path } : {}),
  })
  // Of what was read under this name the hash is told only if it was one file all the time.
  await expectUnchanged(destination, file)
  await context.catalog.recordForeignReading(backupId, {
    sha256,
    contentBytes,
    engine: claim.engine.name,
    format: claim.reader.format,
    wrapping: wrapping ?? null,
    facts: claim.reader.facts?.(begins) ?? {},
  })
  return [hashWords(file, sha256), words].join('; ')
}

async function fetchInto(
  path: string,
  read: (keep: (chunk: Buffer) => Promise<void>) => Promise<string>,
): Promise<string> {
  const handle = await open(path, 'w', 0o600)
  try {
    return await read(async chunk => {
      for (let at = 0; at < chunk.length; ) at += (await handle.write(chunk, at)).bytesWritten
      letGo(chunk)
    })
  } catch (error) {
    throw fileError('Fetching into', path, error)
  } finally {
    await handle.close()
  }
}
