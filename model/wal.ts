/**
 * PostgreSQL's write-ahead log, as far as its file names and first bytes say. Pure.
 *
 * A segment's name is timeline, high and low part of its number, 8 hexadecimal digits each. How many segments the low part
 * counts depends on the server's segment size, so arithmetic needs that. LSNs are places in the log: bytes from its beginning.
 */

/** A power of two between 1 MiB and 1 GiB; 16 MiB unless initdb was told otherwise. */
export const usualSegmentBytes = 16 << 20
export const maxSegmentBytes = 1 << 30

export type LogFile =
  /** `partial`: what there was of a segment when its timeline ended. */
  | { kind: 'segment' | 'partial'; timeline: number; segment: string }
  /** Written by a base backup: `<segment>.<offset>.backup`. */
  | { kind: 'backup'; timeline: number; segment: string }
  /** Where a timeline branched off: `<timeline>.history`. */
  | { kind: 'history'; timeline: number }

/** undefined: PostgreSQL has no log file of such a name. */
export function logFileOf(name: string): LogFile | undefined {
  const match =
    /^([0-9A-F]{8})(?:\.history|([0-9A-F]{16})(\.partial|\.[0-9A-F]{8}\.backup)?)$/.exec(name) ?? undefined
  const [, digits, rest, suffix] = match ?? []
  if (digits === undefined) return undefined
  const timeline = Number.parseInt(digits, 16)
  if (timeline === 0) return undefined
  if (rest === undefined) return { kind: 'history', timeline }
  const kind = suffix === undefined ? 'segment' : suffix === '.partial' ? 'partial' : 'backup'
  return { kind, timeline, segment: digits + rest }
}

export const isSegmentSize = (bytes: number): boolean =>
  bytes >= 1 << 20 && bytes <= maxSegmentBytes && Number.isInteger(Math.log2(bytes))

const perLog = (segmentBytes: number): bigint => (1n << 32n) / BigInt(segmentBytes)

/** Its number, counted from the beginning of the log; undefined for a name that no server with this segment size gives. */
export function segmentNumber(segment: string, segmentBytes: number): bigint | undefined {
  const low = BigInt(`0x${segment.slice(16, 24)}`)
  if (low >= perLog(segmentBytes)) return undefined
  return BigInt(`0x${segment.slice(8, 16)}`) * perLog(segmentBytes) + low
}

const hex = (value: number | bigint): string => value.toString(16).toUpperCase().padStart(8, '0')

export function segmentName(timeline: number, number: bigint, segmentBytes: number): string {
  return hex(timeline) + hex(number / perLog(segmentBytes)) + hex(number % perLog(segmentBytes))
}

export const historyName = (timeline: number): string => `${hex(timeline)}.history`

/** The one after it on the same timeline; undefined at the end of what can be numbered. */
export function nextSegment(segment: string, segmentBytes: number): string | undefined {
  const number = segmentNumber(segment, segmentBytes)
  if (number === undefined || number + 1n >= perLog(segmentBytes) << 32n) return undefined
  return segmentName(Number.parseInt(segment.slice(0, 8), 16), number + 1n, segmentBytes)
}

/** `16/B374D848`; undefined for what is none. */
export function parseLsn(text: string): bigint | undefined {
  const [, high, low] = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text) ?? []
  return high === undefined || low === undefined
    ? undefined
    : (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)
}

export const formatLsn = (lsn: bigint): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`

/** The segment that holds the byte at this place. */
export const segmentAt = (timeline: number, lsn: bigint, segmentBytes: number): string =>
  segmentName(timeline, lsn / BigInt(segmentBytes), segmentBytes)

/** What the first page of a segment says of it. */
export interface SegmentHead {
  systemIdentifier: string
  segmentBytes: number
  /** Where the segment begins. */
  start: bigint
  /** Of the first page: an older one than the name's where the timeline branched off within this segment. */
  timeline: number
}

export const segmentHeadBytes = 40
const longHeader = 0x0002

/** undefined: no segment of a server of a little-endian machine begins so. */
export function segmentHeadOf(bytes: Uint8Array): SegmentHead | undefined {
  if (bytes.length < segmentHeadBytes) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const segmentBytes = view.getUint32(32, true)
  if ((view.getUint16(2, true) & longHeader) === 0 || !isSegmentSize(segmentBytes)) return undefined
  return {
    timeline: view.getUint32(4, true),
    start: view.getBigUint64(8, true),
    systemIdentifier: view.getBigUint64(24, true).toString(),
    segmentBytes,
  }
}

/** What `global/pg_control` of a data directory begins with. */
export const systemIdentifierIn = (control: Uint8Array): string | undefined =>
  control.length < 8
    ? undefined
    : new DataView(control.buffer, control.byteOffset, 8).getBigUint64(0, true).toString()

/** What is wrong with the bytes of a log file of this name, in words; undefined if nothing is. */
export function logFileTrouble(
  name: string,
  bytes: Uint8Array,
  systemIdentifier: string,
): { foreign: boolean; why: string } | undefined {
  const file = logFileOf(name)
  if (file === undefined) return { foreign: false, why: 'PostgreSQL has no log file of this name' }
  if (file.kind === 'history') {
    const branches = branchesIn(new TextDecoder().decode(bytes))
    const last = branches?.at(-1)
    if (last !== undefined && last.parent < file.timeline) return undefined
    return { foreign: false, why: 'it is no history of its timeline' }
  }
  if (file.kind === 'backup') {
    return bytes.length === 0 ? { foreign: false, why: 'it is empty' } : undefined
  }
  const head = segmentHeadOf(bytes)
  if (head === undefined) return { foreign: false, why: 'it does not begin as a segment does' }
  if (head.systemIdentifier !== systemIdentifier) {
    return { foreign: true, why: `it is of server ${head.systemIdentifier}, not of ${systemIdentifier}` }
  }
  if (bytes.length !== head.segmentBytes) {
    return {
      foreign: false,
      why: `it has ${bytes.length} bytes, a segment of this server ${head.segmentBytes}`,
    }
  }
  const number = segmentNumber(file.segment, head.segmentBytes)
  if (number === undefined || number * BigInt(head.segmentBytes) !== head.start) {
    return { foreign: false, why: `it begins at ${formatLsn(head.start)}, which is another segment` }
  }
  if (head.timeline > file.timeline) {
    return { foreign: false, why: `it is of timeline ${head.timeline}` }
  }
  return undefined
}

export interface Branch {
  parent: number
  /** Where the parent was left. */
  at: bigint
}

/** The timelines before this one, the oldest first; undefined for what is no history file. */
export function branchesIn(history: string): Branch[] | undefined {
  const branches: Branch[] = []
  for (const line of history.split('\n')) {
    if (/^\s*(#.*)?$/.test(line)) continue
    const [, parent, lsn = ''] = /^\s*(\d+)\s+(\S+)/.exec(line) ?? []
    const at = parseLsn(lsn)
    if (parent === undefined || at === undefined) return undefined
    const last = branches.at(-1)
    if (last !== undefined && (Number(parent) <= last.parent || at < last.at)) return undefined
    branches.push({ parent: Number(parent), at })
  }
  return branches.length === 0 ? undefined : branches
}
