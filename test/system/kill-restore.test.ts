/**
 * The kill matrix of restores: kill -9 of the worker, the API, Temporal and the tool while the artifact is on its way into the
 * tool, before and after, for every method. Afterwards the restored database is whole, and no temporary one, process or staging is left.
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Interceptor, type Moment, startInterceptor } from '../servers/interceptor.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost } from './inspect.ts'
import { pidsIn } from './sessions.ts'
import { directory, type Process, type Stack, s3Input, startStack } from './stack.ts'

describe('kill -9 during a restore', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let postgres: TestPostgres
  let worker: Process
  let sqlitePath = ''
  let targets = ''
  const backups: Record<string, string> = {}

  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    store = await startVersitygw()
    front = await startInterceptor(store.endpoint)
    postgres = await startPostgres()
    await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'restores', front.url))
    sqlitePath = join(stack.directory, 'source.db')
    targets = await directory(stack, 'targets')
    makeRandomSqlite(sqlitePath, 20)
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 20)
    for (const [name, url, method] of [
      ['file', `sqlite:${sqlitePath}`, 'physical'],
      ['text', `sqlite:${sqlitePath}`, 'logical'],
      ['pg', postgres.url('shop'), 'logical'],
    ]) {
      await stack.expectOk('POST', '/v1/connections', { name, url, method })
    }
    for (const [connection, format] of [
      ['file', 'copy'],
      ['text', 'dump'],
      ['pg', 'custom'],
      ['pg', 'directory'],
    ] as const) {
      const operation = await stack.backup({ connection, destinations: ['vault'], format })
      const view = await stack.ended(operation.id)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      backups[format] = view.backup
    }
  })

  after(async () => {
    await stack?.stop()
    await front?.close()
    await postgres?.stop()
    await store?.stop()
  })

  const targetOf = (connection: string, name: string): string =>
    connection === 'pg' ? `back-${name}` : join(targets, `${name}.db`)
  const databases = async () => (await postgres.sql('SELECT datname FROM pg_database')).split('\n')
  const isThere = async (connection: string, target: string) =>
    connection === 'pg' ? (await databases()).includes(target) : existsSync(target)

  /** Whole under its name, and nothing else anywhere. */
  const expectRestored = async (operation: string, target: string): Promise<void> => {
    const view = await stack.ended(operation)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    if (view.connection === 'pg') {
      assert.deepEqual(await digestPostgres(postgres.url(target)), await digestPostgres(postgres.url('shop')))
      const temporary = (await databases()).filter(one => one.startsWith('holdfast'))
      assert.deepEqual(temporary, [], 'no temporary database')
    } else {
      assert.deepEqual(digestSqlite(target), digestSqlite(sqlitePath))
      const strange = readdirSync(targets).filter(one => !/^[a-z]+-[a-z]+\.db$/.test(one))
      assert.deepEqual(strange, [], 'no temporary file')
    }
    expectCleanHost(stack.home, view.id)
  }

  const moments: { name: string; moment: Moment }[] = [
    { name: 'before the first byte', moment: 'before' },
    { name: 'in the middle of the data', moment: 'midway' },
  ]
  const isArtifact = (format: string) => (method: string, url: string) =>
    method === 'GET' && url.includes(backups[format] ?? '?') && url.includes('.zst')

  for (const [format, connection, reader] of [
    ['copy', 'file', 'dd'],
    ['dump', 'text', 'sqlite3'],
    ['custom', 'pg', 'pg_restore'],
    ['directory', 'pg', 'tar'],
  ] as const) {
    for (const { name, moment } of moments) {
      test(`${format}: ${name}, twice`, async () => {
        const target = targetOf(connection, `${format}-${moment}`)
        let operation: Awaited<ReturnType<Stack['restore']>> | undefined
        for (let round = 1; round <= 2; round += 1) {
          const held = front.hold(moment, isArtifact(format))
          operation ??= await stack.restore({
            backup: backups[format],
            target: { connection, database: target },
          })
          await held.reached
          await worker.kill9()
          worker = stack.startWorker()
          held.cut()
        }
        assert.ok(operation)
        await expectRestored(operation.id, target)
      })
    }

    test(`${format}: the API, Temporal and the tool are killed in the middle of the data`, async () => {
      const target = targetOf(connection, `${format}-services`)
      const held = front.hold('midway', isArtifact(format))
      const operation = await stack.restore({
        backup: backups[format],
        target: { connection, database: target },
      })
      await held.reached
      await stack.api.kill9()
      await stack.restartApi()
      await stack.temporal.kill9()
      await stack.temporal.restart()
      const [tool] = pidsIn(operation.id, reader)
      assert.ok(tool, `${reader} reads`)
      process.kill(tool, 'SIGKILL')
      held.release()
      await expectRestored(operation.id, target)
    })

    test(`${format}: Temporal never hears that its name is there`, async () => {
      const target = targetOf(connection, `${format}-unheard`)
      const operation = await stack.restore({
        backup: backups[format],
        target: { connection, database: target },
      })
      const until = Date.now() + 90_000
      while (!(await isThere(connection, target))) {
        assert.ok(Date.now() < until, `${target} appears`)
        await sleep(5)
      }
      process.kill(stack.temporal.pid, 'SIGSTOP')
      // Whatever the worker still does in this time is not recorded: its successor does it again.
      await sleep(2000)
      await worker.kill9()
      process.kill(stack.temporal.pid, 'SIGCONT')
      worker = stack.startWorker()
      await expectRestored(operation.id, target)
    })

    test(`${format}: the moment its name is there`, async () => {
      const target = targetOf(connection, `${format}-named`)
      const operation = await stack.restore({
        backup: backups[format],
        target: { connection, database: target },
      })
      // Whichever side of the answer it hits: the rename is not done again, and not taken back.
      const until = Date.now() + 90_000
      while (!(await isThere(connection, target))) {
        assert.ok(Date.now() < until, `${target} appears`)
        await sleep(5)
      }
      await worker.kill9()
      worker = stack.startWorker()
      await expectRestored(operation.id, target)
    })
  }
})
