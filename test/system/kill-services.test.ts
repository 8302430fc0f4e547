/**
 * Everything else that can die or misbehave under a backup: the tool, the API, Temporal, the store; a worker that is
 * suspended and wakes up after its successor finished; a reset and a termination from Temporal's own tools.
 */
import assert from 'node:assert/strict'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client, Connection } from '@temporalio/client'
import type { Destination } from '../../storage/destination.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectNoBackup, expectOneBackup, processesWith } from './inspect.ts'
import { dumpWaits, lockTable, pidsIn } from './sessions.ts'
import { eventually, type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

describe('services die under a backup', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let destination: Destination
  let postgres: TestPostgres
  let worker: Process
  let source = ''
  let count = 0

  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    ;({ store, front, destination } = await startVault(stack, 'services'))
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 26)
    postgres = await startPostgres()
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 20)
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
  })

  after(async () => {
    await stack?.stop()
    await front?.close()
    await postgres?.stop()
    await destination?.close()
    await store?.stop()
  })

  /** A connection of its own, so that tests do not meet each other's locks. */
  const sqlite = async (format: 'copy' | 'dump') => {
    count += 1
    const connection = `db-${count}`
    const path = join(stack.directory, `${connection}.db`)
    await copyFile(source, path)
    const method = format === 'dump' ? 'logical' : 'physical'
    await stack.expectOk('POST', '/v1/connections', { name: connection, url: `sqlite:${path}`, method })
    return connection
  }
  const at = (connection: string, text: string) => (method: string, url: string) =>
    ['PUT', 'POST'].includes(method) && url.includes(`/${connection}/backups/`) && url.includes(text)

  const expectOne = async (connection: string, id: string) => {
    const view = await stack.ended(id, 180)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    await expectOneBackup(destination, connection, view.backup)
    expectCleanHost(stack.home, id)
    assert.equal((await stack.backups(connection)).filter(one => one.id === view.backup).length, 1)
    return view
  }

  for (const format of ['copy', 'dump'] as const) {
    test(`${format}: the API is killed in mid-upload and comes back`, async () => {
      const connection = await sqlite(format)
      const held = front.hold('before', at(connection, 'partNumber=2&'))
      const { id } = await stack.backup({ connection, destinations: ['vault'], format })
      await held.reached
      await stack.api.kill9()
      held.release()
      await stack.restartApi()
      await expectOne(connection, id)
    })

    test(`${format}: the API is killed after it stored the row, before it said so`, async () => {
      const connection = await sqlite(format)
      const held = stack.workerApi.hold(
        'after',
        (method, url) => method !== 'GET' && /record-?backup/i.test(url),
      )
      const { id } = await stack.backup({ connection, destinations: ['vault'], format })
      await held.reached
      await stack.api.kill9()
      held.cut()
      await stack.restartApi()
      await expectOne(connection, id)
    })

    test(`${format}: Temporal is killed in mid-upload and comes back on the same file`, async () => {
      const connection = await sqlite(format)
      const held = front.hold('before', at(connection, 'partNumber=2&'))
      const { id } = await stack.backup({ connection, destinations: ['vault'], format })
      await held.reached
      await stack.temporal.kill9()
      held.release()
      await stack.temporal.restart()
      await expectOne(connection, id)
    })

    test(`${format}: the store is killed in mid-upload and comes back`, async () => {
      const connection = await sqlite(format)
      const held = front.hold('before', at(connection, 'partNumber=2&'))
      const { id } = await stack.backup({ connection, destinations: ['vault'], format })
      await held.reached
      await store.kill()
      held.release()
      const { root, port, accessKeyId, secretAccessKey } = store
      store = await startVersitygw({ root, port, credentials: { accessKeyId, secretAccessKey } })
      await expectOne(connection, id)
    })

    test(`${format}: a suspended worker wakes up after its successor has finished`, async () => {
      const connection = await sqlite(format)
      const held = front.hold('before', at(connection, 'partNumber=2&'))
      const { id } = await stack.backup({ connection, destinations: ['vault'], format })
      await held.reached
      const zombie = worker
      zombie.child.kill('SIGSTOP')
      worker = stack.startWorker()
      const view = await expectOne(connection, id)
      zombie.child.kill('SIGCONT')
      held.release()
      // It must come to know that its time is over, and touch nothing.
      await eventually('the zombie gives up its tool', async () =>
        processesWith(id).length === 0 ? true : undefined,
      )
      await zombie.terminate()
      await expectOneBackup(destination, connection, view.backup)
      expectCleanHost(stack.home, id)
    })

    test(`${format}: a reset from Temporal's own tools runs it again and changes nothing`, async () => {
      const connection = await sqlite(format)
      const { id } = await stack.backup({ connection, destinations: ['vault'], format })
      const view = await expectOne(connection, id)
      const seenBefore = front.seen.length
      const connectionToTemporal = await Connection.connect({ address: stack.temporal.address })
      try {
        const client = new Client({ connection: connectionToTemporal })
        const history = await client.workflow
          .getHandle(view.workflowId, view.runId ?? undefined)
          .fetchHistory()
        const first = (history.events ?? []).find(event => event.workflowTaskCompletedEventAttributes)
        assert.ok(first?.eventId)
        const reset = await connectionToTemporal.workflowService.resetWorkflowExecution({
          namespace: 'default',
          workflowExecution: { workflowId: view.workflowId, runId: view.runId },
          reason: 'test',
          requestId: crypto.randomUUID(),
          workflowTaskFinishEventId: first.eventId,
        })
        await client.workflow.getHandle(view.workflowId, reset.runId ?? undefined).result()
      } finally {
        await connectionToTemporal.close()
      }
      await expectOneBackup(destination, connection, view.backup)
      expectCleanHost(stack.home, id)
      const parts = front.seen.slice(seenBefore).filter(line => line.includes('partNumber='))
      assert.deepEqual(parts, [], 'nothing was sent again')
    })

    test(`${format}: terminated from Temporal's own tools, then started again: the lock is free, the sweep finds the rest`, async () => {
      const connection = await sqlite(format)
      const held = front.hold('before', at(connection, 'partNumber=2&'))
      const first = await stack.backup({ connection, destinations: ['vault'], format })
      await held.reached
      const connectionToTemporal = await Connection.connect({ address: stack.temporal.address })
      try {
        const client = new Client({ connection: connectionToTemporal })
        await client.workflow.getHandle(first.workflowId).terminate('test')
      } finally {
        await connectionToTemporal.close()
      }
      held.release()
      const ended = await stack.ended(first.id)
      assert.equal(ended.error?.code, 'operation.terminated')
      const second = await stack.backup({ connection, destinations: ['vault'], format })
      await expectOne(connection, second.id)
      const { id: sweep } = await stack.sweep()
      assert.equal((await stack.ended(sweep)).state, 'succeeded')
      await expectNoBackup(destination, connection, first.backup)
      expectCleanHost(stack.home, first.id)
    })
  }

  for (const format of ['custom', 'directory'] as const) {
    test(`pg ${format}: the tool is killed and runs again`, async () => {
      const locker = await lockTable(postgres.url('shop'), 'blobs')
      const { id } = await stack.backup({ connection: 'pg', destinations: ['vault'], format })
      process.kill(await dumpWaits(postgres, id), 'SIGKILL')
      await locker.release()
      await expectOne('pg', id)
      assert.equal(
        await postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast'"),
        '0',
      )
    })

    test(`pg ${format}: a worker that is suspended while the tool runs wakes up and disturbs nobody`, async () => {
      const locker = await lockTable(postgres.url('shop'), 'blobs')
      const { id } = await stack.backup({ connection: 'pg', destinations: ['vault'], format })
      const first = await dumpWaits(postgres, id)
      const zombie = worker
      const suspendedAt = Date.now()
      zombie.child.kill('SIGSTOP')
      worker = stack.startWorker()
      // The streamed tool is replaced, the staged one is re-attached; either way the new worker beats for the step.
      await eventually('the new worker has the step', async () => {
        const { progress } = await stack.operation(id)
        return progress && Date.parse(progress.startedAt) > suspendedAt ? true : undefined
      })
      if (format === 'directory') assert.equal(postgresTool(id), first, 're-attached, not run again')
      zombie.child.kill('SIGCONT')
      await sleep(3000)
      if (format === 'directory') assert.equal(postgresTool(id), first, 'the zombie left it alone')
      await locker.release()
      await expectOne('pg', id)
      await zombie.terminate()
    })

    test(`pg ${format}: the worker is killed while the tool waits for a lock`, async () => {
      const locker = await lockTable(postgres.url('shop'), 'blobs')
      const { id } = await stack.backup({ connection: 'pg', destinations: ['vault'], format })
      await dumpWaits(postgres, id)
      await worker.kill9()
      worker = stack.startWorker()
      if (format === 'custom') {
        await eventually('the streamed tool died with its worker and runs again', async () =>
          postgresTool(id),
        )
      }
      await locker.release()
      await expectOne('pg', id)
      assert.equal(
        await postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast'"),
        '0',
      )
    })
  }
})

/** Pid of a pg_dump whose working directory is the operation's staging. */
function postgresTool(operation: string): number | undefined {
  return pidsIn(operation, 'pg_dump')[0]
}
