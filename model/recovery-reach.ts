/** Whether the target of a recovery can be reached, and from which base backup: asked before anything is touched. Pure. */
import type { RecoveryTarget } from './records.ts'
import {
  type ArchivedLog,
  isOnTheWay,
  lastSegmentOf,
  missedBy,
  type ReachingBase,
  type RecoveryWindow,
} from './recovery-window.ts'
import { formatLsn, parseLsn, segmentName } from './wal.ts'

type TimelineChoice = 'latest' | 'current' | number

export interface Reachable {
  timeline: number
  base: ReachingBase
  /** Nothing after this segment can be replayed; undefined: there is no log but the base backup's own. */
  lastSegment: string | undefined
}

/** `base`: nobody can say which one to begin with. */
export type Answer = { reached: Reachable } | { refused: 'unreachable' | 'base'; why: string }

export interface Question {
  log: ArchivedLog
  windows: readonly RecoveryWindow[]
  target: RecoveryTarget
  timeline: TimelineChoice
  /** The base backup to begin with, where somebody named one. */
  base: string | undefined
  /** Of a target that is a restore point in the catalog: where it ends. */
  point?: { timeline: number; lsn: bigint } | undefined
  /** When each base backup ended, by the clock of its server. */
  endedAt: ReadonlyMap<string, Date>
}

/**
 * Of a time is only said from which base backup on: the names in an archive hold none. What its last segment says of when it was
 * archived is the other bound.
 */
export function reach(question: Question): Answer {
  const { log, windows, target } = question
  const found = pathFor(question)
  if ('refused' in found) return found
  const { window, bases } = found
  const from = (base: ReachingBase | undefined, why: string): Answer => {
    if (base === undefined) return unreachable(windows, why)
    const missing = missingOf(log, base)
    if (missing !== undefined) {
      return unreachable(
        windows,
        `Base backup ${base.backupId} needs ${missing}, which is not in the archive although the log goes on after it`,
      )
    }
    const lastSegment = lastSegmentOf(log, window.timeline, base)
    return { reached: { timeline: window.timeline, base, lastSegment } }
  }
  switch (target.kind) {
    case 'lsn': {
      const lsn = parseLsn(target.lsn) ?? 0n
      const base = bases.findLast(one => one.stop <= lsn && lsn < one.reach)
      return from(
        base,
        `${target.lsn} on timeline ${window.timeline} cannot be recovered${gapAt(question, window, lsn)}`,
      )
    }
    case 'time': {
      // Whether it ended before the target the server says, in the replay.
      if (question.base !== undefined) return from(bases.at(-1), '')
      const at = Date.parse(target.time)
      const base = bases.findLast(one => Number(question.endedAt.get(one.backupId)) < at)
      return from(
        base,
        `No base backup on the way to timeline ${window.timeline} ended before ${target.time}`,
      )
    }
    case 'xid':
    case 'name': {
      const { point } = question
      if (point !== undefined) {
        const isThere = isOnTheWay(log, window.timeline, point)
        const base = isThere
          ? bases.findLast(one => one.stop < point.lsn && point.lsn <= one.reach)
          : undefined
        const where = `The restore point at ${formatLsn(point.lsn)} of timeline ${point.timeline}`
        const gap = isThere ? gapAt(question, window, point.lsn) : ''
        return from(base, `${where} cannot be recovered on timeline ${window.timeline}${gap}`)
      }
      if (question.base !== undefined) return from(bases.at(-1), '')
      const known = bases.map(
        one => `${one.backupId} (ended ${question.endedAt.get(one.backupId)?.toISOString() ?? '?'})`,
      )
      const what = target.kind === 'xid' ? `transaction ${target.xid}` : `the restore point "${target.name}"`
      return {
        refused: 'base',
        why: `Where ${what} lies in the log is not known before it is replayed. There is ${known.slice(-5).join(', ')}.`,
      }
    }
    case 'immediate':
      return from(bases.at(-1), '')
    case 'latest': {
      const base = bases.at(-1)
      const hole = base && window.gaps.find(gap => gap.first * BigInt(log.segmentBytes) === base.reach)
      if (!hole) return from(base, '')
      return unreachable(
        windows,
        `The log goes on after ${segmentName(hole.timeline, hole.first, log.segmentBytes)}, which is missing; it can be recovered to a place before ${formatLsn(base.reach)}`,
      )
    }
  }
}

/** For a time: the last segment that can be replayed was archived before it. */
export const endsBefore = (
  windows: readonly RecoveryWindow[],
  target: string,
  { base, lastSegment }: Reachable,
  archivedAt: string | undefined,
): string | undefined => {
  if (archivedAt !== undefined && Date.parse(target) <= Date.parse(archivedAt)) return undefined
  const end =
    lastSegment === undefined
      ? 'there is no archived log after it'
      : `the log after it can be replayed up to ${lastSegment}, which was archived at ${archivedAt ?? 'an unknown time'}`
  return inWords(windows, `${target} lies after base backup ${base.backupId}, and ${end}`)
}

function pathFor({
  windows,
  timeline,
  base,
}: Question): { window: RecoveryWindow; bases: ReachingBase[] } | Extract<Answer, { refused: unknown }> {
  const own = (one: RecoveryWindow) => one.bases.filter(each => each.timeline === one.timeline)
  const window =
    typeof timeline === 'number'
      ? windows.find(one => one.timeline === timeline)
      : windows.findLast(one => (timeline === 'current' ? own(one) : one.bases).some(isMeant(base)))
  if (!window) {
    const what = typeof timeline === 'number' ? `timeline ${timeline}` : (base ?? 'a physical base backup')
    return unreachable(windows, `The archived log has nothing of ${what}`)
  }
  const bases = (timeline === 'current' ? own(window) : window.bases).filter(isMeant(base))
  if (bases.length > 0) return { window, bases }
  return unreachable(
    windows,
    `${base === undefined ? 'No base backup lies' : `Base backup ${base} does not lie`} on the way to timeline ${window.timeline}`,
  )
}

const isMeant =
  (base: string | undefined) =>
  ({ backupId }: ReachingBase): boolean =>
    base === undefined || backupId === base

/** A file of the base backup's own log that the archive was to have: PostgreSQL asks it first, and takes no answer for none. */
function missingOf(log: ArchivedLog, base: ReachingBase): string | undefined {
  const bytes = BigInt(log.segmentBytes)
  for (let number = base.start / bytes; number <= base.stop / bytes; number += 1n) {
    const there = log.runs.some(
      run => run.timeline === base.timeline && run.first <= number && number <= run.last,
    )
    if (!there && missedBy(log, { timeline: base.timeline, number }) !== undefined) {
      return segmentName(base.timeline, number, log.segmentBytes)
    }
  }
  return undefined
}

function gapAt({ log }: Question, window: RecoveryWindow, lsn: bigint): string {
  const gap = window.gaps.find(
    ({ cutsOff }) => cutsOff.from <= lsn && (cutsOff.to === undefined || lsn < cutsOff.to),
  )
  if (gap === undefined) return ''
  const [first, last] = [gap.first, gap.last].map(one => segmentName(gap.timeline, one, log.segmentBytes))
  return `: ${first === last ? `${first} is missing` : `${first} to ${last} are missing`}`
}

const unreachable = (windows: readonly RecoveryWindow[], why: string) => ({
  refused: 'unreachable' as const,
  why: inWords(windows, why),
})

/** With the windows in words, the newest timelines first. */
function inWords(windows: readonly RecoveryWindow[], why: string): string {
  const words = [...windows]
    .reverse()
    .flatMap(({ timeline, intervals }) =>
      intervals.map(({ from, to }) => `timeline ${timeline} from ${formatLsn(from)} to ${formatLsn(to)}`),
    )
  const more = words.length > 6 ? `, and ${words.length - 6} more` : ''
  return `${why}. Can be recovered: ${words.length === 0 ? 'nothing' : words.slice(0, 6).join('; ')}${more}.`
}
