/**
 * A database server of its own, over SSH: PostgreSQL that answers on a socket there, for the user postgres alone, and a
 * SQLite file. Streamed and staged, there and back; workers are killed and the link is cut meanwhile.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chown, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort } from '../../cli/free-port.ts'
import { fingerprint } from '../../hosts/ssh/index.ts'
import type { LogStreamView } from '../../model/log-stream.ts'
import type { RecoveryWindowsView } from '../../model/recovery-views.ts'
import { parseLsn } from '../../model/wal.ts'
import { postgresBinaries, startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { sshUserId, startSshd, type TestSshd } from '../servers/sshd.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { addPerson, approve, askFor, awaiting } from '../support/people.ts'
import { createDatabase, makePostgresSample } from '../support/postgres-sample.ts'
import { makeShop } from '../support/shop.ts'
import { fillRandomPostgres } from './databases.ts'
import { dumpWaits, lockTable } from './sessions.ts'
import { directory, eventually, type Stack, startStack } from './stack.ts'

describe('over SSH', () => {
  let stack: Stack
  let server: TestSshd
  let postgres: TestPostgres
  let sqlite: string
  let ground = ''
  const stagingOf = (name: string) => `/var/tmp/holdfast-test-${process.pid}-${name}`
  const roots = () => ['dbms', 'files'].map(stagingOf)

  before(async () => {
    stack = await startStack()
    server = await startSshd({ sudo: true, greeting: 'Welcome to the database host.' })
    postgres = await startPostgres()
    await createDatabase(postgres.url(), 'shop')
    await makePostgresSample(postgres.url('shop'), { rows: 2000, oddities: true })
    // What is not logged is in no physical backup.
    await postgres.sql('ALTER TABLE "odd schema; --".unlogged_one SET LOGGED', 'shop')
    await createDatabase(postgres.url(), 'large')
    await fillRandomPostgres(postgres.url('large'), 60)
    sqlite = join(server.home, 'notes.db')
    makeShop(sqlite, { rows: 2000 })
    await chown(sqlite, sshUserId, sshUserId)
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: await directory(stack, 'backups') })
    for (const [name, runAs] of [
      ['dbms', 'postgres'],
      ['files', undefined],
    ] as const) {
      await stack.expectOk('POST', '/v1/hosts', {
        name,
        url: `ssh://${server.user}@${server.address}:${server.port}`,
        tempDir: stagingOf(name),
        hostKeys: [await server.hostKey()],
        secrets: { privateKey: server.protectedKey, passphrase: server.passphrase },
        ...(runAs ? { runAs } : {}),
      })
    }
    for (const name of ['shop', 'large']) {
      await stack.expectOk('POST', '/v1/connections', {
        name,
        // Nothing on the network: its socket is in a directory that is postgres' own.
        url: `postgres://postgres@/${name}?host=${postgres.dataDir}&port=${postgres.port}`,
        host: 'dbms',
      })
    }
    await stack.expectOk('POST', '/v1/connections', {
      name: 'whole',
      url: `postgres://postgres@/shop?host=${postgres.dataDir}&port=${postgres.port}`,
      host: 'dbms',
      method: 'physical',
    })
    ground = await mkdtemp('/var/tmp/holdfast-ssh-physical-')
    await promisify(execFile)('chown', ['postgres:', ground])
    for (const method of ['physical', 'logical']) {
      await stack.expectOk('POST', '/v1/connections', {
        name: `notes-${method}`,
        url: `sqlite:${sqlite}`,
        host: 'files',
        method,
      })
    }
  })

  after(async () => {
    await stack?.stop()
    await postgres?.stop()
    await server?.stop()
    for (const root of [...roots(), ground].filter(Boolean)) await rm(root, { recursive: true, force: true })
  })

  const expectCleanServer = async () => {
    for (const root of roots()) {
      for (const name of ['jobs', 'data']) {
        assert.deepEqual(await readdir(join(root, name)).catch(() => []), [], `${root}/${name}`)
      }
    }
  }
  const thereAndBack = async (connection: string, format: string, database: string) => {
    const made = await stack.ended((await stack.backup({ connection, destinations: ['disk'], format })).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    const restored = await stack.ended(
      (await stack.restore({ backup: made.backup, target: { connection, database } })).id,
    )
    assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))
    await expectCleanServer()
  }

  for (const format of ['custom', 'directory']) {
    test(`PostgreSQL, ${format}`, async () => {
      await thereAndBack('shop', format, `back-${format}`)
      assert.deepEqual(
        await digestPostgres(postgres.url(`back-${format}`)),
        await digestPostgres(postgres.url('shop')),
      )
    })
  }

  for (const format of ['tar', 'staged-tar']) {
    test(`PostgreSQL, the whole server, ${format}`, async () => {
      const dataDir = join(ground, format)
      await thereAndBack('whole', format, dataDir)
      assert.deepEqual(await readdir(ground), [format])
      const copy = await startPostgres({ dataDir, logFile: join(stack.directory, `${format}.log`) })
      try {
        assert.deepEqual(await digestPostgres(copy.url('shop')), await digestPostgres(postgres.url('shop')))
      } finally {
        await copy.stop()
        await rm(dataDir, { recursive: true })
      }
    })
  }

  test('PostgreSQL, the whole server in the place of another one, as its owner', async () => {
    const live = join(ground, 'live')
    await thereAndBack('whole', 'tar', live)
    const { bin } = await postgresBinaries()
    const port = await freePort()
    const as = promisify(execFile)
    const pgCtl = (...args: string[]) =>
      as(
        'setpriv',
        [
          ...['--reuid=postgres', '--regid=postgres', '--init-groups', join(bin, 'pg_ctl'), '-s', '-w'],
          ...['-D', live, ...args],
        ],
        { cwd: '/' },
      )
    // What Holdfast starts there listens on addresses of that machine; sockets are files that both have.
    const sql = async (text: string) =>
      (
        await as('psql', [
          '-h',
          postgres.dataDir,
          '-p',
          String(port),
          '-U',
          'postgres',
          '-XAtc',
          text,
          'shop',
        ])
      ).stdout
    try {
      await pgCtl('-l', `${live}.log`, '-o', `-p ${port}`, 'start')
      await sql('CREATE TABLE later (i int)')
      await stack.expectOk('POST', '/v1/connections', {
        name: 'replaced',
        url: `postgres://postgres@/shop?host=${postgres.dataDir}&port=${port}&supervisor=pg_ctl`,
        host: 'dbms',
        method: 'physical',
      })
      const anna = await addPerson(stack, 'anna', 'approver')
      const target = { connection: 'replaced', database: live }
      const { body } = await askFor(anna, { backup: 'whole:latest', target, keepOldSeconds: 1 })
      assert.equal((await awaiting(stack, body.operation.id)).state, 'awaiting-approval')
      assert.equal((await approve(stack, anna, body.operation.id)).status, 202)
      const view = await stack.ended(body.operation.id)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      assert.equal(await sql("SELECT to_regclass('later') IS NULL"), 't\n')
      const kept = view.kept?.name ?? assert.fail('nothing is kept')
      await eventually('the old one is removed', async () => (existsSync(kept) ? undefined : true))
    } finally {
      await pgCtl('-m', 'immediate', 'stop').catch(() => {})
      for (const name of await readdir(ground)) await rm(join(ground, name), { recursive: true })
    }
    await expectCleanServer()
  })

  for (const [method, format] of [
    ['physical', 'copy'],
    ['logical', 'dump'],
  ] as const) {
    test(`SQLite, ${format}`, async () => {
      const target = join(server.home, `back ${format}.db`)
      await thereAndBack(`notes-${method}`, format, target)
      assert.deepEqual(digestSqlite(target), digestSqlite(sqlite))
    })
  }

  test('a staged dump outlives its worker and a cut of the link, and is found again', async () => {
    const lock = await lockTable(postgres.url('large'), 'words')
    const { id } = await stack.backup({ connection: 'large', destinations: ['disk'], format: 'directory' })
    let pid: number
    try {
      pid = await dumpWaits(postgres, id)
      await stack.worker?.kill9()
      await server.cut()
      const worker = stack.startWorker()
      await sleep(5000)
      assert.equal(await dumpWaits(postgres, id), pid)
      await server.mend()
      assert.equal(worker.child.exitCode, null)
    } finally {
      await server.mend()
      await lock.release()
    }
    const made = await stack.ended(id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    await expectCleanServer()
  })

  test('the log is streamed there: a cut of the link, a worker that is killed, a reboot', async () => {
    const path = '/v1/connections/whole/log-stream'
    await stack.expectOk('POST', path, { destinations: ['disk'] })
    const archived = async () => {
      await postgres.sql("SELECT pg_logical_emit_message(false, 'test', 'to be archived')")
      const end = parseLsn(await postgres.sql('SELECT pg_switch_wal()')) ?? 0n
      await eventually('it is archived', async () => {
        const { state } = await stack.expectOk<LogStreamView>('GET', path)
        if (state && (parseLsn(state.archivedLsn ?? '0/0') ?? 0n) >= end) return true
        throw new Error(JSON.stringify(state))
      })
    }
    // Base backups of before it began have no log behind them.
    const holes = async () => {
      const of = '/v1/connections/whole/windows'
      const { archives } = await stack.expectOk<RecoveryWindowsView>('GET', of)
      return archives.flatMap(({ windows }) => windows.flatMap(({ gaps }) => gaps))
    }
    await archived()
    const before = await holes()
    await server.cut()
    await postgres.sql('SELECT pg_switch_wal()')
    await stack.worker?.kill9()
    stack.startWorker()
    await server.mend()
    await archived()
    await server.reboot()
    await archived()
    assert.deepEqual(await holes(), before)
    await stack.expectOk('POST', `${path}/stop`, { slot: 'drop' })
    await eventually('it is forgotten', async () =>
      (await stack.call('GET', path)).status === 404 ? true : undefined,
    )
    assert.equal(await postgres.sql('SELECT count(*) FROM pg_replication_slots'), '0')
    await expectCleanServer()
  })

  test('cancel ends what runs there', async () => {
    const lock = await lockTable(postgres.url('large'), 'words')
    try {
      const { id } = await stack.backup({ connection: 'large', destinations: ['disk'], format: 'directory' })
      const pid = await dumpWaits(postgres, id)
      await stack.expectOk('POST', `/v1/operations/${id}/cancel`)
      assert.equal((await stack.ended(id)).state, 'cancelled')
      await eventually('pg_dump to be gone', async () =>
        (await server.pids()).includes(pid) ? undefined : true,
      )
      await expectCleanServer()
    } finally {
      await lock.release()
    }
  })

  test('a host that shows another key parks what runs; agreed to, it goes on; given up, that is said', async () => {
    const connection = 'large'
    const lock = await lockTable(postgres.url('large'), 'words')
    const interrupted = async () => {
      const { id } = await stack.backup({ connection, destinations: ['disk'], format: 'custom' })
      await dumpWaits(postgres, id)
      await server.changeHostKey()
      await server.reboot()
      const parked = await stack.parked(id)
      assert.equal(parked.error?.code, 'host.key-changed', JSON.stringify(parked.error))
      return id
    }
    const agree = async () => {
      const key = fingerprint(await server.hostKey())
      await stack.expectOk('POST', '/v1/hosts/dbms/trust', { fingerprint: key })
    }
    try {
      const kept = await interrupted()
      await agree()
      await stack.resume(kept)
      await lock.release()
      assert.equal((await stack.ended(kept)).state, 'succeeded')
      const again = await lockTable(postgres.url('large'), 'words')
      try {
        const givenUp = await interrupted()
        await stack.expectOk('POST', `/v1/operations/${givenUp}/cancel`)
        const ended = await stack.ended(givenUp)
        assert.equal(ended.state, 'cancelled')
        // The destination knows, although the host cannot be asked.
        const folder = join(stack.directory, 'backups/large/backups', ended.backup ?? '')
        assert.deepEqual(await readdir(folder), ['deleted.json'])
        assert.match(ended.warnings.join(), /Not everything could be cleaned up/)
      } finally {
        await again.release()
      }
      await agree()
      await stack.ended((await stack.backup({ connection, destinations: ['disk'] })).id)
      await expectCleanServer()
    } finally {
      await lock.release()
    }
  })
})
