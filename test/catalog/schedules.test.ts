/** Rows of schedules and of their due times: none is forgotten, none is there twice, none is settled twice. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Catalog } from '../../catalog/open.ts'
import { findOperation } from '../../catalog/operations.ts'
import {
  changeSchedule,
  enterDueTimes,
  findRun,
  forgetOldRuns,
  giveRunBack,
  listRuns,
  missRun,
  pendingRuns,
  startRun,
  takeUpRun,
} from '../../catalog/schedule-runs.ts'
import { insertSchedule, readSchedule, removeSchedule } from '../../catalog/schedules.ts'
import type { ScheduleRun } from '../../model/schedules.ts'
import { operation, withSchedule } from './support.ts'

const all = async (catalog: Catalog) => (await listRuns(catalog, 'one', { limit: 10_000 })).reverse()
const pending = async (catalog: Catalog) => {
  const [run] = await pendingRuns(catalog, 'one')
  assert.ok(run)
  return run
}

test('one run a day, also on the days on which the clock changes', () =>
  withSchedule({}, async (catalog, { id }) => {
    await enterDueTimes(catalog, id, new Date('2026-10-28T12:00:00Z'))
    assert.deepEqual(
      (await all(catalog)).map(run => run.dueAt),
      [
        '2026-10-21T00:30:00.000Z',
        '2026-10-22T00:30:00.000Z',
        '2026-10-23T00:30:00.000Z',
        '2026-10-24T00:30:00.000Z',
        '2026-10-25T00:30:00.000Z',
        '2026-10-26T01:30:00.000Z',
        '2026-10-27T01:30:00.000Z',
        '2026-10-28T01:30:00.000Z',
      ],
    )
    await enterDueTimes(catalog, id, new Date('2027-03-30T12:00:00Z'))
    const spring = (await all(catalog)).map(run => run.dueAt).filter(due => due > '2027-03-27')
    assert.deepEqual(spring, [
      '2027-03-27T01:30:00.000Z',
      '2027-03-28T01:30:00.000Z',
      '2027-03-29T00:30:00.000Z',
      '2027-03-30T00:30:00.000Z',
    ])
    assert.equal((await all(catalog)).length, 161)
  }))

test('entered by several at once and over a long absence: each due time once', () =>
  withSchedule({ spec: { everySeconds: 60, offsetSeconds: 0 } }, async (catalog, { id }) => {
    const now = new Date('2026-10-21T12:00:00Z')
    await Promise.all([1, 2, 3, 4].map(() => enterDueTimes(catalog, id, now)))
    const runs = await all(catalog)
    assert.equal(runs.length, 24 * 60)
    assert.equal(new Set(runs.map(run => run.dueAt)).size, 24 * 60)
    assert.equal(new Set(runs.map(run => run.operationId)).size, 24 * 60)
    await enterDueTimes(catalog, id, new Date('2026-10-21T11:00:00Z'))
    assert.equal((await all(catalog)).length, 24 * 60, 'a clock that goes back enters nothing')
    await forgetOldRuns(catalog, id, 100)
    assert.equal((await all(catalog)).length, 24 * 60, 'what is not settled is not forgotten')
    for (const run of runs) await missRun(catalog, run, 'not-taken-up', 'nobody')
    await forgetOldRuns(catalog, id, 100)
    assert.equal((await all(catalog)).length, 100)
  }))

test('between start and end only', () =>
  withSchedule(
    { startAt: '2026-10-23T00:30:00.000Z', endAt: '2026-10-25T00:30:00.000Z' },
    async (catalog, { id }) => {
      await enterDueTimes(catalog, id, new Date('2026-11-20T12:00:00Z'))
      assert.deepEqual(
        (await all(catalog)).map(run => run.dueAt.slice(0, 10)),
        ['2026-10-23', '2026-10-24', '2026-10-25'],
      )
    },
  ))

test('a run becomes one operation, however many try; given back, it waits; missed, it stays missed', () =>
  withSchedule({}, async (catalog, { id }) => {
    await enterDueTimes(catalog, id, new Date('2026-10-21T12:00:00Z'))
    const due = await pending(catalog)
    const made = operation(due.operationId)
    const won = await Promise.all([1, 2, 3].map(() => startRun(catalog, due, made)))
    assert.deepEqual(won.sort(), [false, false, true])
    assert.equal((await findOperation(catalog, due.operationId))?.state, 'queued')
    assert.equal(await missRun(catalog, due, 'not-taken-up', 'too late'), false)

    assert.equal(await giveRunBack(catalog, due.operationId, 'held', 'op-holder'), true)
    assert.equal(await findOperation(catalog, due.operationId), undefined)
    const waiting = await pending(catalog)
    assert.deepEqual([waiting.state, waiting.holder], ['waiting', 'op-holder'])
    assert.equal(await giveRunBack(catalog, 'op-byhand', 'held', null), false)

    assert.equal(await missRun(catalog, waiting, 'server-busy', 'held'), true)
    assert.equal(await startRun(catalog, waiting, made), false)
    assert.equal(await findOperation(catalog, due.operationId), undefined)
  }))

test('the first to take it up sets the deadline', () =>
  withSchedule({}, async (catalog, { id }) => {
    await enterDueTimes(catalog, id, new Date('2026-10-21T12:00:00Z'))
    const due = await pending(catalog)
    await takeUpRun(catalog, due, '2026-10-21T00:30:01.000Z', '2026-10-21T01:30:01.000Z')
    await takeUpRun(catalog, due, '2026-10-21T00:40:00.000Z', '2026-10-21T01:40:00.000Z')
    assert.equal((await pending(catalog)).deadlineAt, '2026-10-21T01:30:01.000Z')
  }))

test('an edit begins anew and forgets nothing that came due before it', () =>
  withSchedule({}, async (catalog, { id }) => {
    const at = new Date('2026-10-22T12:00:00Z')
    await changeSchedule(catalog, 'nightly', at, was => ({
      ...was,
      spec: { cron: '0 12 * * *', timeZone: 'UTC' },
    }))
    await enterDueTimes(catalog, id, new Date('2026-10-24T00:00:00Z'))
    assert.deepEqual(
      (await all(catalog)).map(run => run.dueAt),
      ['2026-10-21T00:30:00.000Z', '2026-10-22T00:30:00.000Z', '2026-10-23T12:00:00.000Z'],
    )
    assert.equal((await readSchedule(catalog, 'nightly')).revision, 2)
  }))

test('paused it does not come due, and what had not started says so', () =>
  withSchedule({}, async (catalog, { id }) => {
    await changeSchedule(catalog, 'nightly', new Date('2026-10-21T12:00:00Z'), was => ({
      ...was,
      paused: true,
      note: 'moving',
    }))
    await enterDueTimes(catalog, id, new Date('2026-10-25T12:00:00Z'))
    await changeSchedule(catalog, 'nightly', new Date('2026-10-25T12:00:00Z'), was => ({
      ...was,
      paused: false,
    }))
    await enterDueTimes(catalog, id, new Date('2026-10-26T12:00:00Z'))
    const told = (run: ScheduleRun) => [run.dueAt, run.state, run.reason]
    assert.deepEqual((await all(catalog)).map(told), [
      ['2026-10-21T00:30:00.000Z', 'missed', 'paused'],
      ['2026-10-26T01:30:00.000Z', 'due', null],
    ])
    assert.match((await findRun(catalog, id, '2026-10-21T00:30:00.000Z'))?.detail ?? '', /moving/)
  }))

test('removed and made again it is another one', () =>
  withSchedule({}, async (catalog, schedule) => {
    await assert.rejects(insertSchedule(catalog, { ...schedule, id: 'two' }), { code: 'request.exists' })
    await enterDueTimes(catalog, 'one', new Date('2026-10-21T12:00:00Z'))
    const before = await pending(catalog)
    await removeSchedule(catalog, 'nightly')
    await assert.rejects(removeSchedule(catalog, 'nightly'), { code: 'request.not-found' })
    await insertSchedule(catalog, { ...schedule, id: 'two' })
    await enterDueTimes(catalog, 'two', new Date('2026-10-21T12:00:00Z'))
    const [again] = await pendingRuns(catalog, 'two')
    assert.notEqual(again?.operationId, before.operationId)
  }))
