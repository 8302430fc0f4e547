/**
 * Two machines: workers with homes and staging directories of their own. What is staged on one is worked on there; when
 * it is gone for longer than it may be, the operation begins anew on the other.
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import type { Interceptor, Moment } from '../servers/interceptor.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import type { startVersitygw } from '../servers/versitygw.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { expectOneBackup, processesWith } from './inspect.ts'
import { eventually, type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

interface Machine {
  name: string
  home: string
  worker: Process
}

const waitSeconds = 6

describe('two machines', () => {
  let stack: Stack
  let store: Awaited<ReturnType<typeof startVersitygw>>
  let front: Interceptor
  let destination: Destination
  let postgres: TestPostgres
  let machines: Machine[]
  let source = ''

  const startOn = (home: string) =>
    stack.startWorker({
      HOLDFAST_HOME: home,
      HOLDFAST_WORKER_TOKEN_FILE: join(stack.home, 'worker.token'),
      HOLDFAST_MACHINE_WAIT_SECONDS: String(waitSeconds),
    })
  const staged = ({ home }: Machine, operation: string) => join(home, 'staging', 'data', operation)
  const isClear = ({ home }: Machine) =>
    ['data', 'jobs'].every(room => readdirSync(join(home, 'staging', room)).length === 0)
  /** The machine that has staged something of the operation, and the other one. */
  const at = async (operation: string): Promise<[Machine, Machine]> => {
    const [one, two] = machines
    assert.ok(one && two)
    // Probes have a directory there, too, with nothing in it.
    const found = [one, two].filter(
      machine => existsSync(staged(machine, operation)) && readdirSync(staged(machine, operation)).length > 0,
    )
    assert.equal(found.length, 1, 'one machine has the staged data')
    return found[0] === one ? [one, two] : [two, one]
  }
  const back = (machine: Machine) => {
    machine.worker = startOn(machine.home)
  }
  const clear = (operation: string) =>
    eventually(`both machines are clear of ${operation}`, async () =>
      machines.every(isClear) && processesWith(operation).length === 0 ? true : undefined,
    )
  /** A staged backup, stopped at a request to the store; `kill` is given its machines then. */
  const interrupted = async (
    connection: string,
    moment: Moment,
    isIt: (method: string, url: string) => boolean,
  ) => {
    const held = front.hold(
      moment,
      (method, url) => decodeURIComponent(url).includes(`/${connection}/backups/`) && isIt(method, url),
    )
    const operation = await stack.backup({ connection, destinations: ['vault'] })
    await held.reached
    return { held, operation, machines: await at(operation.id) }
  }
  const succeeded = async (operation: OperationView) => {
    const view = await stack.ended(operation.id, 240)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    return view
  }
  const partsSent = (connection: string) =>
    front.seen.filter(
      line =>
        line.startsWith('PUT') && line.includes(`/${connection}/backups/`) && line.includes('partNumber='),
    )
  const part = (number: number) => (method: string, url: string) =>
    method === 'PUT' && url.includes(`partNumber=${number}&`)

  before(async () => {
    stack = await startStack({ worker: false })
    ;({ store, front, destination } = await startVault(stack, 'fleet'))
    postgres = await startPostgres()
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 26)
    for (const name of ['resumed', 'moved', 'finished', 'cancelled']) {
      const path = join(stack.directory, `${name}.db`)
      await copyFile(source, path)
      await stack.expectOk('POST', '/v1/connections', { name, url: `sqlite:${path}`, method: 'physical' })
    }
    machines = []
    for (const name of ['one', 'two']) {
      const home = join(stack.directory, `machine-${name}`)
      await mkdir(home)
      machines.push({ name, home, worker: startOn(home) })
    }
    await eventually('both machines are there', async () =>
      machines.every(({ home }) => existsSync(join(home, 'staging', 'machine.id'))) ? true : undefined,
    )
  })

  after(async () => {
    await stack?.stop()
    await front?.close()
    await destination?.close()
    await store?.stop()
    await postgres?.stop()
  })

  test('a machine that comes back in time goes on with what it has staged', async () => {
    const {
      held,
      operation,
      machines: [first],
    } = await interrupted('resumed', 'before', part(2))
    await first.worker.kill9()
    held.cut()
    back(first)
    const view = await succeeded(operation)
    await expectOneBackup(destination, 'resumed', view.backup)
    // Several are in flight when it dies; what the store had answered for is not sent again.
    const sent = partsSent('resumed').map(line => /partNumber=(\d+)/.exec(line)?.[1])
    assert.ok(sent.length - new Set(sent).size <= 4, `sent again: ${sent.join(' ')}`)
    await clear(operation.id)
  })

  test('a machine that stays away is given up: the backup begins anew on the other, under another key', async () => {
    const {
      held,
      operation,
      machines: [first, other],
    } = await interrupted('moved', 'after', part(2))
    await first.worker.kill9()
    held.cut()
    const view = await succeeded(operation)
    await expectOneBackup(destination, 'moved', view.backup)
    const attempts = new Set(
      partsSent('moved').map(
        line => /\/moved\/backups\/[^/]+\/([^/]+)\//.exec(decodeURIComponent(line))?.[1],
      ),
    )
    assert.equal(attempts.size, 2, 'the staged data of the other machine has an attempt of its own')
    assert.ok(view.phases.filter(({ phase }) => phase === 'run tool').length === 2)
    assert.equal(existsSync(staged(other, operation.id)), false)
    assert.equal(existsSync(staged(first, operation.id)), true, 'nobody was there to remove it')
    // It comes back after everything is over, and clears its place by itself.
    back(first)
    await clear(operation.id)
    const target = join(stack.directory, 'restored.db')
    const restored = await stack.restore({
      backup: view.backup,
      target: { connection: 'moved', database: target },
    })
    await succeeded(restored)
    assert.deepEqual(digestSqlite(target), digestSqlite(source))
  })

  test('what is committed stays committed when the machine is gone afterwards', async () => {
    const {
      held,
      operation,
      machines: [first],
    } = await interrupted(
      'finished',
      'after',
      (method, url) => method === 'PUT' && url.includes('/manifest.json'),
    )
    for (const { worker } of machines) await worker.kill9()
    held.cut()
    const other = machines.find(machine => machine !== first)
    assert.ok(other)
    back(other)
    const view = await succeeded(operation)
    await expectOneBackup(destination, 'finished', view.backup)
    back(first)
    await clear(operation.id)
  })

  test('a restore that unpacks before it loads: the machine is lost in between', async () => {
    await postgres.sql('create database shop')
    await postgres.sql(
      'create table items as select n, md5(n::text) from generate_series(1, 50000) n',
      'shop',
    )
    await stack.expectOk('POST', '/v1/connections', { name: 'shop', url: postgres.url('shop') })
    const backup = await succeeded(
      await stack.backup({ connection: 'shop', destinations: ['vault'], format: 'directory' }),
    )
    let lost: Machine | undefined
    const operation = await stack.restore({
      backup: backup.backup,
      target: { connection: 'shop', database: 'shop_copy' },
    })
    // Each step asks for its plan first: the one that finds the dump unpacked is the load.
    for (;;) {
      const held = stack.workerApi.hold('before', (_method, url) => url.endsWith('/plan'))
      await held.reached
      lost = machines.find(machine => existsSync(join(staged(machine, operation.id), 'dump', 'toc.dat')))
      if (lost) {
        await lost.worker.kill9()
        held.cut()
        break
      }
      held.release()
    }
    await succeeded(operation)
    assert.equal(await postgres.sql('select count(*) from items', 'shop_copy'), '50000')
    assert.equal(
      await postgres.sql(`select count(*) from pg_database where datname like 'holdfast%'`),
      '0',
      'no temporary database is left',
    )
    back(lost)
    await clear(operation.id)
  })

  test('a cancelled backup is stopped and removed on the machine that has it', async () => {
    const { held, operation } = await interrupted('cancelled', 'before', part(1))
    await stack.expectOk('POST', `/v1/operations/${operation.id}/cancel`, {})
    held.cut()
    const view = await stack.ended(operation.id)
    assert.equal(view.state, 'cancelled')
    await clear(operation.id)
  })
})
