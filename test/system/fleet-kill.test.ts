/**
 * Two machines on one catalog, an API and a worker on each: one machine dies, API and worker at once, in the middle of
 * what its worker does. The other one finishes it, and what is left on the dead one goes when it comes back.
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { digestPostgres } from '../support/digest.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres } from './databases.ts'
import { expectOneBackup, processesWith } from './inspect.ts'
import { eventually, type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

const waits = { HOLDFAST_MACHINE_WAIT_SECONDS: '6' }

describe('a machine dies with its API and its worker', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let destination: Destination
  let postgres: TestPostgres
  let other: Awaited<ReturnType<Stack['anotherMachine']>>
  let worker: Process
  let successor: Process | undefined

  before(async () => {
    postgres = await startPostgres()
    await postgres.sql('create database catalog')
    stack = await startStack({
      worker: false,
      env: {
        HOLDFAST_CATALOG_URL: postgres.url('catalog'),
        HOLDFAST_SECRET_KEY: 'a secret key for tests only',
        ...waits,
      },
    })
    other = await stack.anotherMachine('other')
    await other.startApi()
    ;({ store, front, destination } = await startVault(stack, 'machines'))
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 26)
    await stack.expectOk('POST', '/v1/connections', { name: 'shop', url: postgres.url('shop') })
    worker = stack.startWorker()
  })

  after(async () => {
    await stack?.stop()
    await front?.close()
    await destination?.close()
    await store?.stop()
    await postgres?.stop()
  })

  /** The first machine comes back, clears its place by itself, and is the only one that works for the next test. */
  afterEach(async () => {
    await stack.restartApi()
    stack.ask(stack.apiUrl)
    worker = stack.startWorker()
    await clear(stack.home)
    await successor?.terminate()
    successor = undefined
  })

  const clear = (home: string) =>
    eventually(`${home} is clear`, async () =>
      ['data', 'jobs'].every(room => readdirSync(join(home, 'staging', room)).length === 0)
        ? true
        : undefined,
    )
  /** At the very instant: API and worker of the first machine; only then there is a worker on the other one. */
  const die = async () => {
    await Promise.all([stack.api.kill9(), worker.kill9()])
    stack.ask(other.url)
    successor = other.startWorker()
  }
  const succeeded = async ({ id }: OperationView): Promise<OperationView> => {
    const view = await stack.ended(id, 240)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    return view
  }
  const nothingLeft = async (operation: string) => {
    await clear(other.home)
    assert.deepEqual(processesWith(operation), [])
    assert.equal(
      await postgres.sql("select count(*) from pg_stat_activity where application_name like 'pg\\_%'"),
      '0',
    )
    assert.equal(await postgres.sql("select count(*) from pg_database where datname like 'holdfast%'"), '0')
  }
  const artifactOf = (backup: string) => (method: string, url: string) =>
    method === 'GET' && url.includes(backup) && url.includes('.zst')
  const secondPart = (method: string, url: string) => method === 'PUT' && url.includes('partNumber=2&')
  const backUp = (format: string) => stack.backup({ connection: 'shop', destinations: ['vault'], format })

  for (const moment of ['before', 'after'] as const) {
    test(`a streamed backup, ${moment} the store has a part: the tool runs again over there`, async () => {
      const held = front.hold(moment, secondPart)
      const operation = await backUp('custom')
      await held.reached
      await die()
      held.cut()
      const view = await succeeded(operation)
      await expectOneBackup(destination, 'shop', view.backup)
      assert.equal((await stack.backups('shop')).filter(({ id }) => id === view.backup).length, 1)
      await nothingLeft(operation.id)
    })
  }

  test('a staged backup: its machine does not come back; it begins anew over there, and says so', async () => {
    const held = front.hold('after', secondPart)
    const operation = await backUp('directory')
    await held.reached
    assert.ok(existsSync(join(stack.home, 'staging', 'data', operation.id)))
    await die()
    held.cut()
    const view = await succeeded(operation)
    assert.match(view.warnings.join(' '), /did not answer for 6 s: begun anew on another/)
    await expectOneBackup(destination, 'shop', view.backup)
    await nothingLeft(operation.id)
  })

  for (const format of ['custom', 'directory'] as const) {
    test(`a restore of ${format}, in the middle of its data`, async () => {
      const backup = await succeeded(await backUp(format))
      const held = front.hold('midway', artifactOf(backup.backup))
      const database = `back_${format}`
      const operation = await stack.restore({
        backup: backup.backup,
        target: { connection: 'shop', database },
      })
      await held.reached
      await die()
      held.cut()
      await succeeded(operation)
      assert.deepEqual(
        await digestPostgres(postgres.url(database)),
        await digestPostgres(postgres.url('shop')),
      )
      await nothingLeft(operation.id)
    })
  }

  test('a backup that the dead API had accepted, and nobody worked on', async () => {
    await worker.kill9()
    const operation = await backUp('custom')
    await die()
    const view = await succeeded(operation)
    await expectOneBackup(destination, 'shop', view.backup)
    await nothingLeft(operation.id)
  })
})
