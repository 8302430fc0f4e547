/** Cancel in every phase of a backup and a restore: answered within seconds, and nothing is left. */
import assert from 'node:assert/strict'
import { copyFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import type { Interceptor, Moment } from '../servers/interceptor.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectNoBackup, expectOneBackup } from './inspect.ts'
import { dumpWaits, lockTable } from './sessions.ts'
import { eventually, type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

/** The promise: clean within this many seconds. A bound of behaviour, not a measurement of speed. */
const cleanWithinSeconds = 15

describe('cancel', () => {
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
    ;({ store, front, destination } = await startVault(stack, 'cancel'))
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

  const cancelled = async (operation: OperationView): Promise<OperationView> => {
    await stack.expectOk('POST', `/v1/operations/${operation.id}/cancel`)
    const view = await stack.ended(operation.id, cleanWithinSeconds)
    expectCleanHost(stack.home, operation.id)
    return view
  }

  const phases: {
    name: string
    moment: Moment
    matches: (connection: string) => (method: string, url: string) => boolean
  }[] = [
    {
      name: 'precheck',
      moment: 'before',
      matches: () => (method, url) => method === 'PUT' && url.includes('.holdfast-precheck'),
    },
    {
      name: 'the store does not answer',
      moment: 'before',
      matches: connection => (method, url) =>
        method === 'GET' && url.includes(`/${connection}/backups/`) && url.includes('manifest.json'),
    },
    {
      name: 'upload is being opened',
      moment: 'after',
      matches: connection => (method, url) =>
        method === 'POST' && url.includes(`/${connection}/backups/`) && url.includes('?uploads'),
    },
    {
      name: 'parts are on their way',
      moment: 'before',
      matches: connection => (method, url) =>
        method === 'PUT' && url.includes(`/${connection}/backups/`) && url.includes('partNumber=2&'),
    },
    {
      name: 'object is being completed',
      moment: 'before',
      matches: connection => (method, url) =>
        method === 'POST' && url.includes(`/${connection}/backups/`) && url.includes('uploadId='),
    },
  ]

  /** A database of its own, so that no test waits for another's lock. */
  const newConnection = async (method: 'logical' | 'physical' = 'physical'): Promise<string> => {
    count += 1
    const name = `db-${count}`
    const path = join(stack.directory, `${name}.db`)
    await copyFile(source, path)
    await stack.expectOk('POST', '/v1/connections', { name, url: `sqlite:${path}`, method })
    return name
  }

  for (const format of ['copy', 'dump'] as const) {
    for (const phase of phases) {
      test(`backup, ${format}, while ${phase.name}`, async () => {
        const connection = await newConnection(format === 'dump' ? 'logical' : 'physical')
        const held = front.hold(phase.moment, phase.matches(connection))
        const operation = await stack.backup({ connection, destinations: ['vault'], format })
        await held.reached
        const view = await cancelled(operation)
        assert.equal(view.state, 'cancelled')
        assert.equal(view.error?.code, 'operation.cancelled')
        held.cut()
        await expectNoBackup(destination, connection, view.backup)
      })
    }
  }

  test('backup and restore, at once', async () => {
    const connection = await newConnection()
    const backup = await cancelled(await stack.backup({ connection, destinations: ['vault'] }))
    assert.equal(backup.state, 'cancelled')
    await expectNoBackup(destination, connection, backup.backup)
    const made = await stack.ended((await stack.backup({ connection, destinations: ['vault'] })).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    const target = { connection, database: join(stack.directory, 'at-once.db') }
    const restore = await cancelled(await stack.restore({ backup: made.backup, target }))
    assert.equal(restore.state, 'cancelled')
    assert.ok((await readdir(stack.directory)).every(one => !one.includes('at-once')))
  })

  test('backup, while its step waits to be tried again', async () => {
    const connection = await newConnection()
    let broken = true
    const isAttempt = (line: string) => line.includes('/recordAttempt')
    stack.workerApi.answer((_method, url) => broken && isAttempt(url), 503, '{}', Number.POSITIVE_INFINITY)
    const before = stack.workerApi.seen.filter(isAttempt).length
    const operation = await stack.backup({ connection, destinations: ['vault'] })
    // One run of the step asks six times before it leaves trying again to Temporal.
    await eventually('the step is tried again', async () =>
      stack.workerApi.seen.filter(isAttempt).length > before + 6 ? true : undefined,
    )
    const view = await cancelled(operation)
    broken = false
    assert.equal(view.state, 'cancelled')
    await expectNoBackup(destination, connection, view.backup)
  })

  test('backup, and its worker is killed before it hears of it', async () => {
    const connection = await newConnection()
    const held = front.hold(
      'before',
      (method, url) => method === 'PUT' && url.includes(`/${connection}/`) && url.includes('partNumber=2&'),
    )
    const operation = await stack.backup({ connection, destinations: ['vault'] })
    await held.reached
    await stack.expectOk('POST', `/v1/operations/${operation.id}/cancel`)
    await worker.kill9()
    worker = stack.startWorker()
    const view = await stack.ended(operation.id)
    assert.equal(view.state, 'cancelled', JSON.stringify(view.error))
    held.cut()
    expectCleanHost(stack.home, operation.id)
    await expectNoBackup(destination, connection, view.backup)
  })

  test('verify, in the middle of the data', async () => {
    const connection = await newConnection()
    const made = await stack.ended((await stack.backup({ connection, destinations: ['vault'] })).id)
    const held = front.hold(
      'midway',
      (method, url) => method === 'GET' && url.includes(made.backup) && url.includes('.zst'),
    )
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      `/v1/backups/${made.backup}/verify`,
      { level: 'checksum' },
    )
    await held.reached
    const view = await cancelled(operation)
    assert.equal(view.state, 'cancelled')
    held.cut()
    assert.equal((await stack.backups(connection))[0]?.verified, null, 'half a look is no verdict')
    await expectOneBackup(destination, connection, made.backup)
  })

  for (const moment of ['before', 'late'] as const) {
    test(`a cancel that races the commit (${moment}): one valid backup or none, never half of one`, async () => {
      const connection = await newConnection()
      const held = front.hold(
        moment,
        (method, url) => method === 'PUT' && url.includes(`/${connection}/`) && url.includes('manifest.json'),
      )
      const operation = await stack.backup({ connection, destinations: ['vault'] })
      await held.reached
      await stack.expectOk('POST', `/v1/operations/${operation.id}/cancel`)
      held.release()
      const view = await stack.ended(operation.id)
      expectCleanHost(stack.home, operation.id)
      if (view.state === 'succeeded') await expectOneBackup(destination, connection, view.backup)
      else await expectNoBackup(destination, connection, view.backup)
      assert.equal((await stack.backups(connection)).length, view.state === 'succeeded' ? 1 : 0)
    })
  }

  for (const format of ['custom', 'directory'] as const) {
    test(`backup, pg ${format}, while the tool waits for a lock`, async () => {
      const lock = await lockTable(postgres.url('shop'), 'blobs')
      const operation = await stack.backup({ connection: 'pg', destinations: ['vault'], format })
      await dumpWaits(postgres, operation.id)
      const view = await cancelled(operation)
      assert.equal(view.state, 'cancelled')
      await lock.release()
      await expectNoBackup(destination, 'pg', view.backup)
      await eventually('its session is gone', async () =>
        (await postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast'")) ===
        '0'
          ? true
          : undefined,
      )
    })

    test(`restore, pg ${format}, in the middle of the data`, async () => {
      const made = await stack.ended(
        (await stack.backup({ connection: 'pg', destinations: ['vault'], format })).id,
      )
      assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
      const held = front.hold(
        'midway',
        (method, url) => method === 'GET' && url.includes(made.backup) && url.includes('.zst'),
      )
      const operation = await stack.restore({
        backup: made.backup,
        target: { connection: 'pg', database: `gone-${format}` },
      })
      await held.reached
      const view = await cancelled(operation)
      assert.equal(view.state, 'cancelled')
      held.cut()
      const names = (await postgres.sql('SELECT datname FROM pg_database')).split('\n')
      assert.deepEqual(
        names.filter(one => one.startsWith('holdfast') || one.startsWith('gone')),
        [],
      )
    })
  }

  test('restore, sqlite, in the middle of the data', async () => {
    const path = join(stack.directory, 'last.db')
    await copyFile(source, path)
    await stack.expectOk('POST', '/v1/connections', { name: 'last', url: `sqlite:${path}` })
    const made = await stack.ended((await stack.backup({ connection: 'last', destinations: ['vault'] })).id)
    const held = front.hold(
      'midway',
      (method, url) => method === 'GET' && url.includes(made.backup) && url.includes('.zst'),
    )
    const operation = await stack.restore({
      backup: made.backup,
      target: { connection: 'last', database: join(stack.directory, 'never.db') },
    })
    await held.reached
    const view = await cancelled(operation)
    assert.equal(view.state, 'cancelled')
    held.cut()
    assert.deepEqual(
      (await readdir(stack.directory)).filter(one => one.includes('never')),
      [],
    )
  })
})
