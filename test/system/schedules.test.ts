/**
 * Schedules on a real Temporal: what comes due runs once, waits for its server, or is reported; whoever dies, and
 * whatever somebody does to the schedule in Temporal's own tools.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import type { OperationView } from '../../model/views.ts'
import { addSchedule, addShop, detail, missed, runThat, succeeded } from './schedules.ts'
import { eventually, type Stack, startStack } from './stack.ts'

describe('schedules', () => {
  let stack: Stack
  let connection: Connection
  let client: Client

  before(async () => {
    stack = await startStack()
    connection = await Connection.connect({ address: stack.temporal.address })
    client = new Client({ connection })
  })
  after(async () => {
    await connection?.close()
    await stack?.stop()
  })

  const starterOf = (name: string, dueAt: string) =>
    client.workflow.getHandle(`scheduled/${name}-${dueAt.replace('.000Z', 'Z')}`)
  const operationsOf = async (name: string) =>
    (await stack.expectOk<{ items: OperationView[] }>('GET', `/v1/operations?connection=${name}`)).items
  /** A backup by hand that holds the server until it is let go. */
  const hold = async (name: string) => {
    const held = stack.workerApi.hold('after', (_method, url) => url.endsWith('/recordAttempt'))
    const operation = await stack.backup({ connection: name, destinations: [name] })
    await held.reached
    return { id: operation.id, release: held.release }
  }

  test('what comes due is backed up, once, and Temporal says so', async () => {
    await addShop(stack, 'plain')
    const dueAt = await addSchedule(stack, 'plain', { inSeconds: 6 })
    const before = await detail(stack, 'plain')
    assert.equal(before.next[0], dueAt)
    assert.equal(before.words.startsWith('every 1 h'), true)
    const description = await client.schedule.getHandle('schedule/plain').describe()
    assert.equal(description.info.nextActionTimes[0]?.toISOString(), dueAt)
    assert.match(description.state.note ?? '', /Kept by Holdfast/)

    const run = await runThat(stack, 'plain', dueAt, succeeded)
    const starter = await starterOf('plain', dueAt).describe()
    assert.equal(starter.type, 'scheduledBackup')
    assert.equal(await starter.staticSummary(), 'plain: backup plain → plain, when due')
    assert.deepEqual(starter.searchAttributes.HoldfastConnection, ['plain'])
    assert.deepEqual(await starterOf('plain', dueAt).result(), {
      state: 'started',
      operation: run.operation,
      detail: `It is operation ${run.operation}.`,
    })
    assert.deepEqual(starter.searchAttributes.HoldfastOperation ?? [run.operation], [run.operation])
    assert.equal((await stack.backups('plain')).length, 1)
    assert.equal((await operationsOf('plain')).length, 1)
  })

  test('waits for a server that is held, and says by whom', async () => {
    await addShop(stack, 'held')
    const holder = await hold('held')
    const dueAt = await addSchedule(stack, 'held', { inSeconds: 2 })
    const waiting = await runThat(stack, 'held', dueAt, run => run.holder !== null)
    assert.equal(waiting.state, 'waiting')
    assert.equal(waiting.holder, holder.id)
    holder.release()
    const run = await runThat(stack, 'held', dueAt, succeeded)
    assert.notEqual(run.operation, holder.id)
    assert.equal((await stack.backups('held')).length, 2)
  })

  test('a server that is held beyond the deadline: missed, with the holder', async () => {
    await addShop(stack, 'late')
    const holder = await hold('late')
    const dueAt = await addSchedule(stack, 'late', { inSeconds: 2 }, { startDeadlineSeconds: 5 })
    const run = await runThat(stack, 'late', dueAt, missed)
    assert.equal(run.reason, 'server-busy')
    assert.equal(run.holder, holder.id)
    assert.match(run.detail ?? '', new RegExp(holder.id))
    holder.release()
    await stack.ended(holder.id)
    const { lastMissed, missed: list } = await detail(stack, 'late')
    assert.equal(lastMissed?.dueAt, dueAt)
    assert.equal(list.length, 1)
    assert.equal((await operationsOf('late')).length, 1, 'it did not run after all')
    assert.equal(((await starterOf('late', dueAt).result()) as { state: string }).state, 'missed')
  })

  test('pause, resume, edit, trigger, remove', async () => {
    await addShop(stack, 'steered')
    await addSchedule(stack, 'steered', { inSeconds: 1800 })
    const paused = await stack.expectOk<{ paused: boolean; next: string[] }>(
      'POST',
      '/v1/schedules/steered/pause',
      { note: 'moving house' },
    )
    assert.equal(paused.paused, true)
    assert.deepEqual(paused.next, [])
    const handle = client.schedule.getHandle('schedule/steered')
    assert.match((await handle.describe()).state.note ?? '', /^Paused: moving house\./)
    await stack.expectOk('POST', '/v1/schedules/steered/resume', {})
    assert.equal((await handle.describe()).state.paused, false)

    const { revision } = await detail(stack, 'steered')
    const change = { spec: { cron: '30 2 * * *', timeZone: 'Europe/Berlin' }, jitterSeconds: 30 }
    const stale = await stack.call('PATCH', '/v1/schedules/steered', change, { 'if-match': '"1"' })
    assert.equal(stale.status, 412)
    const fresh = await stack.call('PATCH', '/v1/schedules/steered', change, { 'if-match': `"${revision}"` })
    assert.equal(fresh.status, 200, JSON.stringify(fresh.body))
    const described = await handle.describe()
    assert.equal(described.spec.timezone, 'Europe/Berlin')
    assert.equal(described.spec.jitter, 30_000)
    assert.equal((await detail(stack, 'steered')).drift, null, 'our own changes are no drift')

    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      '/v1/schedules/steered/trigger',
      {},
    )
    assert.equal((await stack.ended(operation.id)).state, 'succeeded')
    const [run] = (await detail(stack, 'steered')).runs
    assert.equal(run?.operation, operation.id)
    assert.notEqual(run?.triggeredBy, null)

    for (const path of ['/v1/connections/steered', '/v1/destinations/steered']) {
      const refused = await stack.refused('DELETE', path)
      assert.equal(refused.body.code, 'request.in-use')
      assert.match(refused.body.detail, /Schedule steered uses/)
    }
    await stack.expectOk('DELETE', '/v1/schedules/steered')
    await assert.rejects(handle.describe())
    await stack.expectOk('DELETE', '/v1/connections/steered')
  })

  test('a verification is scheduled like a backup; without a backup it is missed, and why is said', async () => {
    await addShop(stack, 'proven')
    const verify = { kind: 'verify', options: { level: 'exists' } }
    const early = await addSchedule(stack, 'proven', { inSeconds: 3 }, verify)
    const refused = await runThat(stack, 'proven', early, missed)
    assert.equal(refused.reason, 'refused')
    assert.match(refused.detail ?? '', /^backup.not-found: /)
    await stack.expectOk('DELETE', '/v1/schedules/proven')
    const backup = await stack.ended(
      (await stack.backup({ connection: 'proven', destinations: ['proven'] })).id,
    )
    const dueAt = await addSchedule(stack, 'proven', { inSeconds: 3 }, verify)
    const run = await runThat(stack, 'proven', dueAt, succeeded)
    const operation = await stack.operation(run.operation ?? '')
    assert.equal(operation.kind, 'verify')
    assert.equal(operation.backup, backup.backup)
  })

  test('its starter dies: before it asks, before it hears, while it waits, after it was answered', async () => {
    const asks = (_method: string, url: string) => url.endsWith('/startDue')
    for (const moment of ['before', 'late', 'after'] as const) {
      const name = `killed-${moment}`
      await addShop(stack, name)
      const held = stack.workerApi.hold(moment, asks)
      const dueAt = await addSchedule(stack, name, { inSeconds: 3 })
      await held.reached
      await starterOf(name, dueAt).terminate('killed by the test')
      if (moment === 'late') held.release()
      else held.cut()
      // A starter that is gone before it asked is woken again; one that was heard is not needed any more.
      await runThat(stack, name, dueAt, succeeded)
      assert.equal((await operationsOf(name)).length, 1, moment)
    }
    await addShop(stack, 'killed-waiting')
    const holder = await hold('killed-waiting')
    const dueAt = await addSchedule(stack, 'killed-waiting', { inSeconds: 2 })
    await runThat(stack, 'killed-waiting', dueAt, run => run.state === 'waiting')
    await starterOf('killed-waiting', dueAt).terminate('killed by the test')
    holder.release()
    const run = await runThat(stack, 'killed-waiting', dueAt, succeeded)
    assert.equal((await operationsOf('killed-waiting')).length, 2)

    // A reset asks again, and hears the same.
    const { runId } = await starterOf('killed-waiting', dueAt).describe()
    const { events } = await starterOf('killed-waiting', dueAt).fetchHistory()
    const first = events?.find(event => event.workflowTaskCompletedEventAttributes)?.eventId
    assert.ok(first)
    await client.workflowService.resetWorkflowExecution({
      namespace: 'default',
      workflowExecution: { workflowId: `scheduled/killed-waiting-${dueAt.replace('.000Z', 'Z')}`, runId },
      reason: 'a test',
      requestId: 'reset-1',
      workflowTaskFinishEventId: first,
    })
    const again = (await starterOf('killed-waiting', dueAt).result()) as { operation: string }
    assert.equal(again.operation, run.operation)
    assert.equal((await operationsOf('killed-waiting')).length, 2)
  })

  test('changed, paused, deleted, triggered in Temporal: brought back, and nothing runs that is not due', async () => {
    await addShop(stack, 'drifting')
    await addSchedule(stack, 'drifting', { inSeconds: 1800 })
    const handle = client.schedule.getHandle('schedule/drifting')
    const whole = JSON.stringify((await handle.describe()).spec)

    await handle.pause('somebody thinks he may')
    await eventually('it is brought back', async () =>
      (await handle.describe()).state.paused ? undefined : true,
    )
    await eventually('it is noted', async () =>
      /Changed in Temporal, not here: pause\./.test((await detail(stack, 'drifting')).drift?.detail ?? '')
        ? true
        : undefined,
    )
    assert.match((await handle.describe()).state.note ?? '', /Brought back /)

    await handle.update(previous => ({ ...previous, spec: { intervals: [{ every: '1m' }] } }))
    await eventually('it is brought back', async () =>
      JSON.stringify((await handle.describe()).spec) === whole ? true : undefined,
    )
    await handle.delete()
    await eventually('it is there again', async () => ((await handle.describe()) ? true : undefined))

    await handle.trigger()
    const starter = await eventually('the starter ended', async () => {
      const [last] = (await handle.describe()).info.recentActions.slice(-1)
      return last && (await client.workflow.getHandle(last.action.workflow.workflowId).result())
    })
    assert.equal((starter as { state: string }).state, 'not-due')
    assert.equal((await operationsOf('drifting')).length, 0)
  })
})
