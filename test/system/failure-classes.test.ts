/**
 * Whose failure it is, by where a write failed: staging of the worker and of the database server, destination, target; full,
 * quota, read-only, not allowed. And what lies between: a pipe, the host, sudo. docs/failures.md lists which suites show the others.
 */
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { OperationView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { type QuotaDirectory, quotaDirectory } from '../servers/quota.ts'
import { sshUserId, startSshd, type TestSshd } from '../servers/sshd.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectFailed, expectParked, expectSucceeded, says, type Words } from './failing.ts'
import { dumpWaits, lockTable, pidsIn } from './sessions.ts'
import { directory, eventually, type Process, type Stack, startStack } from './stack.ts'

const execute = promisify(execFile)
const remount = (path: string, options: string) =>
  execFileSync('mount', ['-o', `remount,${options}`, path], { stdio: 'pipe' })

/** Somebody else's file takes what is free. */
const fill = async (path: string) => {
  await execute('dd', ['if=/dev/zero', `of=${path}`, 'bs=64k']).catch(() => {})
}

describe('whose failure it is', () => {
  let stack: Stack
  let server: TestSshd
  let postgres: TestPostgres
  let postgresUser: number
  let worker: Process
  let staging = ''
  const mounts: string[] = []
  const quotas: QuotaDirectory[] = []

  before(async () => {
    // All that concerns the worker's staging happens to this one.
    staging = await mkdtemp(join(tmpdir(), 'holdfast-failing-'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'holdfast-test', staging])
    mounts.push(staging)
    stack = await startStack({ env: { HOLDFAST_TEMP_DIR: staging } })
    assert.ok(stack.worker)
    worker = stack.worker
    server = await startSshd({ sudo: true })
    postgres = await startPostgres()
    await createDatabase(postgres.url(), 'shop')
    // A directory-format dump writes bytea as hexadecimal: twice of what the server's size promises.
    await fillRandomPostgres(postgres.url('shop'), 20)
    postgresUser = Number(execFileSync('id', ['-u', 'postgres'], { encoding: 'utf8' }))
    const lite = join(stack.directory, 'lite.db')
    makeRandomSqlite(lite, 20)
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: await directory(stack, 'backups') })
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    await stack.expectOk('POST', '/v1/connections', { name: 'lite', url: `sqlite:${lite}` })
  })

  afterEach(async () => {
    await server.mend()
    await server.allowSudo(true)
  })

  after(async () => {
    for (const quota of quotas) await quota.remove()
    for (const path of mounts) execFileSync('umount', ['-l', path])
    await stack?.stop()
    await postgres?.stop()
    await server?.stop()
    await rm(staging, { recursive: true, force: true })
  })

  const tmpfs = async (name: string, megabytes: number): Promise<string> => {
    const path = join(stack.directory, name)
    await mkdir(path, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'holdfast-test', path])
    mounts.push(path)
    return path
  }
  const quotaAt = async (path: string, mebibytes: number, user?: number): Promise<QuotaDirectory> => {
    const quota = await quotaDirectory(path, mebibytes, user)
    quotas.push(quota)
    return quota
  }

  /** A connection whose tools run on the database server, staging in `tempDir`. */
  const onServer = async (name: string, tempDir: string): Promise<void> => {
    await stack.expectOk('POST', '/v1/hosts', {
      name,
      url: `ssh://${server.user}@${server.address}:${server.port}`,
      tempDir,
      runAs: 'postgres',
      hostKeys: [await server.hostKey()],
      secrets: { privateKey: server.privateKey },
    })
    await stack.expectOk('POST', '/v1/connections', {
      name: `${name}-shop`,
      url: `postgres://postgres@/shop?host=${postgres.dataDir}&port=${postgres.port}`,
      host: name,
    })
  }
  /** A small file system there, which belongs to postgres. */
  const disk = async (megabytes: number): Promise<string> => {
    const path = await server.disk(megabytes * 1024)
    execFileSync('chown', [`${postgresUser}:${postgresUser}`, path])
    return path
  }

  const make = (connection: string, more: Record<string, unknown> = {}) =>
    stack.backup({ connection, destinations: ['disk'], ...more })
  const staged = (connection: string) => make(connection, { format: 'directory' })

  /** A staged backup that cannot begin. */
  const failsBefore = async (
    connection: string,
    staging: string,
    code: string,
    words: Words,
    mend: () => unknown,
  ) => {
    const operation = await staged(connection)
    await expectFailed(stack, { operation, staging, code, words, mend }, () => staged(connection))
  }
  /** A staged backup that comes to a stop. */
  const stops = async (
    connection: string,
    staging: string,
    code: string,
    words: Words,
    mend: () => unknown,
  ) => expectParked(stack, { operation: await staged(connection), staging, code, words, mend })

  describe('staging on the worker', () => {
    test('read-only', async () => {
      remount(staging, 'ro')
      await failsBefore('pg', staging, 'staging.read-only', [staging, 'on host local'], () =>
        remount(staging, 'rw'),
      )
    })

    test('not allowed', async () => {
      for (const room of ['data', 'jobs']) execFileSync('chattr', ['+i', join(staging, room)])
      await failsBefore('pg', staging, 'staging.permission', [staging, 'on host local'], () => {
        for (const room of ['data', 'jobs']) execFileSync('chattr', ['-i', join(staging, room)])
      })
    })

    test('room that is promised to another: it is said, waited for, and goes on by itself', async () => {
      remount(staging, 'size=56m')
      const lock = await lockTable(postgres.url('shop'), 'words')
      try {
        const first = await make('pg', { format: 'directory' })
        await dumpWaits(postgres, first.id)
        // Somebody else's file: what is left has room for one of them.
        execFileSync('dd', ['if=/dev/zero', `of=${staging}/others`, 'bs=1M', 'count=14'], { stdio: 'pipe' })
        const dry = await stack.ended((await make('lite', { dryRun: true })).id)
        const second = await make('lite')
        const row = await eventually('the second waits', async () =>
          (await stack.operation(second.id)).checks.find(check => check.code === 'staging.promised'),
        )
        const asked = dry.checks.find(one => one.id === 'staging')
        assert.equal(row.answer, 'fail')
        assert.equal(asked?.answer, 'warn', 'it would only wait')
        for (const { detail } of [row, asked]) {
          assert.match(detail, /^Of \d+\.\d MB free in .* MB are promised to /)
          assert.ok(detail.includes(`${first.id} (pg)`), detail)
          assert.match(detail, /the staged copy needs about \d+\.\d MB/)
        }
        assert.equal((await stack.operation(first.id)).state, 'running')
        // It is killed where it stands: what is closed is promised nothing.
        await worker.kill9()
        await stack.expectOk('POST', `/v1/operations/${first.id}/cancel`)
        worker = stack.startWorker()
        assert.equal((await stack.ended(first.id)).state, 'cancelled')
        await expectSucceeded(stack, second.id, staging)
      } finally {
        await lock.release()
        await rm(join(staging, 'others'), { force: true })
        remount(staging, 'size=160m')
      }
    })

    test('quota: not taken for a full disk', async () => {
      const quota = await quotaAt(join(staging, 'data'), 24)
      await stops(
        'pg',
        staging,
        'staging.quota',
        [staging, 'on host local', /quota/, /has \d+(\.\d+)? .B free/],
        () => quota.limit(300),
      )
    })
  })

  describe('staging on the database server', () => {
    test('full: before, and when the tool meets it', async () => {
      const tiny = await disk(8)
      await onServer('tiny', tiny)
      await failsBefore(
        'tiny-shop',
        tiny,
        'staging.full',
        [tiny, 'on host tiny', /has \d+\.\d MB free/, /needs about \d+\.\d MB/],
        () => remount(tiny, 'size=160m'),
      )
      const middle = await disk(32)
      await onServer('middle', middle)
      await stops(
        'middle-shop',
        middle,
        'staging.full',
        [middle, 'on host middle', /has \d+\.\d MB free/],
        () => remount(middle, 'size=160m'),
      )
    })

    test('quota: not taken for a full disk', async () => {
      const staging = await disk(128)
      const quota = await quotaAt(join(staging, 'data'), 24, postgresUser)
      await onServer('held', staging)
      await stops('held-shop', staging, 'staging.quota', [staging, 'on host held', /quota/], () =>
        quota.limit(300),
      )
    })

    test('read-only', async () => {
      const staging = await disk(128)
      await onServer('fixed', staging)
      remount(staging, 'ro')
      await failsBefore('fixed-shop', staging, 'staging.read-only', [staging, 'fixed'], () =>
        remount(staging, 'rw'),
      )
    })

    test("another user's", async () => {
      const staging = await disk(128)
      await onServer('foreign', staging)
      execFileSync('chown', [`${sshUserId}:${sshUserId}`, staging])
      execFileSync('chmod', ['755', staging])
      await failsBefore('foreign-shop', staging, 'staging.permission', [staging, 'foreign'], () =>
        execFileSync('chown', [`${postgresUser}:${postgresUser}`, staging]),
      )
    })
  })

  describe('destination and target', () => {
    let backup: string | null
    before(async () => {
      const made = await expectSucceeded(stack, (await make('lite')).id, staging)
      backup = made.backup
    })

    const back = (place: string) =>
      stack.restore({ backup, target: { connection: 'lite', database: join(place, 'back.db') } })
    /** It comes to a stop, when it has begun: `spoil` runs right before. */
    const comesBack = async (
      place: string,
      spoil: readonly string[] | undefined,
      code: string,
      words: Words,
      mend: () => unknown,
    ) => {
      const items = spoil ? [{ name: 'spoil', of: 'restore', at: 'before', run: { argv: spoil } }] : []
      await stack.expectOk('PUT', '/v1/connections/lite/hooks', { items })
      const operation = await back(place)
      await expectParked(stack, { operation, staging, code, words, mend })
      assert.ok((await stat(join(place, 'back.db'))).size > 20e6)
      await stack.expectOk('PUT', '/v1/connections/lite/hooks', { items: [] })
    }

    test("a destination's quota", async () => {
      const vault = join(stack.directory, 'quota-vault')
      const quota = await quotaAt(vault, 8)
      await stack.expectOk('POST', '/v1/destinations', { name: 'held', uri: vault })
      await expectParked(stack, {
        operation: await stack.backup({ connection: 'lite', destinations: ['held'] }),
        staging,
        code: 'destination.full',
        words: [vault, /the disk quota is used up/],
        mend: () => quota.limit(300),
      })
    })

    test('a destination that is read-only', async () => {
      const vault = await tmpfs('read-only-vault', 64)
      await stack.expectOk('POST', '/v1/destinations', { name: 'fixed', uri: vault })
      remount(vault, 'ro')
      const again = () => stack.backup({ connection: 'lite', destinations: ['fixed'] })
      const failing = {
        operation: await again(),
        staging,
        code: 'destination.denied',
        words: [vault, /the file system is read-only/],
        mend: () => remount(vault, 'rw'),
      }
      await expectFailed(stack, failing, again)
    })

    test("a target's quota", async () => {
      const place = join(stack.directory, 'quota-target')
      const quota = await quotaAt(place, 8)
      await comesBack(place, undefined, 'restore.target-quota', [/quota/], () => quota.limit(300))
    })

    test('a target that is read-only', async () => {
      const place = await tmpfs('read-only-target', 64)
      const spoil = ['mount', '-o', 'remount,ro', place]
      await comesBack(place, spoil, 'restore.target-read-only', [place], () => remount(place, 'rw'))
    })

    test('a target that may not be written: before, and when the tool meets it', async () => {
      const place = await tmpfs('denied-target', 64)
      const may = (flag: '+i' | '-i') => execFileSync('chattr', [flag, place])
      may('+i')
      const refused = await stack.ended((await back(place)).id)
      assert.equal(refused.state, 'failed')
      says(refused, 'restore.target-permission', place)
      may('-i')
      const spoil = ['chattr', '+i', place]
      await comesBack(place, spoil, 'restore.target-permission', [place], () => may('-i'))
    })

    test("the database server's own disk is full: not taken for staging", async () => {
      const small = await disk(2)
      const others = join(small, 'others')
      await postgres.sql(`CREATE TABLESPACE small LOCATION '${small}'`)
      await createDatabase(postgres.url(), 'wide')
      await postgres.sql(
        `DO $$ BEGIN
           FOR n IN 1..8 LOOP
             EXECUTE (SELECT format('CREATE TABLE wide_%s (%s)', n, string_agg(format('column_%s int DEFAULT 1', c), ','))
               FROM generate_series(1, 200) c);
           END LOOP;
         END $$;
         ALTER DATABASE wide SET work_mem = '64kB';
         ALTER DATABASE wide SET temp_tablespaces = small;`,
        'wide',
      )
      await stack.expectOk('POST', '/v1/connections', { name: 'wide', url: postgres.url('wide') })
      // What pg_dump reads of the columns is sorted on disk, after it has its locks.
      const lock = await lockTable(postgres.url('wide'), 'wide_1')
      let operation: OperationView
      try {
        operation = await staged('wide')
        await dumpWaits(postgres, operation.id)
        await fill(others)
      } finally {
        await lock.release()
      }
      const words = [/No space left on device/, /the file system of the database server is full/]
      const mend = () => rm(others)
      await expectParked(stack, { operation, staging, code: 'database.full', words, mend })
    })
  })

  describe('on the way', () => {
    test('a broken pipe is the echo of what ended first, which is run again', async () => {
      const lock = await lockTable(postgres.url('shop'), 'words')
      let id: string
      try {
        id = (await make('pg', { format: 'custom' })).id
        await dumpWaits(postgres, id)
        const compressors = pidsIn(id, 'pzstd')
        assert.equal(compressors.length, 1)
        for (const pid of compressors) process.kill(pid, 'SIGKILL')
      } finally {
        await lock.release()
      }
      const { backup } = await expectSucceeded(stack, id, staging)
      assert.equal((await stack.backups('pg')).filter(one => one.id === backup).length, 1)
    })

    test('sudo refuses in the middle: parked with the line that is missing; allowed again, it goes on', async () => {
      const staging = await disk(160)
      await onServer('strict', staging)
      const lock = await lockTable(postgres.url('shop'), 'words')
      try {
        const { id } = await make('strict-shop', { format: 'directory' })
        await dumpWaits(postgres, id)
        await server.allowSudo(false)
        const parked = await stack.parked(id)
        says(parked, 'host.sudo', 'postgres', 'strict')
        assert.match(parked.error?.hint ?? '', /hfdba .*NOPASSWD: \/bin\/sh/)
        await server.allowSudo(true)
        await lock.release()
        await stack.resume(id)
        await expectSucceeded(stack, id, staging)
      } finally {
        await lock.release()
      }
    })
  })
})
