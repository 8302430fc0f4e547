/**
 * Puts a log file into the archive: whole, once, and never over another one. Whoever pushes what is there already, in another
 * attempt or from another process, gets the same answer.
 */
import { HoldfastError, hasCode } from '../../model/errors.ts'
import { canonical } from '../../model/manifest.ts'
import type { ArchiverFile, WalStreamDocument } from '../../model/wal-format.ts'
import { walStreamSchema } from '../../model/wal-format.ts'
import type { Destination, PartInfo } from '../destination.ts'
import type { Jwk } from '../keys.ts'
import { maxSmallBytes } from '../limits.ts'
import { borne } from '../retry.ts'
import { putOnce } from '../settle.ts'
import { type LogFileBytes, sha256 } from './envelope.ts'
import { provenHeader } from './header.ts'
import { type LogStream, logFileKey, streamKey } from './layout.ts'
import { beginningOf } from './listing.ts'

const partBytes = 8 << 20

export interface PushOptions {
  /** Ed25519 public keys by the archiver's id: whose word is taken for what is there already. */
  trusted: Record<string, Jwk>
  /** How long a destination in trouble is borne. */
  patienceSeconds: number
  signal?: AbortSignal
}

/** Says that the archive of this server is here, before its first file is. Asked again it changes nothing. */
export async function beginStream(
  destination: Destination,
  stream: LogStream,
  { archiver }: Pick<ArchiverFile, 'archiver'>,
  { patienceSeconds, signal }: Omit<PushOptions, 'trusted'>,
): Promise<void> {
  const document: WalStreamDocument = {
    format: 'holdfast-wal-stream/1',
    engine: 'postgresql',
    connection: stream.connection,
    systemIdentifier: stream.systemIdentifier,
    archiver,
    createdAt: new Date().toISOString(),
  }
  const options = { lasting: true, ...(signal && { signal }) }
  const { body } = await borne(patienceSeconds, signal, () =>
    putOnce(destination, streamKey(stream), Buffer.from(canonical(document)), options),
  )
  requireStream(body, destination, stream)
}

/** Throws `wal.no-archive` unless the archive of this server is here: only then what is not found is not there. */
export async function expectStream(
  destination: Destination,
  stream: LogStream,
  { patienceSeconds, signal }: Omit<PushOptions, 'trusted'>,
): Promise<void> {
  const body = await borne(patienceSeconds, signal, () =>
    destination.read(streamKey(stream), signal && { signal }),
  )
  requireStream(body, destination, stream)
}

function requireStream(body: Uint8Array | undefined, { uri }: Destination, stream: LogStream): void {
  const place = `${uri}/${streamKey(stream)}`
  if (body === undefined) throw new HoldfastError('wal.no-archive', `There is no ${place}.`)
  try {
    const document = walStreamSchema.parse(JSON.parse(Buffer.from(body).toString('utf8')))
    if (document.connection !== stream.connection) throw new Error('other connection')
    if (document.systemIdentifier !== stream.systemIdentifier) throw new Error('other server')
  } catch (cause) {
    throw new HoldfastError('wal.no-archive', `${place} does not say that it is this server's.`, { cause })
  }
}

/**
 * `object`: the file in its envelope. On return it is durable there, or was before with the same content. Throws
 * `wal.different`, `wal.forged` or `wal.damaged` where something else has its name, and `destination.*`.
 */
export async function pushLogFile(
  destination: Destination,
  file: LogFileBytes,
  object: Buffer,
  options: PushOptions,
): Promise<'stored' | 'there-already'> {
  const key = logFileKey(file, file.name)
  const { patienceSeconds, signal } = options
  const small = object.length <= maxSmallBytes
  const call = signal && { signal }
  // Elsewhere the store does not decide it, or only after many parts were sent in vain.
  const decided = small && destination.capabilities.conditionalPut
  if (!decided) {
    if (await sameIsThere(destination, key, file, options)) return 'there-already'
  }
  try {
    await borne(patienceSeconds, signal, async () => {
      if (small) await destination.put(key, object, { ifAbsent: true, lasting: true, ...call })
      else await putByParts(destination, key, object, signal)
    })
  } catch (error) {
    if (!hasCode(error, 'destination.exists')) throw error
    if (await sameIsThere(destination, key, file, options)) return 'there-already'
    throw error
  }
  const there = await borne(patienceSeconds, signal, () => destination.stat(key, call))
  if (there?.bytes !== object.length) {
    throw new HoldfastError(
      'destination.corrupted',
      `Archiving ${file.name} at ${destination.uri}: ${there?.bytes ?? 0} of ${object.length} bytes are there after it was written.`,
    )
  }
  // Of two writers that were at it together one has won.
  if (!decided && !(await sameIsThere(destination, key, file, options))) {
    throw new HoldfastError(
      'destination.corrupted',
      `Archiving ${file.name}: it is gone after it was written.`,
    )
  }
  return 'stored'
}

async function putByParts(
  destination: Destination,
  key: string,
  object: Buffer,
  signal: AbortSignal | undefined,
): Promise<void> {
  const call = signal && { signal }
  const uploadId = await destination.openUpload(key, call)
  try {
    const parts: PartInfo[] = []
    for (let offset = 0; offset < object.length; offset += partBytes) {
      const body = object.subarray(offset, offset + partBytes)
      const part = { number: parts.length + 1, offset, body, sha256: sha256(body) }
      parts.push(await destination.putPart(key, uploadId, part, call))
    }
    await destination.completeUpload(key, uploadId, parts, call)
  } catch (error) {
    // What the store could not take back now, a sweep finds: uploads that nobody completes.
    await destination.abortUpload(key, uploadId).catch(() => undefined)
    throw error
  }
}

/** false: nothing is there. Throws unless what is there is this very content, whole. */
async function sameIsThere(
  destination: Destination,
  key: string,
  file: LogFileBytes,
  { trusted, patienceSeconds, signal }: PushOptions,
): Promise<boolean> {
  const call = signal && { signal }
  const there = await borne(patienceSeconds, signal, () => destination.stat(key, call))
  if (there === undefined) return false
  const beginning = await borne(patienceSeconds, signal, () => beginningOf(destination, there, { ...call }))
  const header = await provenHeader(beginning, trusted, file)
  const place = `${destination.uri}/${key}`
  if (there.bytes !== header.headerBytes + header.bodyBytes) {
    throw new HoldfastError(
      'wal.damaged',
      `Archiving ${file.name}: ${place} has ${there.bytes} bytes, its header says ${header.headerBytes + header.bodyBytes}.`,
    )
  }
  const ours = sha256(file.content)
  if (header.contentBytes === file.content.length && header.contentSha256 === ours) return true
  throw new HoldfastError(
    'wal.different',
    `Archiving ${file.name}: ${place} was archived by ${header.archiver} at ${header.archivedAt} with other content (SHA-256 ${header.contentSha256}, here ${ours}).`,
    { context: { archiver: header.archiver, archivedAt: header.archivedAt } },
  )
}
