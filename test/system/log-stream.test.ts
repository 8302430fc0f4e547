/**
 * A server that archives nothing itself: its log is streamed by a worker. The worker, the receiver and the server are killed, the
 * destination goes away, another server takes over: everything committed comes back, and what is lost is said.
 */
import assert from 'node:assert/strict'
import { chown, copyFile, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { freePort } from '../../cli/free-port.ts'
import { taskQueue } from '../../model/ids.ts'
import type { ArchiveLogsInput, LogStreamView } from '../../model/log-stream.ts'
import type { RecoveryWindowsView } from '../../model/recovery-views.ts'
import { parseLsn } from '../../model/wal.ts'
import type { WalConfig } from '../../model/wal-format.ts'
import { psql, startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { type Scratch, scratch } from '../support/temporary.ts'
import { type Copy, type Site, site } from '../wal/site.ts'
import { processesWith } from './inspect.ts'
import { makeGround, makeLedger, numbersIn, recoveries, withLauncher, write } from './recovering.ts'
import { eventually, type Process, type Stack, startStack } from './stack.ts'

const password = 'canary-of-the-stream'
const path = '/v1/connections/shop/log-stream'

describe('a streamed log', () => {
  let place: Scratch
  let on: Site
  let stack: Stack
  let server: TestPostgres
  let worker: Process
  let standby: Copy | undefined
  let sql: (text: string) => Promise<string>

  before(async () => {
    place = await scratch()
    on = await site(place.path)
    server = await startPostgres({ version: 15, auth: 'scram', password, config: 'wal_keep_size = 0' })
    sql = server.sql
    await makeLedger(sql)
    stack = await startStack({
      worker: false,
      env: { HOLDFAST_LOG_WATCH_SECONDS: '1', HOLDFAST_LOG_TURN_SECONDS: '3' },
    })
    worker = stack.startWorker(withLauncher)
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: on.store })
    const connection = { name: 'shop', url: server.url(), method: 'physical' }
    await stack.expectOk('POST', '/v1/connections', connection)
  })
  after(async () => {
    await standby?.stop()
    await stack?.stop()
    await server?.stop()
    await place?.[Symbol.asyncDispose]()
  })

  const shown = () => stack.expectOk<LogStreamView>('GET', path)
  const seen = (what: string, is: (stream: LogStreamView) => boolean) =>
    eventually(what, async () => {
      const stream = await shown()
      if (is(stream)) return stream
      throw new Error(JSON.stringify(stream.state))
    })
  const receivers = () => processesWith('--synchronous').filter(line => line.includes('holdfast_shop'))
  const number = (line: string) => Number(line.split(' ')[0])
  /** Ends the segment, and waits until everything before that is in the archive. */
  const archived = async () => {
    await write(sql)
    const at = parseLsn(await sql('select pg_switch_wal()')) ?? 0n
    await seen(
      `the log to ${at} archived`,
      ({ state }) => (parseLsn(state?.archivedLsn ?? '0/0') ?? 0n) >= at,
    )
  }
  const windows = async () => {
    const { archives } = await stack.expectOk<RecoveryWindowsView>('GET', '/v1/connections/shop/windows')
    return archives[0]?.windows ?? []
  }

  test('goes on through kills of the worker, the receiver and the server, and a destination that is away', async () => {
    const { slot, wanted } = await stack.expectOk<LogStreamView>('POST', path, {})
    assert.deepEqual([slot, wanted], ['holdfast_shop', 'running'])
    await seen('it receives', ({ state }) => state?.receiving === true)
    const made = await stack.backup({ connection: 'shop', destinations: ['vault'] })
    assert.equal((await stack.ended(made.id)).state, 'succeeded')
    await archived()

    process.kill(number(receivers()[0] ?? ''), 'SIGKILL')
    await archived()

    await rename(on.store, `${on.store}-away`)
    for (let count = 0; count < 3; count += 1) {
      await write(sql)
      await sql('select pg_switch_wal()')
    }
    const away = await seen('what is in its way', ({ state }) => state?.archiveTrouble != null)
    assert.equal(away.state?.archiveTrouble?.code, 'destination.missing')
    await seen('it receives', ({ state }) => state?.receiving === true)
    const before = receivers()
    await worker.kill9()
    await write(sql)
    assert.deepEqual(receivers(), before, 'the receiver outlives its worker')
    await server.kill9()
    await server.restart()
    await rename(`${on.store}-away`, on.store)
    worker = stack.startWorker(withLauncher)
    await archived()
    const [window] = await windows()
    assert.deepEqual(window?.gaps, [])
    assert.equal(window?.intervals.length, 1)
  })

  test('a spool that is full holds the receiver, and the server keeps what comes', async () => {
    await stack.expectOk('POST', path, { spoolLimitBytes: 64 << 20 })
    await rename(on.store, `${on.store}-away`)
    for (let count = 0; count < 5; count += 1) {
      await write(sql)
      await sql('select pg_switch_wal()')
    }
    const { state } = await seen('it is held', stream => stream.state?.held === 'spool')
    assert.equal(state?.receiveTrouble?.code, 'wal.spool-full')
    await eventually('nobody receives', async () => (receivers().length === 0 ? true : undefined))
    await write(sql)
    await rename(`${on.store}-away`, on.store)
    await archived()
    assert.equal((await shown()).state?.held, null)
    assert.deepEqual((await windows())[0]?.gaps, [])
  })

  test('goes on under another run of its workflow, with an empty history', async () => {
    const connection = await Connection.connect({ address: stack.temporal.address })
    try {
      const { workflow } = new Client({ connection })
      const { workflowId } = await shown()
      const { serverIdentity } = await stack.expectOk<{ serverIdentity: string }>(
        'GET',
        '/v1/connections/shop',
      )
      const input: ArchiveLogsInput = {
        ...{ version: 1, connection: 'shop', engine: 'postgresql', serverIdentity },
        ...{ destinations: ['vault'], host: 'local', hostQueue: null, turnSeconds: 1, turnsPerRun: 2 },
      }
      const { runId } = await workflow.getHandle(workflowId).describe()
      const first = await workflow.start('archiveLogs', {
        ...{ taskQueue, workflowId, args: [input], workflowIdConflictPolicy: 'TERMINATE_EXISTING' },
      })
      assert.notEqual(first.firstExecutionRunId, runId)
      const runs = new Set<string>()
      await eventually('a third run', async () => {
        runs.add((await workflow.getHandle(workflowId).describe()).runId)
        return runs.size > 2 ? true : undefined
      })
      await archived()
    } finally {
      await connection.close()
    }
  })

  test('what is committed comes back from it; a copy has no slot', async () => {
    await on.configured('a', server.dataDir)
    await archived()
    const key = join(place.path, 'keys', 'default.json')
    await copyFile(join(stack.home, 'keys', 'default.json'), key)
    const { uid, gid } = await stat(server.dataDir)
    await chown(key, uid, gid)
    // The worker's own, as PostgreSQL's user may read it.
    for (const file of await readdir(on.store, { recursive: true }))
      await chown(join(on.store, file), uid, gid)
    const config = JSON.parse(await readFile(on.configOf('a'), 'utf8')) as WalConfig
    await writeFile(on.configOf('a'), JSON.stringify({ ...config, openWith: [key] }))
    const numbers = await numbersIn(sql)
    const copies = recoveries(stack, await makeGround(), on.configOf('a'), {
      auth: 'scram',
      password,
    })
    try {
      await copies.succeeded(await copies.recover({ kind: 'latest' }, 'copy'))
      await copies.expectNumbers('copy', numbers, async copy => {
        assert.equal(await copy.sql('select count(*) from pg_replication_slots'), '0')
      })
    } finally {
      await copies.remove()
    }
  })

  test('another server that takes over is followed to its timeline', async () => {
    const base = join(place.path, 'base')
    const primary = `host=127.0.0.1 port=${server.port} user=postgres password=${password}`
    await withPassword(() => on.baseBackup(server, base))
    const standbyDir = await on.copyOf(base, 'standby', 'standby', [
      `primary_conninfo = '${primary}'`,
      // The slot is made once it has taken over: until then nothing else keeps its log.
      `wal_keep_size = '512MB'`,
    ])
    const port = await freePort()
    standby = await on.start(standbyDir, port)
    // Within a segment: docs/log-archiving.md says what is lost where a timeline ends at the end of one.
    await write(sql)
    const last = await sql('select pg_current_wal_flush_lsn()')
    const ask = (text: string) => psql(server.url().replace(`:${server.port}/`, `:${port}/`), text)
    await eventually('the standby has it', async () =>
      (await ask(`select pg_last_wal_replay_lsn() >= '${last}'`)) === 't' ? true : undefined,
    )
    await server.kill9()
    await ask('select pg_promote()')
    await standby.stop()
    standby = await on.start(standbyDir, server.port)
    sql = text => psql(server.url(), text)
    await archived()
    assert.equal((await shown()).state?.timeline, 2)
    const files = await readdir(on.store, { recursive: true })
    assert.ok(files.some(file => file.endsWith('history/00000002.history.wal')))
    const second = (await windows()).find(({ timeline }) => timeline === 2)
    assert.equal(second?.parent?.timeline, 1)
    assert.deepEqual(second?.gaps, [])
  })

  test('what the server removed before it was streamed is said, and streaming goes on after it', async () => {
    await stack.expectOk('POST', `${path}/stop`, {})
    await seen('it is stopped', ({ wanted }) => wanted === 'stopped')
    assert.deepEqual(receivers(), [])
    assert.equal(await sql('select active from pg_replication_slots'), 'f')
    await sql("alter system set max_slot_wal_keep_size = '16MB'")
    await sql('alter system set wal_keep_size = 0')
    await sql("alter system set max_wal_size = '48MB'")
    await sql('select pg_reload_conf()')
    await eventually('the slot is lost', async () => {
      await write(sql)
      await sql('select pg_switch_wal()')
      await sql('checkpoint')
      return (await sql('select wal_status from pg_replication_slots')) === 'lost' ? true : undefined
    })
    await sql('alter system reset max_slot_wal_keep_size')
    await sql('select pg_reload_conf()')
    await stack.expectOk('POST', path, {})
    const { state } = await seen('the loss', stream => stream.state?.lost != null)
    assert.match(state?.lost?.after ?? '', /^00000002/)
    await archived()
    const gaps = (await windows()).flatMap(window => window.gaps)
    assert.equal(gaps.length, 1, JSON.stringify(gaps))
  })

  test('a catalog that knows nothing of it leaves nobody receiving; begun again, it goes on', async () => {
    const { checks } = await stack.expectOk<{ checks: { answer: string; detail: string }[] }>(
      'GET',
      '/v1/connections/shop/archiving',
    )
    assert.deepEqual(
      checks.map(({ answer }) => answer),
      ['pass'],
    )
    const holes = (await windows()).flatMap(window => window.gaps)
    await stack.api.terminate()
    const catalog = new DatabaseSync(join(stack.home, 'catalog.sqlite'))
    catalog.exec('DELETE FROM log_streams')
    catalog.close()
    await stack.restartApi()
    await eventually('nobody receives', async () => (receivers().length === 0 ? true : undefined))
    await stack.expectOk('POST', path, {})
    await archived()
    assert.deepEqual(
      (await windows()).flatMap(window => window.gaps),
      holes,
    )
  })

  test('stopped for good, it leaves no slot, no spool and no secret', async () => {
    const stopped = await stack.expectOk<LogStreamView>('POST', `${path}/stop`, { slot: 'drop' })
    assert.equal(stopped.wanted, 'stopping')
    await eventually('it is forgotten', async () =>
      (await stack.call('GET', path)).status === 404 ? true : undefined,
    )
    assert.equal(await sql('select count(*) from pg_replication_slots'), '0')
    assert.deepEqual(receivers(), [])
    const staging = await readdir(join(stack.home, 'staging'), { recursive: true })
    assert.deepEqual(
      staging.filter(file => file.includes('logs-shop')),
      [],
    )
    for (const file of await readdir(stack.directory, { recursive: true })) {
      const bytes = await readFile(join(stack.directory, file)).catch(() => Buffer.alloc(0))
      assert.ok(!bytes.includes(password), `${file} holds the password`)
    }
  })
})

async function withPassword(act: () => Promise<void>): Promise<void> {
  process.env.PGPASSWORD = password
  try {
    await act()
  } finally {
    delete process.env.PGPASSWORD
  }
}
