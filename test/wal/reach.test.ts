/** Whether a recovery's target can be reached: said before anything is touched, with what can be. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { endedByServer } from '../../model/base-backups.ts'
import type { Manifest } from '../../model/manifest.ts'
import type { RecoveryTarget } from '../../model/records.ts'
import { endsBefore, type Question, reach } from '../../model/recovery-reach.ts'
import { instantOf } from '../../model/recovery-time.ts'
import { type ArchivedLog, recoveryWindows } from '../../model/recovery-window.ts'

const mib = 1 << 20
const place = (megabytes: number) => BigInt(Math.round(megabytes * mib))
const base = (backupId: string, timeline: number, start: number, stop: number) => ({
  backupId,
  timeline,
  start: place(start),
  stop: place(stop),
})
const run = (timeline: number, first: number, last: number) => ({
  timeline,
  first: BigInt(first),
  last: BigInt(last),
})
const lsn = (megabytes: number): RecoveryTarget => ({
  kind: 'lsn',
  lsn: `0/${place(megabytes).toString(16).toUpperCase()}`,
  inclusive: true,
})
const time = (at: string): RecoveryTarget => ({ kind: 'time', time: at, inclusive: true })

/** Segments 2 to 9 of timeline 1 without 6; it was left within 5 for timeline 2, which goes to 7. */
const log: ArchivedLog = {
  segmentBytes: mib,
  runs: [run(1, 2, 5), run(1, 7, 9), run(2, 5, 7)],
  histories: [{ timeline: 2, branches: [{ parent: 1, at: place(5.5) }] }],
}
const bases = [base('a', 1, 2.2, 2.7), base('b', 1, 7.1, 7.5), base('c', 2, 6.1, 6.2)]
const endedAt = new Map([
  ['a', new Date('2026-11-22T01:00:00.000Z')],
  ['b', new Date('2026-11-22T03:00:00.000Z')],
  ['c', new Date('2026-11-22T02:30:00.000Z')],
])
const ask = (target: RecoveryTarget, more: Partial<Question> = {}) => {
  const windows = recoveryWindows(log, bases)
  return reach({ log, windows, target, timeline: 1, base: undefined, endedAt, ...more })
}
const from = (answer: ReturnType<typeof reach>) =>
  'reached' in answer
    ? [answer.reached.timeline, answer.reached.base.backupId, answer.reached.lastSegment]
    : assert.fail(answer.why)
const why = (answer: ReturnType<typeof reach>) => ('why' in answer ? answer.why : assert.fail('reached'))

describe('the reach of a recovery', () => {
  it('is from the newest base backup before the place', () => {
    assert.deepEqual(from(ask(lsn(2.7))), [1, 'a', '000000010000000000000005'])
    assert.deepEqual(from(ask(lsn(5.9))), [1, 'a', '000000010000000000000005'])
    assert.deepEqual(from(ask(lsn(7.5))), [1, 'b', '000000010000000000000009'])
    assert.deepEqual(from(ask(lsn(3), { base: 'a' })), [1, 'a', '000000010000000000000005'])
  })

  it('says what can be recovered where it does not reach', () => {
    const said = why(ask(lsn(2)))
    assert.match(said, /^0\/200000 on timeline 1 cannot be recovered\. Can be recovered: /)
    assert.match(said, /timeline 1 from 0\/2B3333 to 0\/600000; timeline 1 from 0\/780000 to 0\/A00000\.$/)
    assert.match(why(ask(lsn(10))), /^0\/A00000 on timeline 1 cannot be recovered\./)
    assert.match(why(ask(lsn(6.5))), /: 000000010000000000000006 is missing\. Can be/)
    assert.match(why(ask(lsn(3), { base: 'b' })), /cannot be recovered/)
    assert.match(why(ask(lsn(3), { timeline: 7 })), /nothing of timeline 7/)
  })

  it('follows a timeline: the newest, or that of the base backup', () => {
    assert.deepEqual(from(ask(lsn(5.9), { timeline: 'latest' })), [2, 'a', '000000020000000000000007'])
    assert.deepEqual(from(ask(lsn(7), { timeline: 'latest' })), [2, 'c', '000000020000000000000007'])
    assert.deepEqual(from(ask(lsn(6.5), { timeline: 'current' })), [2, 'c', '000000020000000000000007'])
    assert.match(why(ask(lsn(5.9), { timeline: 'current' })), /cannot be recovered/)
    assert.deepEqual(from(ask(lsn(3), { timeline: 'current', base: 'a' })), [
      1,
      'a',
      '000000010000000000000005',
    ])
  })

  it('of a time begins with the newest base backup that ended before, and ends where the log was archived', () => {
    const answer = ask(time('2026-11-22T02:00:00Z'))
    assert.deepEqual(from(answer), [1, 'a', '000000010000000000000005'])
    assert.deepEqual(from(ask(time('2026-11-22T03:00:00.5Z'))), [1, 'b', '000000010000000000000009'])
    assert.match(
      why(ask(time('2026-11-22T01:00:00Z'))),
      /No base backup .* ended before 2026-11-22T01:00:00Z/,
    )
    // Whose clock is an hour off is not asked about one that was named.
    assert.deepEqual(from(ask(time('2026-11-22T00:30:00Z'), { base: 'a' })).slice(0, 2), [1, 'a'])
    assert.ok('reached' in answer)
    const windows = recoveryWindows(log, bases)
    const ends = (archivedAt: string | undefined) =>
      endsBefore(windows, '2026-11-22T02:00:00Z', answer.reached, archivedAt)
    assert.equal(ends('2026-11-22T02:00:00.000Z'), undefined)
    assert.match(
      ends('2026-11-22T01:59:59.000Z') ?? '',
      /up to 000000010000000000000005, which was archived at/,
    )
    assert.match(ends(undefined) ?? '', /an unknown time/)
  })

  it('of a name or a transaction nobody knows: somebody names the base backup', () => {
    for (const target of [
      { kind: 'xid', xid: '752', inclusive: true },
      { kind: 'name', name: 'before-deploy', lsn: null },
    ] as const) {
      const answer = ask(target)
      assert.ok('refused' in answer && answer.refused === 'base')
      assert.match(answer.why, /There is a \(ended 2026-11-22T01:00:00\.000Z\), b /)
      assert.deepEqual(from(ask(target, { base: 'a' })).slice(0, 2), [1, 'a'])
    }
  })

  it('of a restore point is where it lies, on the timelines that come by it', () => {
    const at = (timeline: number, megabytes: number, more: Partial<Question> = {}) => {
      const name = { kind: 'name', name: 'deploy.1234', lsn: 'told by `point`' } as const
      return ask(name, { timeline, point: { timeline, lsn: place(megabytes) }, ...more })
    }
    assert.deepEqual(from(at(1, 3)), [1, 'a', '000000010000000000000005'])
    assert.deepEqual(from(at(1, 6)), [1, 'a', '000000010000000000000005'])
    // It ends there, and is not consistent before.
    assert.match(why(at(1, 2.7)), /^The restore point at 0\/2B3333 of timeline 1 cannot be recovered on/)
    assert.match(why(at(1, 6.5)), /: 000000010000000000000006 is missing\./)
    assert.match(why(at(1, 3, { base: 'b' })), /cannot be recovered/)
    assert.deepEqual(from(at(1, 5.4, { timeline: 2 })), [2, 'a', '000000020000000000000007'])
    assert.match(why(at(1, 5.6, { timeline: 2 })), /of timeline 1 cannot be recovered on timeline 2\./)
    assert.match(why(at(2, 5.8, { timeline: 1 })), /cannot be recovered/)
  })

  it('of the latest is all there is, and not what lies before a hole', () => {
    assert.deepEqual(from(ask({ kind: 'latest' })), [1, 'b', '000000010000000000000009'])
    assert.match(
      why(ask({ kind: 'latest' }, { base: 'a' })),
      /after 000000010000000000000006, which is missing/,
    )
    assert.deepEqual(from(ask({ kind: 'immediate' })).slice(0, 2), [1, 'b'])
  })

  it('needs the log of the base backup itself where the archive goes on after it', () => {
    const late = [base('d', 1, 1.5, 2.2)]
    const windows = recoveryWindows(log, late)
    const answer = reach({ log, windows, target: lsn(3), timeline: 1, base: undefined, endedAt })
    assert.match(why(answer), /d needs 000000010000000000000001, which is not in the archive/)
  })
})

describe('the end of a base backup', () => {
  const ended = (clockMs: number | undefined) => {
    const times = { startedAt: '2026-11-22T01:00:00.000Z', endedAt: '2026-11-22T01:10:00.000Z' }
    return endedByServer({ ...times, facts: { cluster: { clockMs } } } as unknown as Manifest).toISOString()
  }
  it('is told by the clock of its server', () => {
    const begun = Date.parse('2026-11-22T01:00:00.000Z')
    assert.equal(ended(begun + 3_600_000), '2026-11-22T02:10:00.000Z')
    assert.equal(ended(begun - 3_600_000), '2026-11-22T00:10:00.000Z')
    // Asking took a while.
    assert.equal(ended(begun + 4000), '2026-11-22T01:10:00.000Z')
    assert.equal(ended(undefined), '2026-11-22T01:10:00.000Z')
  })
})

describe('a moment', () => {
  it('has a zone, and keeps its microseconds', () => {
    assert.equal(instantOf('2026-11-22T03:14:15.123456+01:00'), '2026-11-22T02:14:15.123456Z')
    assert.equal(instantOf('2026-11-22 03:14Z'), '2026-11-22T03:14:00Z')
    assert.equal(instantOf('2026-11-22 00:14:00+0530'), '2026-11-21T18:44:00Z')
    assert.equal(instantOf('2026-11-22 00:14:00-05'), '2026-11-22T05:14:00Z')
    for (const none of ['2026-11-22T03:14:00', '2026-06-31T00:00:00Z', '2026-11-22T25:00:00Z', 'now']) {
      assert.equal(instantOf(none), undefined, none)
    }
  })
})
