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
})
