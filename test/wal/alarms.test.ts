/** What is told of the archiving of a server, from one look to the next. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ArchivingFacts } from '../../model/archiving.ts'
import {
  gapToAnswer,
  isWatched,
  type LogLook,
  type LogSeen,
  timelineToLookAt,
  type Watched,
  watched,
} from '../../model/log-alarms.ts'
import type { LogStreamState } from '../../model/log-stream.ts'

const facts: ArchivingFacts = {
  mode: 'on',
  by: 'holdfast',
  timeoutSeconds: 60,
  pendingRestart: [],
  segmentBytes: 16 << 20,
  current: '000000010000000000000009',
  lastArchived: '000000010000000000000008',
  failingSeconds: null,
  failed: 0,
  walBytes: 64 << 20,
  maxWalBytes: 1 << 30,
  dataDirectory: null,
}
const whole: LogSeen = { destination: 'vault', hasBase: true, gap: null }
const gap = { destination: 'vault', first: '000000010000000000000005', from: '0/5000000' }
let minute = 0
const at = () => new Date(Date.UTC(2026, 10, 22, 3, minute++)).toISOString()
const look = (changes: Partial<ArchivingFacts> = {}, more: Partial<LogLook> = {}): LogLook => ({
  at: at(),
  server: { facts: { ...facts, ...changes }, freeBytes: null },
  log: whole,
  ...more,
})
const after = (...looks: LogLook[]): Watched =>
  looks.reduce<Watched | undefined>((before, one) => watched(before, one), undefined) ?? assert.fail()
const codes = ({ alarms }: Watched) => alarms.map(({ code }) => code)

describe('alarms of a log', () => {
  it('none, while all is well', () => assert.deepEqual(codes(after(look(), look())), []))

  it('tries that fail one after the other, until one succeeds', () => {
    const failing = { failingSeconds: 5, failed: 3 }
    const first = after(look(), look(failing))
    assert.deepEqual(codes(first), ['wal.failing'])
    const second = watched(
      { ...first, alarms: first.alarms.map(one => ({ ...one, told: true })) },
      look(failing),
    )
    assert.deepEqual([second.alarms[0]?.since, second.alarms[0]?.told], [first.alarms[0]?.since, true])
    assert.deepEqual(codes(watched(second, look({ failed: 3 }))), [])
    // One try that failed is tried again by PostgreSQL in a second.
    assert.deepEqual(codes(after(look({ failingSeconds: 1, failed: 1 }))), [])
  })

  it('a backlog that stays, not one that passes', () => {
    const behind = { current: '000000010000000000000029' }
    assert.deepEqual(codes(after(look(behind))), [])
    assert.deepEqual(codes(after(look(behind), look(behind))), ['wal.behind'])
    assert.deepEqual(codes(after(look(behind), look(), look(behind))), [])
  })

  it('a disk that the log fills', () => {
    const growing = (walBytes: number, freeBytes: number): LogLook => ({
      ...look({}),
      server: { facts: { ...facts, walBytes }, freeBytes },
    })
    const [gib, large] = [2 ** 30, 2 ** 40]
    assert.deepEqual(codes(after(growing(gib, large), growing(1.5 * gib, large))), [])
    assert.match(
      after(growing(gib, large), growing(2 * gib, 10 * gib)).alarms[0]?.detail ?? '',
      /in about 10 minutes/,
    )
    assert.match(after(look({ walBytes: 3 * gib })).alarms[0]?.detail ?? '', /more than twice max_wal_size/)
    assert.deepEqual(codes(after(look({ walBytes: null }))), [])
  })

  it("a log that was archived and is not any more; one that never was is nobody's business", () => {
    assert.deepEqual(codes(after(look(), look({ mode: 'off' }))), ['wal.off'])
    assert.deepEqual(codes(after(look(), look({ by: 'pgbackrest' }))), ['wal.off'])
    const foreign = look({ by: 'pgbackrest' }, { log: null })
    assert.equal(isWatched(undefined, foreign), false)
    assert.equal(isWatched(after(look()), foreign), true)
  })

  it('a server that cannot be asked keeps its alarms, and gets one the second time', () => {
    const failing = after(look({ failingSeconds: 5, failed: 3 }))
    const silent = { server: undefined }
    const once = watched(failing, look({}, silent))
    assert.deepEqual(codes(once), ['wal.failing'])
    assert.deepEqual(codes(watched(once, look({}, silent))), ['wal.failing', 'wal.unwatched'])
  })

  it('a hole is told of at once, and answered when it is still there at the next listing', () => {
    const holed = (more: Partial<LogSeen> = {}) => look({}, { log: { ...whole, gap, ...more } })
    const first = after(look(), holed())
    assert.deepEqual(codes(first), ['wal.gap'])
    assert.equal(gapToAnswer(after(look()), first), undefined)
    // Not listed: as it was, and no answer.
    const between = watched(first, look({}, { log: undefined }))
    assert.deepEqual(codes(between), ['wal.gap'])
    assert.equal(gapToAnswer(first, between), undefined)
    assert.deepEqual(gapToAnswer(between, watched(between, holed())), gap)
    const other = watched(between, holed({ gap: { ...gap, first: '000000010000000000000007' } }))
    assert.equal(gapToAnswer(between, other), undefined)
    assert.deepEqual(codes(watched(between, look())), [])
    assert.deepEqual(codes(after(look({}, { log: { ...whole, hasBase: false } }))), ['wal.no-base'])
  })
})

describe('the timeline that a server archives on', () => {
  const on = (timeline: number) => ({ current: `0000000${timeline}0000000000000009` })
  it('is looked at after it has changed, and with every listing', () => {
    const first = after(look(on(1)))
    assert.equal(timelineToLookAt(undefined, first), 1)
    const before = watched(first, look(on(1), { log: undefined }))
    const seen = (one: LogLook) => timelineToLookAt(before, watched(before, one))
    assert.equal(seen(look(on(1), { log: undefined })), undefined)
    assert.equal(seen(look(on(2), { log: undefined })), 2)
    assert.equal(seen(look(on(1))), 1)
  })
  it('is no matter while it archives nothing, or cannot be asked', () => {
    const before = after(look(on(1)))
    const seen = (one: LogLook) => timelineToLookAt(before, watched(before, one))
    assert.equal(seen(look({ ...on(2), mode: 'off' })), undefined)
    assert.equal(seen(look({ ...on(2), by: 'nobody' })), undefined)
    assert.equal(seen(look({ current: null })), undefined)
    assert.equal(seen(look({}, { server: undefined })), undefined)
    assert.equal(seen(look(on(2), { log: null })), undefined)
    // It was restarted to archive: on the timeline that it had before.
    const off = after(look({ ...on(2), mode: 'off', by: 'nobody' }))
    assert.equal(timelineToLookAt(off, watched(off, look(on(2), { log: undefined }))), 2)
  })

  describe('of a streamed log', () => {
    const off = { mode: 'off', by: 'nobody' } as const
    it('is looked at as well, whatever the server says of archiving', () => {
      const stream = { state: state(), slotLimitBytes: 1 << 30, createdAt: at() }
      const streamed = (timeline: number, log: LogSeen | undefined = undefined) =>
        look({ ...off, ...on(timeline) }, { stream, log })
      const before = after(streamed(1, whole))
      assert.equal(timelineToLookAt(before, watched(before, streamed(1))), undefined)
      assert.equal(timelineToLookAt(before, watched(before, streamed(2))), 2)
      assert.equal(timelineToLookAt(before, watched(before, streamed(1, whole))), 1)
      assert.equal(timelineToLookAt(before, watched(before, look({ ...off, ...on(2) }))), undefined)
    })
    const state = (changes: Partial<LogStreamState> = {}): LogStreamState => ({
      at: new Date(Date.UTC(2026, 10, 22, 3, minute - 1)).toISOString(),
      receiving: true,
      held: null,
      timeline: 1,
      serverLsn: '0/9000000',
      receivedLsn: '0/9000000',
      archivedLsn: '0/9000000',
      archivedAt: null,
      lagBytes: 0,
      lagSeconds: 0,
      slot: { active: true, retainedBytes: 0, walStatus: 'reserved' },
      spoolBytes: 0,
      freeBytes: 1 << 30,
      receiveTrouble: null,
      archiveTrouble: null,
      lost: null,
      ...changes,
    })
    const seen = (changes: Partial<LogStreamState> = {}, more: Partial<LogLook> = {}): LogLook => {
      const one = look(off, more)
      const createdAt = '2026-11-22T00:00:00.000Z'
      return { ...one, stream: { state: state({ at: one.at, ...changes }), slotLimitBytes: 1000, createdAt } }
    }
    const long = '2026-11-22T01:00:00.000Z'
    const trouble = { code: 'x', detail: 'Why.', hint: '', since: long }

    it('archives nothing by the server itself, and that is no alarm until it is stopped', () => {
      const streaming = after(seen(), seen())
      assert.deepEqual(codes(streaming), [])
      assert.deepEqual(codes(watched(streaming, look(off))), ['wal.off'])
      assert.ok(isWatched(undefined, seen({}, { log: null })))
    })

    it('not received, without room, not archived, kept by its slot: each for as long as it is', () => {
      assert.deepEqual(codes(after(seen({ receiveTrouble: trouble }))), ['wal.not-streamed'])
      const passing = { ...trouble, since: '2026-11-23T00:00:00.000Z' }
      assert.deepEqual(codes(after(seen({ receiveTrouble: passing, archiveTrouble: passing }))), [])
      assert.deepEqual(codes(after(seen({ held: 'spool', receiveTrouble: trouble }))), ['wal.spool-full'])
      assert.deepEqual(codes(after(seen({ archiveTrouble: trouble }))), ['wal.failing'])
      const slot = { active: true, retainedBytes: 1001, walStatus: 'extended' }
      assert.deepEqual(codes(after(seen({ slot }))), ['wal.slot'])
      assert.deepEqual(codes(after(seen({ slot }), seen())), [])
      assert.deepEqual(codes(after(seen({ at: long }))), ['wal.not-streamed'])
    })

    it('lost before it was received: until the archive has no hole after its newest base backup', () => {
      const lost = { lost: { at: long, after: '000000010000000000000004' } }
      const holed = after(seen(lost, { log: { ...whole, gap } }))
      assert.deepEqual(codes(holed), ['wal.slot-lost', 'wal.gap'])
      assert.deepEqual(codes(watched(holed, seen(lost, { log: undefined }))), ['wal.slot-lost', 'wal.gap'])
      const mended = watched(holed, seen(lost))
      assert.deepEqual(codes(mended), [])
      assert.deepEqual(codes(watched(mended, seen(lost, { log: undefined }))), [])
    })
  })
})
