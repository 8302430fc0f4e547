/**
 * What nobody watches at night: a destination that goes away and comes back while a server archives to it, and a segment that is
 * lost there. Somebody is told of both, nothing else is lost, and the hole is answered with a base backup.
 */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { chmod, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { RecoveryWindowsView } from '../../model/recovery-views.ts'
import type { BackupView, StatusView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { type Scratch, scratch } from '../support/temporary.ts'
import { archived, insert, type Site, site, writer } from '../wal/site.ts'
import { makeGround, recoveries, withLauncher } from './recovering.ts'
import { eventually, type Stack, startStack } from './stack.ts'

interface Told {
  event: string
  connection: string
  error: { code: string; detail: string }
}

describe('the watch over logs', () => {
  let place: Scratch
  let on: Site
  let stack: Stack
  let server: TestPostgres
  let events = ''

  before(async () => {
    place = await scratch()
    on = await site(place.path)
    server = await startPostgres({
      version: 15,
      config: `wal_level = replica\narchive_mode = on\narchive_timeout = 60\narchive_command = '${on.pushCommand('a')}'`,
    })
    await on.configured('a', server.dataDir)
    await server.sql('create table line (id bigserial primary key, filler text not null)')
    stack = await startStack({ worker: false, env: { HOLDFAST_LOG_WATCH_SECONDS: '1' } })
    events = join(stack.directory, 'events')
    const program = join(stack.directory, 'notify')
    await writeFile(program, `#!/bin/sh\ncat >> ${events}\n`)
    await chmod(program, 0o755)
    await writeFile(events, '')
    stack.startWorker({ HOLDFAST_NOTIFY_COMMAND: program, ...withLauncher })
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: on.store })
    const connection = { name: 'shop', url: server.url(), method: 'physical' }
    await stack.expectOk('POST', '/v1/connections', connection)
    const made = await stack.backup({ connection: 'shop', destinations: ['vault'] })
    assert.equal((await stack.ended(made.id)).state, 'succeeded')
  })
  after(async () => {
    await stack?.stop()
    await server?.stop()
    await place?.[Symbol.asyncDispose]()
  })

  const told = async (event: string, code: string): Promise<Told> =>
    await eventually(`${event} of ${code}`, async () => {
      const lines = (await readFile(events, 'utf8')).trim().split('\n').filter(Boolean)
      const all = lines.map(line => JSON.parse(line) as Told)
      return all.find(one => one.event === event && one.error.code === code)
    })
  const problems = async () => {
    const { databases } = await stack.expectOk<StatusView>('GET', '/v1/status')
    return databases.find(one => one.connection === 'shop')?.problems ?? []
  }
  const windows = async () => {
    const { archives } = await stack.expectOk<RecoveryWindowsView>('GET', '/v1/connections/shop/windows')
    return archives[0]?.windows[0] ?? assert.fail('no archive')
  }

  test('a destination that is away is an alarm while a server writes; when it is back, nothing is missing', async () => {
    const writing = writer(server.sql)
    await rename(on.store, `${on.store}-away`)
    await server.sql('select pg_switch_wal()')
    const alarm = await told('log.alarm', 'wal.failing')
    assert.equal(alarm.connection, 'shop')
    assert.match(alarm.error.detail, /^shop: Archiving has failed for \d+ s/)
    const problem = (await problems()).find(one => one.code === 'wal.failing')
    assert.equal(problem?.level, 'critical')
    await rename(`${on.store}-away`, on.store)
    await writing.stop()
    await archived(server.sql)
    await told('log.mended', 'wal.failing')
    assert.deepEqual((await windows()).gaps, [])
    assert.equal(
      (await problems()).find(one => one.code === 'wal.failing'),
      undefined,
    )
  })

  test('a hole that nobody fills is told of, and a base backup begins after it by itself', async () => {
    const segments = []
    for (let count = 0; count < 3; count += 1) {
      await server.sql(insert)
      segments.push(await server.sql('select pg_walfile_name(pg_current_wal_lsn())'))
      await archived(server.sql)
    }
    const lost = segments[1] ?? ''
    const files = await readdir(on.store, { recursive: true })
    await rm(join(on.store, files.find(file => file.endsWith(`${lost}.wal`)) ?? assert.fail(lost)))
    const alarm = await told('log.alarm', 'wal.gap')
    assert.ok(alarm.error.detail.includes(lost), alarm.error.detail)
    const made = await eventually('another base backup', async () => {
      const { items } = await stack.expectOk<{ items: BackupView[] }>('GET', '/v1/backups?connection=shop')
      return items.find(({ labels }) => labels['log-gap'] === lost)
    })
    await archived(server.sql)
    const { gaps, bases, intervals } = await windows()
    assert.deepEqual(
      gaps.map(({ first, last }) => [first, last]),
      [[lost, lost]],
    )
    // What lies between the hole and the new base is lost for good, and said.
    const base = bases.find(({ backup }) => backup === made.id)
    assert.equal(gaps[0]?.lost.to, base?.from)
    assert.equal(intervals.length, 2)
    await told('log.mended', 'wal.gap')
    assert.deepEqual(
      (await problems()).filter(({ code }) => code.startsWith('wal.')),
      [],
    )
    const { items } = await stack.expectOk<{ items: { action: string; detail: Record<string, string> }[] }>(
      'GET',
      '/v1/audit',
    )
    const entry = items.find(({ action }) => action === 'base backup after a gap in the log')
    assert.equal(entry?.detail.missing, lost)
  })

  test('a recovered copy that has become the server gets a base backup of its own timeline by itself', async () => {
    const copies = recoveries(stack, await makeGround(), on.configOf('a'))
    const to = { kind: 'lsn', lsn: await server.sql('select pg_current_wal_insert_lsn()') }
    await server.sql(insert)
    await archived(server.sql)
    // The server is lost; the copy is handed over on its port.
    await server.kill9()
    const { id } = await copies.succeeded(
      await copies.recover(to, 'copy', { start: true, port: server.port }),
    )
    await server.sql('alter system reset archive_mode')
    const dataDir = join(copies.ground, 'copy')
    const pidFile = join(dataDir, 'postmaster.pid')
    process.kill(Number((await readFile(pidFile, 'utf8')).split('\n')[0]), 'SIGINT')
    await eventually('it has stopped', async () => (existsSync(pidFile) ? undefined : true))
    const copy = await startPostgres({ dataDir, port: server.port, logFile: join(place.path, 'copy.log') })
    try {
      const made = await eventually('a base backup', async () => {
        const { items } = await stack.expectOk<{ items: BackupView[] }>('GET', '/v1/backups?connection=shop')
        return items.find(({ labels }) => labels['recovered-by'] === id)
      })
      await archived(server.sql)
      const { archives } = await stack.expectOk<RecoveryWindowsView>('GET', '/v1/connections/shop/windows')
      const second = archives[0]?.windows.find(({ timeline }) => timeline === 2)
      assert.equal(second?.bases.at(-1)?.backup, made.id)
      const log = await stack.expectOk<{ items: { text: string }[] }>('GET', `/v1/operations/${id}/log`)
      assert.ok(log.items.some(({ text }) => text.includes('is on timeline 2 now')))
    } finally {
      await copy.stop()
      await copies.remove()
    }
  })
})
