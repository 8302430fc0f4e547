/**
 * The link to the database server is cut while operations are in all their phases at once: planned, staging, uploading, streaming,
 * restored into, cancelled. When it is back each of them goes on; what was cancelled is gone, there too.
 */
import assert from 'node:assert/strict'
import { chown, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { CheckResult } from '../../model/types.ts'
import type { OperationView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { sshUserId, startSshd, type TestSshd } from '../servers/sshd.ts'
import { digestSqlite } from '../support/digest.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectClean } from './failing.ts'
import { dumpWaits, lockTable, pidsIn } from './sessions.ts'
import { directory, eventually, type Process, type Stack, startStack } from './stack.ts'

/** A cut that is shorter is not noticed. */
const noticedSeconds = 20
/** Attached jobs that have heard nothing for so long end themselves. */
const watchedSeconds = 60
/** The promise about what is cancelled, from the link's return on. */
const cleanWithinSeconds = 15

/** Each of `cuts` lasts so many seconds. */
export function linkCuts(cuts: readonly number[]): void {
  describe('the link to the database server', () => {
    let stack: Stack
    let server: TestSshd
    let postgres: TestPostgres
    let worker: Process
    let restorable: string | null
    const roots: Record<string, string> = {}

    before(async () => {
      stack = await startStack()
      assert.ok(stack.worker)
      worker = stack.worker
      server = await startSshd({ sudo: true })
      postgres = await startPostgres()
      await createDatabase(postgres.url(), 'shop')
      await fillRandomPostgres(postgres.url('shop'), 10)
      await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: await directory(stack, 'disk') })
      for (const [name, runAs] of [
        ['dbms', 'postgres'],
        ['files', undefined],
      ] as const) {
        roots[name] = await server.disk(256 * 1024)
        if (runAs === undefined) await chown(roots[name], sshUserId, sshUserId)
        await stack.expectOk('POST', '/v1/hosts', {
          name,
          url: `ssh://${server.user}@${server.address}:${server.port}`,
          tempDir: `${roots[name]}/staging`,
          hostKeys: [await server.hostKey()],
          secrets: { privateKey: server.privateKey },
          ...(runAs ? { runAs } : {}),
        })
      }
      await stack.expectOk('POST', '/v1/connections', { name: 'shop', url: urlOf('shop'), host: 'dbms' })
      // Each is a server of its own, so that all of them are at work at once.
      for (const [name, method] of [
        ['staged', 'physical'],
        ['streamed', 'logical'],
        ['cancelled', 'logical'],
        ['restored', 'logical'],
        ['late', 'physical'],
      ]) {
        const path = join(server.home, `${name}.db`)
        makeRandomSqlite(path, 12)
        await chown(path, sshUserId, sshUserId)
        await stack.expectOk('POST', '/v1/connections', {
          name,
          url: `sqlite:${path}`,
          host: 'files',
          method,
        })
      }
      restorable = (await succeeded(await make('restored'))).backup
    })

    after(async () => {
      await stack?.stop()
      await postgres?.stop()
      await server?.stop()
    })

    const urlOf = (database: string) =>
      `postgres://postgres@/${database}?host=${postgres.dataDir}&port=${postgres.port}`
    const make = (connection: string, more: Record<string, unknown> = {}) =>
      stack.backup({ connection, destinations: ['disk'], ...more })
    const limit = (text: string | null) =>
      stack.expectOk('PUT', '/v1/bandwidth/destination/disk', { limit: text })
    const succeeded = async ({ id }: OperationView): Promise<OperationView> => {
      const view = await stack.ended(id, 240)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      return view
    }
    const heldBack = ({ id }: OperationView) =>
      eventually(`${id} is held back`, async () => (await stack.operation(id)).progress?.limitBytesPerSecond)
    const login = async (connection: string) => {
      const path = `/v1/connections/${connection}/precheck`
      const { checks } = await stack.expectOk<{ checks: CheckResult[] }>('POST', path, {})
      return checks.find(check => check.id === 'host.login')
    }
    const logins = async () => (await server.log()).match(/Accepted/g)?.length ?? 0
    const expectCleanServer = async () => {
      for (const root of Object.values(roots)) {
        for (const room of ['jobs', 'data']) {
          assert.deepEqual(await readdir(join(root, 'staging', room)).catch(() => []), [], `${root}/${room}`)
        }
      }
    }

    /** What stands in the middle of its work: a tool that stages, an upload, a stream, a restore, and one to be given up. */
    const begun = async (count: number) => {
      await limit('20kB/s')
      const lock = await lockTable(postgres.url('shop'), 'words')
      const tool = await make('shop', { format: 'directory' })
      const pid = await dumpWaits(postgres, tool.id)
      // It would not wait for the lock for as long as the longest of the cuts.
      process.kill(pid, 'SIGSTOP')
      await lock.release()
      const database = join(server.home, `back-${count}.db`)
      const target = { connection: 'restored', database }
      const [staged, streamed, cancelled, restored] = await Promise.all([
        make('staged'),
        make('streamed'),
        make('cancelled'),
        stack.restore({ backup: restorable, target }),
      ])
      for (const one of [staged, streamed, cancelled, restored]) await heldBack(one)
      return { tool, pid, staged, streamed, cancelled, restored, database }
    }

    for (const seconds of cuts) {
      test(`is cut for ${seconds} s: everything goes on, and what was cancelled meanwhile is gone`, async () => {
        const at = await begun(seconds)
        const before = await logins()
        await server.cut()
        await stack.expectOk('POST', `/v1/operations/${at.cancelled.id}/cancel`)
        const late = await make('late')
        const asked = login('late')
        await sleep(seconds * 1000)
        await server.mend()
        const given = await stack.ended(at.cancelled.id, cleanWithinSeconds)
        assert.equal(given.state, 'cancelled')
        assert.deepEqual(given.warnings, [])
        await expectClean(`${roots.files}/staging`, at.cancelled.id)
        const noticed = seconds > noticedSeconds
        if (noticed)
          await eventually('it is logged in again', async () =>
            (await logins()) > before ? true : undefined,
          )
        const check = await asked
        assert.equal(check?.code, noticed ? 'host.unreachable' : undefined, JSON.stringify(check))
        assert.ok(pidsIn(at.tool.id, 'pg_dump').includes(at.pid), 'the tool that stages goes on')
        process.kill(at.pid, 'SIGCONT')
        await limit(null)
        for (const one of [at.tool, at.staged, at.streamed, at.restored, late]) await succeeded(one)
        assert.deepEqual(digestSqlite(at.database), digestSqlite(join(server.home, 'restored.db')))
        await expectCleanServer()
      })
    }

    test('the machine reboots: what ran there is lost, and run again', async () => {
      const at = await begun(0)
      await server.reboot()
      assert.ok(!pidsIn(at.tool.id, 'pg_dump').includes(at.pid))
      await limit(null)
      for (const one of [at.tool, at.staged, at.streamed, at.restored, at.cancelled]) await succeeded(one)
      assert.deepEqual(digestSqlite(at.database), digestSqlite(join(server.home, 'restored.db')))
      await expectCleanServer()
    })

    const silent = Math.max(...cuts) > watchedSeconds
    test(`everything of ours is killed${silent ? ', and the link is cut' : ''}: nothing holds the source any more`, async () => {
      const sessions = () =>
        postgres.sql(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast'`)
      // More than all pipes and windows on the way hold.
      await createDatabase(postgres.url(), 'large')
      await fillRandomPostgres(postgres.url('large'), 60)
      await stack.expectOk('POST', '/v1/connections', { name: 'large', url: urlOf('large'), host: 'dbms' })
      await limit('20kB/s')
      const streamed = await make('large', { format: 'custom' })
      await heldBack(streamed)
      assert.notEqual(await sessions(), '0')
      // Silence: nobody there is told that we are gone.
      if (silent) await server.cut()
      await Promise.all([worker.kill9(), stack.api.kill9()])
      await eventually('its sessions end', async () => ((await sessions()) === '0' ? true : undefined), 120)
      await server.mend()
      await stack.restartApi()
      worker = stack.startWorker()
      await limit(null)
      await succeeded(streamed)
      await expectCleanServer()
    })
  })
}
