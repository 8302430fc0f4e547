/**
 * A schedule that comes due while its former run is at work, and starters that nobody answers as they hoped: on a real
 * Temporal. The former run stands still because it was paused, for as long as the test likes.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import type { ScheduleRunView } from '../../model/schedule-schemas.ts'
import type { OperationView } from '../../model/views.ts'
import { addSchedule, addShop, detail, dueIn, missed, runThat, succeeded } from './schedules.ts'
import { eventually, type Process, type Stack, startStack } from './stack.ts'

describe('schedules that overlap', () => {
  let stack: Stack
  let worker: Process
  let connection: Connection
  let client: Client

  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    connection = await Connection.connect({ address: stack.temporal.address })
    client = new Client({ connection })
  })
  after(async () => {
    await connection?.close()
    await stack?.stop()
  })

  const starterOf = (name: string, dueAt: string) =>
    client.workflow.getHandle(`scheduled/${name}-${dueAt.replace('.000Z', 'Z')}`)
  const waits = (run: ScheduleRunView) => run.state === 'waiting' && run.detail !== null
  const operationsOf = async (name: string) =>
    (await stack.expectOk<{ items: OperationView[] }>('GET', `/v1/operations?connection=${name}`)).items
  /** A schedule whose former run is paused in its middle. Returns the operation. */
  const standing = async (name: string, fields: Record<string, unknown>): Promise<string> => {
    await addShop(stack, name)
    await addSchedule(stack, name, { inSeconds: 1800 }, fields)
    const held = stack.workerApi.hold('after', (_method, url) => url.endsWith('/recordAttempt'))
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      `/v1/schedules/${name}/trigger`,
      {},
    )
    await held.reached
    await stack.pause(operation.id)
    held.release()
    await eventually(`${name} stands still`, async () =>
      (await stack.operation(operation.id)).state === 'paused' ? true : undefined,
    )
    return operation.id
  }
  /** Makes it come due once more, in a moment. */
  const comesDue = async (name: string): Promise<string> => {
    const { spec, firstDueAt } = dueIn(4)
    await stack.expectOk('PATCH', `/v1/schedules/${name}`, { spec })
    return firstDueAt
  }
  const ended = async (id: string): Promise<OperationView> => {
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    return view
  }
  /** Each began when the one before was over. */
  const expectInTurn = (views: readonly OperationView[]) => {
    for (const [index, view] of views.entries()) {
      const before = views[index - 1]
      if (before) assert.ok(view.createdAt >= (before.endedAt ?? '~'), `${view.id} before ${before.id} ended`)
    }
  }

  test('skip: it is missed, and says which run was at work', async () => {
    const former = await standing('skip', { overlap: 'skip' })
    const run = await runThat(stack, 'skip', await comesDue('skip'), missed)
    assert.equal(run.reason, 'overlap')
    assert.match(run.detail ?? '', new RegExp(`is still at work \\(${former}\\)`))
    assert.equal(run.operation, null)
    await stack.resume(former)
    await ended(former)
    assert.equal((await operationsOf('skip')).length, 1)
    // The next one finds nobody in its way.
    await runThat(stack, 'skip', await comesDue('skip'), succeeded)
  })

  test('buffer-one: one waits its turn, the next one is missed', async () => {
    const former = await standing('buffered', { overlap: 'buffer-one' })
    const first = await comesDue('buffered')
    const waiting = await runThat(stack, 'buffered', first, waits)
    assert.equal(waiting.holder, former)
    assert.match(waiting.detail ?? '', /is still at work/)
    const second = await runThat(stack, 'buffered', await comesDue('buffered'), missed)
    assert.equal(second.reason, 'overlap')
    assert.match(second.detail ?? '', new RegExp(`due at ${first} still waits`))
    await stack.resume(former)
    const run = await runThat(stack, 'buffered', first, succeeded)
    expectInTurn([await ended(former), await ended(run.operation ?? '')])
    assert.equal((await operationsOf('buffered')).length, 2)
  })

  test('queue: all of them run, one after the other, in the order in which they came due', async () => {
    const former = await standing('queued', { overlap: 'queue' })
    const first = await comesDue('queued')
    await runThat(stack, 'queued', first, waits)
    const second = await comesDue('queued')
    const behind = await runThat(stack, 'queued', second, waits)
    assert.match(behind.detail ?? '', new RegExp(`due at ${first} still waits`))
    await stack.resume(former)
    const [one, two] = [
      await runThat(stack, 'queued', first, succeeded),
      await runThat(stack, 'queued', second, succeeded, 240),
    ]
    expectInTurn([await ended(former), await ended(one.operation ?? ''), await ended(two.operation ?? '')])
    assert.equal((await operationsOf('queued')).length, 3)
  })

  test('a starter that has to wait asks less and less often; who asks no more is missed at the deadline all the same', async () => {
    const former = await standing('patient', { overlap: 'queue', startDeadlineSeconds: 30 })
    const dueAt = await comesDue('patient')
    await runThat(stack, 'patient', dueAt, waits)
    const pauses = await eventually('it asked several times', async () => {
      const { events } = await starterOf('patient', dueAt).fetchHistory()
      const found = (events ?? []).flatMap(event =>
        event.timerStartedEventAttributes
          ? [Number(event.timerStartedEventAttributes.startToFireTimeout?.seconds)]
          : [],
      )
      return found.length >= 3 ? found.slice(0, 3) : undefined
    })
    assert.deepEqual(pauses, [2, 4, 8])
    // From now on nobody asks.
    await worker.kill9()
    await starterOf('patient', dueAt).terminate('killed by the test')
    const run = await runThat(stack, 'patient', dueAt, missed)
    assert.equal(run.reason, 'server-busy')
    assert.equal(run.holder, former)
    worker = stack.startWorker()
    await stack.resume(former)
    await ended(former)
    assert.equal((await operationsOf('patient')).length, 1, 'it did not run after all')
  })

  test('with jitter a due time is the same one run, started at that time or later', async () => {
    await addShop(stack, 'jittered')
    const dueAt = await addSchedule(stack, 'jittered', { inSeconds: 4 }, { jitterSeconds: 8 })
    const run = await runThat(stack, 'jittered', dueAt, succeeded)
    const { startTime } = await starterOf('jittered', dueAt).describe()
    assert.ok(startTime.toISOString() >= dueAt)
    assert.equal(run.dueAt, dueAt)
    assert.equal((await operationsOf('jittered')).length, 1)
    assert.equal((await detail(stack, 'jittered')).runs.length, 1)
  })
})
