/** What is in a log archive, by the names of its objects and the first lines of a few. */
import { HoldfastError } from '../../model/errors.ts'
import type { ArchivedLog, SegmentRun } from '../../model/recovery-window.ts'
import { isSegmentSize, logFileOf, parseLsn, segmentNumber, usualSegmentBytes } from '../../model/wal.ts'
import type { WalHeader } from '../../model/wal-format.ts'
import type { CallOptions, Destination, ObjectStat } from '../destination.ts'
import { maxHeaderBytes, saidHeader } from './header.ts'
import { type LogStream, logFileKey, streamPrefix } from './layout.ts'

export interface ListedLog extends ArchivedLog {
  /** Of its files, as PostgreSQL calls them. */
  names: ReadonlySet<string>
  segments: number
  storedBytes: number
  /** The newest segment by the time that the store has of it; its archiver's word for when it was read. */
  newest: { name: string; archivedAt: string } | undefined
}

/**
 * Reads no bodies and checks no signatures: it says what a recovery would ask for and get. Throws `wal.damaged` where the first line of a
 * file that it needs cannot be read, and `destination.*`. A large archive takes a while: a thousand names per request.
 */
export async function listLog(
  destination: Destination,
  stream: LogStream,
  options: CallOptions = {},
): Promise<ListedLog> {
  const names = new Set<string>()
  const segments: string[] = []
  const histories: { timeline: number; object: ObjectStat }[] = []
  let newest: (ObjectStat & { name: string }) | undefined
  let storedBytes = 0
  for await (const object of destination.list(streamPrefix(stream), options)) {
    const name = /([^/]+)\.wal$/.exec(object.key)?.[1] ?? ''
    const file = logFileOf(name)
    if (file === undefined) continue
    names.add(name)
    storedBytes += object.bytes
    if (file.kind === 'history') histories.push({ timeline: file.timeline, object })
    if (file.kind !== 'segment') continue
    segments.push(name)
    if (newest === undefined || object.modifiedAt >= newest.modifiedAt) newest = { ...object, name }
  }
  const header = newest && (await headerOf(destination, newest, options))
  const segmentBytes = header?.contentBytes ?? usualSegmentBytes
  if (!isSegmentSize(segmentBytes)) {
    throw new HoldfastError('wal.damaged', `${newest?.key} says that its segment has ${segmentBytes} bytes.`)
  }
  return {
    segmentBytes,
    runs: runsOf(segments, segmentBytes),
    histories: await Promise.all(
      histories.map(async ({ timeline, object }) => {
        const said = (await headerOf(destination, object, options)).branches ?? []
        const branches = said.map(one => ({ parent: one.timeline, at: parseLsn(one.leftAt) ?? 0n }))
        return { timeline, branches }
      }),
    ),
    names,
    segments: segments.length,
    storedBytes,
    newest: newest && header && { name: newest.name, archivedAt: header.archivedAt },
  }
}

/** When its server gave this file, in the archiver's words; undefined: it is not there. */
export async function archivedAtOf(
  destination: Destination,
  stream: LogStream,
  name: string,
  options: CallOptions = {},
): Promise<string | undefined> {
  const object = await destination.stat(logFileKey(stream, name), options)
  return object && (await headerOf(destination, object, options)).archivedAt
}

/** Names of segments, in any order. */
function runsOf(names: readonly string[], segmentBytes: number): SegmentRun[] {
  const runs: SegmentRun[] = []
  // Digits of equal length: by timeline, then by number.
  for (const name of [...names].sort()) {
    const timeline = Number.parseInt(name.slice(0, 8), 16)
    const number = segmentNumber(name, segmentBytes)
    if (number === undefined) continue
    const before = runs.at(-1)
    if (before?.timeline === timeline && before.last + 1n === number) before.last = number
    else runs.push({ timeline, first: number, last: number })
  }
  return runs
}

async function headerOf(
  destination: Destination,
  object: ObjectStat,
  options: CallOptions,
): Promise<WalHeader> {
  const header = saidHeader(await beginningOf(destination, object, options))
  if (header !== undefined) return header
  throw new HoldfastError(
    'wal.damaged',
    `Reading ${destination.uri}/${object.key}: it has no header of this version.`,
  )
}

/** Of an object in the archive: enough to hold its header. */
export async function beginningOf(
  destination: Destination,
  { key, bytes }: Pick<ObjectStat, 'key' | 'bytes'>,
  options: CallOptions,
): Promise<Buffer> {
  const range = { offset: 0, length: Math.min(bytes, maxHeaderBytes), ...options }
  const chunks: Buffer[] = []
  for await (const chunk of await destination.get(key, range)) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
