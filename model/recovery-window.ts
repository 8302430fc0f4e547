/**
 * What can be recovered from base backups and archived log, by LSN. Pure: what is there goes in, what can be reached comes out.
 *
 * A recovery follows one timeline: from its ancestors, each up to where it was left, to its own end. It begins with a base backup,
 * which holds the log from its start to its stop, and needs every segment after that. Where a timeline branched off within a segment,
 * the segment of the newer one holds what the older one's held until then, and PostgreSQL asks for the newer one: so do we.
 */
import { type Branch, segmentName } from './wal.ts'

/** Segments of one timeline without a hole, by their numbers, the last one included. */
export interface SegmentRun {
  timeline: number
  first: bigint
  last: bigint
}

export interface ArchivedLog {
  segmentBytes: number
  /** By timeline and number; no two of them touch. */
  runs: readonly SegmentRun[]
  /** Of each timeline that has a history file in the archive: those before it, the oldest first. */
  histories: readonly { timeline: number; branches: readonly Branch[] }[]
}

/** A physical base backup, with the log that it needs to be consistent. */
export interface Base {
  backupId: string
  timeline: number
  /** Where the recovery begins, and where it is consistent. */
  start: bigint
  stop: bigint
}

export interface ReachingBase extends Base {
  /** Without a hole in the log up to here, which is the end of a segment unless it is `stop`. */
  reach: bigint
}

/** Every place of the log from `from` to `to` can be recovered. */
export interface Interval {
  from: bigint
  to: bigint
}

/** Segments that are missing between what is there. */
export interface Gap extends SegmentRun {
  /** What cannot be recovered for want of them; `to` undefined: nothing after it, until there is another base backup. */
  cutsOff: { from: bigint; to: bigint | undefined }
}

export interface RecoveryWindow {
  timeline: number
  /** Where it branched off; undefined: nobody knows of an older one. */
  parent: Branch | undefined
  intervals: Interval[]
  /** By their stop. */
  bases: ReachingBase[]
  gaps: Gap[]
}

/** One for each timeline that has a segment, a history or a base backup, by its number. */
export function recoveryWindows(log: ArchivedLog, bases: readonly Base[]): RecoveryWindow[] {
  const timelines = new Set([
    ...log.runs.map(run => run.timeline),
    ...log.histories.map(history => history.timeline),
    ...bases.map(base => base.timeline),
  ])
  return [...timelines].sort((a, b) => a - b).map(timeline => windowOf(log, bases, timeline))
}

/** The last segment that a recovery of this base along that timeline can replay; undefined: there is no log after the base's own. */
export function lastSegmentOf(log: ArchivedLog, timeline: number, base: ReachingBase): string | undefined {
  if (base.reach <= base.stop) return undefined
  const bytes = BigInt(log.segmentBytes)
  const number = base.reach / bytes - 1n
  return segmentName(ownerOf(pathTo(log, timeline), number, bytes), number, log.segmentBytes)
}

/** Whether a recovery along that timeline comes by this place of that one of its ancestors, or of itself. */
export const isOnTheWay = (
  log: ArchivedLog,
  timeline: number,
  place: { timeline: number; lsn: bigint },
): boolean =>
  pathTo(log, timeline).some(
    one => one.timeline === place.timeline && (one.leftAt === undefined || place.lsn <= one.leftAt),
  )

/** The base backup to recover this place from: the newest that reaches it. undefined: it cannot be recovered. */
export const baseFor = ({ bases }: RecoveryWindow, lsn: bigint): ReachingBase | undefined =>
  bases.findLast(base => base.stop <= lsn && lsn <= base.reach)

/**
 * Why a file that the archive does not have must have been there, in words: the log goes on behind it. undefined: the log may end here.
 */
export function missedBy(
  log: ArchivedLog,
  file: { timeline: number; number: bigint | undefined },
): string | undefined {
  const { timeline, number } = file
  // The first one has no history; PostgreSQL asks for it all the same.
  if (timeline === 1 && number === undefined) return undefined
  const own = log.runs.findLast(run => run.timeline === timeline)
  const child = log.histories.find(({ branches }) =>
    branches.some(
      branch =>
        branch.parent === timeline && (number === undefined || branch.at / BigInt(log.segmentBytes) > number),
    ),
  )
  if (own !== undefined && (number === undefined || own.last > number)) {
    return `later segments of timeline ${timeline} are there`
  }
  return child && `timeline ${child.timeline} goes on after it`
}

function windowOf(log: ArchivedLog, bases: readonly Base[], timeline: number): RecoveryWindow {
  const path = pathTo(log, timeline)
  const usable = bases
    .filter(base =>
      path.some(one => one.timeline === base.timeline && base.stop <= (one.leftAt ?? base.stop)),
    )
    .map(base => ({ ...base, reach: reachOf(log, path, base) }))
    .sort((a, b) => compare(a.stop, b.stop))
  const intervals: Interval[] = []
  for (const { stop, reach } of usable) {
    const last = intervals.at(-1)
    if (last === undefined || stop > last.to) intervals.push({ from: stop, to: reach })
    else if (reach > last.to) last.to = reach
  }
  return {
    timeline,
    parent: log.histories.find(history => history.timeline === timeline)?.branches.at(-1),
    intervals,
    bases: usable,
    gaps: gapsIn(log, path, usable, intervals),
  }
}

/** One of the timelines on the way. */
interface Stretch {
  timeline: number
  begunAt: bigint
  /** undefined: it is the last one. */
  leftAt: bigint | undefined
}

function pathTo(log: ArchivedLog, timeline: number): Stretch[] {
  const branches = log.histories.find(history => history.timeline === timeline)?.branches ?? []
  const before = branches.map(({ parent, at }, index) => ({
    timeline: parent,
    begunAt: branches[index - 1]?.at ?? 0n,
    leftAt: at,
  }))
  return [...before, { timeline, begunAt: branches.at(-1)?.at ?? 0n, leftAt: undefined }]
}

function reachOf(log: ArchivedLog, path: readonly Stretch[], base: Base): bigint {
  const bytes = BigInt(log.segmentBytes)
  let number = base.stop / bytes
  for (;;) {
    const timeline = ownerOf(path, number, bytes)
    const run = log.runs.find(one => one.timeline === timeline && one.first <= number && number <= one.last)
    if (run === undefined) break
    number = min(run.last, lastOf(path, timeline, bytes)) + 1n
  }
  return max(base.stop, number * bytes)
}

/** The timeline that this segment is asked of. */
const ownerOf = (path: readonly Stretch[], number: bigint, bytes: bigint): number =>
  path.findLast(one => one.begunAt / bytes <= number)?.timeline ?? 0

/** The last segment that is asked of it. */
function lastOf(path: readonly Stretch[], timeline: number, bytes: bigint): bigint {
  const leftAt = path.find(one => one.timeline === timeline)?.leftAt
  return leftAt === undefined ? endOfLog : leftAt / bytes - 1n
}

const endOfLog = 1n << 64n

function gapsIn(
  log: ArchivedLog,
  path: readonly Stretch[],
  bases: readonly Base[],
  intervals: readonly Interval[],
): Gap[] {
  const bytes = BigInt(log.segmentBytes)
  const [earliest] = bases
  if (earliest === undefined) return []
  const gaps: Gap[] = []
  let next = earliest.stop / bytes
  const missing = (timeline: number, end: bigint) => {
    if (next < end) {
      const cutsOff = cutOff({ from: next * bytes, to: end * bytes }, intervals)
      gaps.push({ timeline, first: next, last: end - 1n, cutsOff })
    }
    next = max(next, end)
  }
  for (const { timeline, begunAt } of path) {
    next = max(next, begunAt / bytes)
    const last = lastOf(path, timeline, bytes)
    if (next > last) continue
    for (const run of log.runs) {
      if (run.timeline !== timeline || run.last < next || run.first > last) continue
      missing(timeline, run.first)
      next = min(run.last, last) + 1n
    }
    // How far it went is known of a timeline that was left; of the last one, by what is there.
    if (last !== endOfLog) missing(timeline, last + 1n)
  }
  return gaps
}

/** Single places within it, where a base backup stops, can be recovered all the same. */
function cutOff(gap: Interval, intervals: readonly Interval[]): Gap['cutsOff'] {
  const before = intervals.findLast(({ from }) => from <= gap.from) ?? intervals[0]
  const after = intervals.find(({ from, to }) => from > gap.from && to >= gap.to)
  return { from: before?.to ?? gap.from, to: after?.from }
}

const compare = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0)
const max = (a: bigint, b: bigint): bigint => (a > b ? a : b)
const min = (a: bigint, b: bigint): bigint => (a < b ? a : b)
