/** How late is too late: by the clock of whoever asks, which these tests hold. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tooLate } from '../../api/schedules/start.ts'
import type { Catalog } from '../../catalog/open.ts'
import { enterDueTimes, findRun, noteWaiting, takeUpRun } from '../../catalog/schedule-runs.ts'
import type { ScheduleRecord, ScheduleRun } from '../../model/schedules.ts'
import { withSchedule } from '../catalog/support.ts'

const dueAt = '2026-10-21T00:30:00.000Z'
const next = '2026-10-22T00:30:00.000Z'
const seconds = (after: string, count: number) => new Date(Date.parse(after) + count * 1000)

const runOf = async (catalog: Catalog, schedule: ScheduleRecord, due = dueAt): Promise<ScheduleRun> => {
  const run = await findRun(catalog, schedule.id, due)
  assert.ok(run)
  return run
}

test('within the catch-up window it may still start; beyond it is reported; jitter does not count as lateness', () =>
  withSchedule({ catchUpSeconds: 600, jitterSeconds: 300 }, async (catalog, schedule) => {
    await enterDueTimes(catalog, schedule.id, seconds(dueAt, 1))
    const run = await runOf(catalog, schedule)
    assert.equal(await tooLate({ catalog }, schedule, run, seconds(dueAt, 900)), undefined)
    const late = await tooLate({ catalog }, schedule, run, seconds(dueAt, 901))
    assert.equal(late?.reason, 'not-taken-up')
    assert.match(late?.detail ?? '', /within 600 s/)
  }))

test('the newest due time stands for older ones that nobody took up; what was taken up keeps its turn', () =>
  withSchedule({ catchUpSeconds: 7 * 86_400, overlap: 'queue' }, async (catalog, schedule) => {
    await enterDueTimes(catalog, schedule.id, seconds(dueAt, 1))
    await takeUpRun(catalog, await runOf(catalog, schedule), dueAt, seconds(next, 3600).toISOString())
    await enterDueTimes(catalog, schedule.id, seconds(next, 86_401))
    const now = seconds(next, 60)
    assert.equal(await tooLate({ catalog }, schedule, await runOf(catalog, schedule), now), undefined)
    const older = await tooLate({ catalog }, schedule, await runOf(catalog, schedule, next), now)
    assert.equal(older?.reason, 'superseded')
    const newest = await runOf(catalog, schedule, seconds(next, 86_400).toISOString())
    assert.equal(await tooLate({ catalog }, schedule, newest, seconds(next, 86_500)), undefined)
  }))

test('a start deadline counts from when it was taken up, and says what it waited for', () =>
  withSchedule({ catchUpSeconds: 60 }, async (catalog, schedule) => {
    await enterDueTimes(catalog, schedule.id, seconds(dueAt, 1))
    const taken = seconds(dueAt, 50)
    const deadline = seconds(dueAt, 3650)
    await takeUpRun(catalog, await runOf(catalog, schedule), taken.toISOString(), deadline.toISOString())
    await noteWaiting(catalog, await runOf(catalog, schedule), 'Held by op-other.', 'op-other')
    const run = await runOf(catalog, schedule)
    // Long after the catch-up window: it was taken up in time.
    assert.equal(await tooLate({ catalog }, schedule, run, deadline), undefined)
    const late = await tooLate({ catalog }, schedule, run, seconds(dueAt, 3651))
    assert.equal(late?.reason, 'server-busy')
    assert.match(late?.detail ?? '', /Held by op-other/)
  }))
