/**
 * Worker, API or Temporal is down when a schedule comes due: it runs once when they are back, or it is reported. Temporal
 * also loses its database.
 */
import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import type { ScheduleRunView } from '../../model/schedule-schemas.ts'
import type { OperationView } from '../../model/views.ts'
import { addSchedule, addShop, detail, dueIn, missed, runThat, succeeded } from './schedules.ts'
import { eventually, type Process, type Stack, startStack } from './stack.ts'

describe('schedules while something is down', () => {
  let stack: Stack
  let worker: Process
  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
  })
  after(() => stack?.stop())
  afterEach(async () => {
    for (const { name } of (await stack.expectOk<{ items: { name: string }[] }>('GET', '/v1/schedules'))
      .items) {
      await stack.expectOk('POST', `/v1/schedules/${name}/pause`, { note: 'the test is over' })
    }
  })

  const operationsOf = async (name: string) =>
    (await stack.expectOk<{ items: OperationView[] }>('GET', `/v1/operations?connection=${name}`)).items
  const later = (dueAt: string, seconds: number) => new Date(Date.parse(dueAt) + seconds * 1000).toISOString()
  const isDue = (run: ScheduleRunView) => run.state === 'due'
  const onTemporal = async <T>(ask: (client: Client) => Promise<T>): Promise<T> => {
    const connection = await Connection.connect({ address: stack.temporal.address })
    try {
      return await ask(new Client({ connection }))
    } finally {
      await connection.close()
    }
  }
  const past = (dueAt: string) =>
    eventually('it is due', async () => (Date.now() > Date.parse(dueAt) ? true : undefined))
  /** Ran once: one operation, one backup, and every starter of that time ended. */
  const ranOnce = async (name: string, dueAt: string) => {
    const run = await runThat(stack, name, dueAt, succeeded)
    assert.deepEqual(
      (await operationsOf(name)).map(({ id }) => id),
      [run.operation],
    )
    assert.equal((await stack.backups(name)).length, 1)
  }

  test('no worker lives: runs when one is back within the window; else it is reported, and does not run late', async () => {
    await addShop(stack, 'idle')
    await addShop(stack, 'idle-long')
    await worker.kill9()
    const dueAt = await addSchedule(stack, 'idle', { inSeconds: 3 })
    const short = await addSchedule(stack, 'idle-long', { inSeconds: 3 }, { catchUpSeconds: 60 })
    await runThat(stack, 'idle', dueAt, isDue)
    const gone = await runThat(stack, 'idle-long', short, missed, 180)
    assert.equal(gone.reason, 'not-taken-up')
    worker = stack.startWorker()
    await ranOnce('idle', dueAt)
    // Its starter waited in Temporal for a worker, too: it asks now, and hears that it is over.
    const told = await onTemporal(client =>
      client.workflow.getHandle(`scheduled/idle-long-${short.replace('.000Z', 'Z')}`).result(),
    )
    assert.equal((told as { state: string }).state, 'missed')
    assert.deepEqual(await operationsOf('idle-long'), [])
  })

  test('the API is down: the starter asks until it is back', async () => {
    await addShop(stack, 'headless')
    const dueAt = await addSchedule(stack, 'headless', { inSeconds: 6 })
    await stack.api.kill9()
    await eventually('the starter runs', () =>
      onTemporal(async client =>
        (await client.workflow
          .getHandle(`scheduled/headless-${dueAt.replace('.000Z', 'Z')}`)
          .describe()
          .catch(() => undefined)) === undefined
          ? undefined
          : true,
      ),
    )
    await stack.restartApi()
    await ranOnce('headless', dueAt)
  })

  test('Temporal is killed, and started again on the same file', async () => {
    await addShop(stack, 'again')
    const dueAt = await addSchedule(stack, 'again', { inSeconds: 6 })
    await stack.temporal.kill9()
    await runThat(stack, 'again', dueAt, isDue)
    await stack.temporal.restart()
    await ranOnce('again', dueAt)
  })

  test('everything is killed at once, and comes back after it was due', async () => {
    await addShop(stack, 'dark')
    const dueAt = await addSchedule(stack, 'dark', { inSeconds: 6 })
    await Promise.all([stack.temporal.kill9(), stack.api.kill9(), worker.kill9()])
    await past(dueAt)
    await stack.temporal.restart()
    await stack.restartApi()
    worker = stack.startWorker()
    await ranOnce('dark', dueAt)
  })

  test('added, changed and removed while Temporal is away: what is true afterwards is what was asked for', async () => {
    await addShop(stack, 'changed')
    await addShop(stack, 'removed')
    const first = await addSchedule(stack, 'changed', { inSeconds: 1800 })
    await addSchedule(stack, 'removed', { inSeconds: 1800 })
    await stack.temporal.kill9()
    const { spec, firstDueAt } = dueIn(8)
    await stack.expectOk('PATCH', '/v1/schedules/changed', { spec })
    await stack.expectOk('DELETE', '/v1/schedules/removed')
    await past(firstDueAt)
    await stack.temporal.restart()
    await ranOnce('changed', firstDueAt)
    assert.ok(!(await detail(stack, 'changed')).next.includes(first))
    await eventually('Temporal has it no more', () =>
      onTemporal(async client => {
        const left = []
        for await (const { scheduleId } of client.schedule.list()) left.push(scheduleId)
        return left.includes('schedule/removed') ? undefined : true
      }),
    )
  })

  test('Temporal loses its database: made again; the newest due time runs, every other one is reported', async () => {
    await addShop(stack, 'forgotten')
    await addShop(stack, 'expired')
    const first = await addSchedule(stack, 'forgotten', { inSeconds: 4, everySeconds: 60 })
    // Hourly: nothing newer stands for it when its catch-up window of a minute is over.
    const short = await addSchedule(stack, 'expired', { inSeconds: 4 }, { catchUpSeconds: 60 })
    await stack.temporal.kill9()
    const file = join(stack.directory, 'temporal.sqlite')
    for (const suffix of ['', '-wal', '-shm']) await rm(`${file}${suffix}`, { force: true })

    const gone = await runThat(stack, 'expired', short, missed, 180)
    assert.equal(gone.reason, 'not-taken-up')
    assert.match(gone.detail ?? '', /Nobody took it up within 60 s/)
    const superseded = await runThat(stack, 'forgotten', first, missed)
    assert.equal(superseded.reason, 'superseded')
    await stack.temporal.restart()

    const run = await eventually('a newer due time ran', async () => {
      const { runs } = await detail(stack, 'forgotten')
      return runs.find(succeeded)
    })
    assert.ok(run.dueAt >= later(first, 60))
    const { drift, runs } = await detail(stack, 'forgotten')
    assert.match(drift?.detail ?? '', /Temporal had it no more/)
    for (const name of ['forgotten', 'expired', 'again']) {
      await eventually(`${name} is there again`, () =>
        onTemporal(async client =>
          (await client.schedule.getHandle(`schedule/${name}`).describe()).spec ? true : undefined,
        ),
      )
    }
    // Every due time is accounted for, without a hole.
    const due = runs.map(one => one.dueAt).sort()
    for (const [index, dueAt] of due.entries()) assert.equal(dueAt, later(first, 60 * index))
    assert.equal((await operationsOf('expired')).length, 0)
  })
})
