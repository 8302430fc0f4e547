/** What can be recovered: worked examples, and random archives against a replay step by step as PostgreSQL does it. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  type ArchivedLog,
  type Base,
  baseFor,
  missedBy,
  type RecoveryWindow,
  recoveryWindows,
} from '../../model/recovery-window.ts'
import type { Branch } from '../../model/wal.ts'

const base = (backupId: string, timeline: number, start: number, stop: number): Base => ({
  backupId,
  timeline,
  start: BigInt(start),
  stop: BigInt(stop),
})
const run = (timeline: number, first: number, last: number) => ({
  timeline,
  first: BigInt(first),
  last: BigInt(last),
})
const intervals = ({ intervals: found }: RecoveryWindow) =>
  found.map(({ from, to }) => [Number(from), Number(to)])
const gaps = ({ gaps: found }: RecoveryWindow) =>
  found.map(({ timeline, first, last, cutsOff: { from, to } }) => [
    timeline,
    Number(first),
    Number(last),
    Number(from),
    to === undefined ? undefined : Number(to),
  ])
const of = (windows: RecoveryWindow[], timeline: number): RecoveryWindow =>
  windows.find(one => one.timeline === timeline) ?? assert.fail(`timeline ${timeline}`)

describe('recovery window', () => {
  it('is from the stop of a base backup to the end of the log without a hole', () => {
    const log = { segmentBytes: 10, runs: [run(1, 2, 5)], histories: [] }
    const window = of(recoveryWindows(log, [base('a', 1, 22, 27)]), 1)
    assert.deepEqual(intervals(window), [[27, 60]])
    assert.deepEqual(gaps(window), [])
    assert.equal(baseFor(window, 26n), undefined)
    assert.equal(baseFor(window, 27n)?.backupId, 'a')
    assert.equal(baseFor(window, 60n)?.backupId, 'a')
    assert.equal(baseFor(window, 61n), undefined)
  })

  it('is a point where the log of the base backup goes no further', () => {
    const log = { segmentBytes: 10, runs: [run(1, 4, 5)], histories: [] }
    const window = of(recoveryWindows(log, [base('a', 1, 22, 27)]), 1)
    assert.deepEqual(intervals(window), [[27, 27]])
    assert.deepEqual(gaps(window), [[1, 2, 3, 27, undefined]])
  })

  it('names what is missing, and what is lost with it until the next base backup', () => {
    const log = { segmentBytes: 10, runs: [run(1, 2, 3), run(1, 6, 9)], histories: [] }
    const bases = [base('b', 1, 61, 75), base('a', 1, 20, 20)]
    const window = of(recoveryWindows(log, bases), 1)
    assert.deepEqual(intervals(window), [
      [20, 40],
      [75, 100],
    ])
    assert.deepEqual(gaps(window), [[1, 4, 5, 40, 75]])
    assert.equal(baseFor(window, 40n)?.backupId, 'a')
    assert.equal(baseFor(window, 60n), undefined)
    assert.equal(baseFor(window, 80n)?.backupId, 'b')
  })

  it('follows a timeline from its ancestors, and leaves out what came after them', () => {
    const log = {
      segmentBytes: 10,
      runs: [run(1, 2, 6), run(2, 4, 7)],
      histories: [{ timeline: 2, branches: [{ parent: 1, at: 45n }] }],
    }
    const windows = recoveryWindows(log, [base('a', 1, 21, 25), base('late', 1, 46, 52)])
    assert.deepEqual(intervals(of(windows, 1)), [[25, 70]])
    assert.deepEqual(intervals(of(windows, 2)), [[25, 80]])
    assert.equal(baseFor(of(windows, 1), 55n)?.backupId, 'late')
    assert.equal(baseFor(of(windows, 2), 55n)?.backupId, 'a')
  })

  it('wants the segment that a timeline branched off in of the newer one', () => {
    const log = {
      segmentBytes: 10,
      runs: [run(1, 2, 4), run(2, 5, 6)],
      histories: [{ timeline: 2, branches: [{ parent: 1, at: 45n }] }],
    }
    const window = of(recoveryWindows(log, [base('a', 1, 21, 25)]), 2)
    assert.deepEqual(intervals(window), [[25, 40]])
    assert.deepEqual(gaps(window), [[2, 4, 4, 40, undefined]])
  })

  it('an absent file is the end of the log only where nothing comes after it', () => {
    const log = {
      segmentBytes: 10,
      runs: [run(1, 2, 2), run(1, 4, 4), run(3, 9, 9)],
      histories: [{ timeline: 2, branches: [{ parent: 1, at: 85n }] }],
    }
    assert.match(missedBy(log, { timeline: 1, number: 3n }) ?? '', /later segments/)
    assert.match(missedBy(log, { timeline: 1, number: 5n }) ?? '', /timeline 2/)
    assert.match(missedBy(log, { timeline: 1, number: 7n }) ?? '', /timeline 2/)
    assert.equal(missedBy(log, { timeline: 1, number: 8n }), undefined)
    assert.equal(missedBy(log, { timeline: 2, number: 8n }), undefined)
    assert.match(missedBy(log, { timeline: 3, number: undefined }) ?? '', /later segments/)
    assert.equal(missedBy(log, { timeline: 4, number: undefined }), undefined)
    assert.equal(missedBy(log, { timeline: 1, number: undefined }), undefined)
  })
})

/** mulberry32: what failed can be run again. */
function random(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

interface World {
  log: ArchivedLog
  bases: Base[]
  has: (timeline: number, number: number) => boolean
}

const segmentBytes = 4
const segments = 12

/** Timelines that branch off each other anywhere, segments of which some are missing, base backups anywhere. */
function world(seed: number): World {
  const pick = random(seed)
  const histories: { timeline: number; branches: Branch[] }[] = []
  const branchesOf = new Map<number, Branch[]>([[1, []]])
  const count = 1 + pick(4)
  for (let timeline = 2; timeline <= count; timeline += 1) {
    const parent = 1 + pick(timeline - 1)
    const before = branchesOf.get(parent) ?? []
    const earliest = Number(before.at(-1)?.at ?? 0n)
    const at = BigInt(earliest + pick(segments * segmentBytes - earliest))
    const branches = [...before, { parent, at }]
    branchesOf.set(timeline, branches)
    histories.push({ timeline, branches })
  }
  const there = new Set<string>()
  const runs: ArchivedLog['runs'][number][] = []
  const holes = pick(4)
  for (const [timeline, branches] of branchesOf) {
    const first = Number(branches.at(-1)?.at ?? 0n) / segmentBytes
    const last = Math.floor(first) + pick(segments)
    for (let number = Math.floor(first); number <= last; number += 1) {
      if (pick(12) < holes) continue
      there.add(`${timeline}/${number}`)
      const before = runs.at(-1)
      if (before?.timeline === timeline && Number(before.last) === number - 1) before.last += 1n
      else runs.push({ timeline, first: BigInt(number), last: BigInt(number) })
    }
  }
  const bases = Array.from({ length: pick(4) }, (_, index) => {
    const timeline = 1 + pick(count)
    const start = Number(branchesOf.get(timeline)?.at(-1)?.at ?? 0n) + pick(segments * segmentBytes)
    return base(`b${index}`, timeline, start, start + pick(10))
  })
  const has = (timeline: number, number: number) => there.has(`${timeline}/${number}`)
  return { log: { segmentBytes, runs, histories }, bases, has }
}

/** The furthest place that a recovery of this base backup along this timeline comes to, byte by byte; undefined: it does not begin. */
function replayed({ log, has }: World, one: Base, timeline: number): number | undefined {
  const branches = log.histories.find(history => history.timeline === timeline)?.branches ?? []
  const onTheWay = [...branches.map(({ parent }) => parent), timeline]
  if (!onTheWay.includes(one.timeline)) return undefined
  const left = branches.find(({ parent }) => parent === one.timeline)
  if (left !== undefined && one.stop > left.at) return undefined
  const beginOf = (index: number) => Number(branches[index - 1]?.at ?? 0n)
  let at = Number(one.stop)
  for (;;) {
    const number = Math.floor(at / segmentBytes)
    // As XLogFileReadAnyTLI: the newest timeline that had begun by the end of this segment is asked first.
    const newest = onTheWay.findLastIndex((_, index) => Math.floor(beginOf(index) / segmentBytes) <= number)
    if (!has(onTheWay[newest] ?? 0, number)) return at
    at = (number + 1) * segmentBytes
  }
}

describe('recovery windows of random archives', () => {
  it('are what a replay step by step comes to', () => {
    for (let seed = 1; seed <= 1500; seed += 1) {
      const made = world(seed)
      for (const window of recoveryWindows(made.log, made.bases)) {
        const where = `seed ${seed}, timeline ${window.timeline}`
        const reached = new Map(
          made.bases.map(one => [one.backupId, replayed(made, one, window.timeline)] as const),
        )
        for (let lsn = 0; lsn <= (2 * segments + 6) * segmentBytes; lsn += 1) {
          const can = made.bases.some(one => {
            const reach = reached.get(one.backupId)
            return reach !== undefined && Number(one.stop) <= lsn && lsn <= reach
          })
          const said = window.intervals.some(({ from, to }) => Number(from) <= lsn && lsn <= Number(to))
          assert.equal(said, can, `${where}, ${lsn}`)
          const chosen = baseFor(window, BigInt(lsn))
          assert.equal(chosen !== undefined, can, `${where}, ${lsn}`)
          if (chosen) {
            assert.ok(Number(chosen.stop) <= lsn && lsn <= (reached.get(chosen.backupId) ?? -1), where)
          }
        }
        for (const { timeline, first, last, cutsOff } of window.gaps) {
          for (let number = Number(first); number <= Number(last); number += 1) {
            assert.equal(made.has(timeline, number), false, `${where}, ${timeline}/${number}`)
          }
          const { from, to } = cutsOff
          for (const interval of window.intervals) {
            const inside = interval.from > from && (to === undefined || interval.to < to)
            if (inside) assert.ok(interval.to < (last + 1n) * BigInt(segmentBytes), where)
          }
        }
        // With what is missing put there, it is one interval from the first base backup on.
        const whole = mended(made.log, window)
        const [after] = recoveryWindows(whole, made.bases).filter(one => one.timeline === window.timeline)
        assert.deepEqual(after?.gaps, [], where)
        const end = after?.intervals[0]?.to ?? 0n
        for (const later of after?.intervals.slice(1) ?? []) assert.ok(later.from > end, where)
      }
    }
  })
})

function mended(log: ArchivedLog, { gaps: missing }: RecoveryWindow): ArchivedLog {
  const numbers = new Map<number, bigint[]>()
  for (const { timeline, first, last } of [...log.runs, ...missing]) {
    const known = numbers.get(timeline) ?? []
    for (let number = first; number <= last; number += 1n) known.push(number)
    numbers.set(timeline, known)
  }
  const runs: { timeline: number; first: bigint; last: bigint }[] = []
  for (const [timeline, known] of [...numbers].sort(([a], [b]) => a - b)) {
    for (const number of known.sort((a, b) => Number(a - b))) {
      const before = runs.at(-1)
      if (before?.timeline === timeline && before.last === number - 1n) before.last = number
      else runs.push({ timeline, first: number, last: number })
    }
  }
  return { ...log, runs }
}
