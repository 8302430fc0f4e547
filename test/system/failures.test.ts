/**
 * What goes wrong in real life: the right code and a hint. Before the work has begun it ends there and nothing is left
 * behind; what an operator can mend later parks the operation, and it goes on once it is mended.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFile, mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost } from './inspect.ts'
import { dumpWaits, lockTable, pidsIn } from './sessions.ts'
import { directory, type Process, type Stack, s3Input, startStack } from './stack.ts'

/** No word that a message may hold by itself. */
const password = 'kq7-Vm2-xt'

describe('failures', () => {
  let stack: Stack
  let store: Versitygw
  let postgres: TestPostgres
  let sqlitePath = ''
  let worker: Process
  let special = false
  const mounts: string[] = []

  /** A small file system of its own. */
  const tmpfs = async (name: string, megabytes: number): Promise<string> => {
    const path = join(stack.directory, name)
    await mkdir(path, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'holdfast-test', path])
    mounts.push(path)
    return path
  }

  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    store = await startVersitygw()
    postgres = await startPostgres({ auth: 'scram', password })
    sqlitePath = join(stack.directory, 'source.db')
    makeRandomSqlite(sqlitePath, 20)
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 20)
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: await directory(stack, 'backups') })
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    await stack.expectOk('POST', '/v1/connections', { name: 'lite', url: `sqlite:${sqlitePath}` })
  })

  afterEach(async () => {
    if (special) await workerWith({})
  })

  after(async () => {
    for (const path of mounts) execFileSync('umount', ['-l', path])
    await stack?.stop()
    await postgres?.stop()
    await store?.stop()
  })

  const expectFailed = async (operation: OperationView, code: string): Promise<OperationView> => {
    const view = await stack.ended(operation.id, 120)
    assert.equal(view.state, 'failed', JSON.stringify(view))
    assert.equal(view.error?.code, code, JSON.stringify(view.error))
    assert.ok(view.error.hint.length > 10, 'a hint')
    assert.ok(!JSON.stringify(view).includes(password), 'no password')
    expectCleanHost(stack.home, view.id)
    assert.equal((await stack.backups(view.connection)).filter(one => one.id === view.backup).length, 0)
    return view
  }

  /** Parked with this code; `mend` mends it; then there is one backup and nothing else. */
  const expectMended = async (
    operation: OperationView,
    code: string,
    mend: (parked: OperationView) => unknown,
  ): Promise<OperationView> => {
    const parked = await stack.parked(operation.id)
    assert.equal(parked.error?.code, code, JSON.stringify(parked.error))
    assert.ok(parked.error.hint.length > 10, 'a hint')
    assert.ok(!JSON.stringify(parked).includes(password), 'no password')
    assert.deepEqual(pidsIn(operation.id, 'pg_dump'), [], 'nothing holds the source meanwhile')
    await mend(parked)
    await stack.resume(operation.id)
    const view = await stack.ended(operation.id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.equal(view.error, null)
    expectCleanHost(stack.home, view.id)
    assert.equal((await stack.backups(view.connection)).filter(one => one.id === view.backup).length, 1)
    return view
  }

  const enlarge = (path: string, megabytes: number) =>
    execFileSync('mount', ['-o', `remount,size=${megabytes}m`, path])

  /** The one worker is replaced by one with another environment. */
  const workerWith = async (env: Record<string, string>): Promise<void> => {
    await worker.terminate()
    worker = stack.startWorker(env)
    special = Object.keys(env).length > 0
  }

  test('wrong password, when the connection is made and later', async () => {
    const wrong = postgres.url('shop').replace(password, 'wrong')
    const refused = await stack.refused('POST', '/v1/connections', { name: 'wrong', url: wrong })
    assert.equal(refused.body.code, 'database.authentication', JSON.stringify(refused.body))
    assert.ok(!JSON.stringify(refused.body).includes('wrong@'))
    await postgres.sql("ALTER ROLE postgres PASSWORD 'changed'")
    try {
      await expectFailed(
        await stack.backup({ connection: 'pg', destinations: ['disk'] }),
        'database.authentication',
      )
    } finally {
      const changed = postgres.url().replace(password, 'changed')
      execFileSync('psql', ['-X', '-q', '-c', `ALTER ROLE postgres PASSWORD '${password}'`, changed])
    }
  })

  test('the database is stopped', async () => {
    await postgres.kill9()
    try {
      await expectFailed(
        await stack.backup({ connection: 'pg', destinations: ['disk'] }),
        'database.unreachable',
      )
    } finally {
      await postgres.restart()
    }
  })

  test('the database dies in the middle of the dump', async () => {
    const lock = await lockTable(postgres.url('shop'), 'blobs')
    const operation = await stack.backup({ connection: 'pg', destinations: ['disk'] })
    await dumpWaits(postgres, operation.id)
    await postgres.kill9()
    try {
      await lock.release()
      await expectMended(operation, 'database.unreachable', () => postgres.restart())
    } finally {
      // The tests that follow need it, whatever became of this one.
      await postgres.restart()
    }
  })

  test('a tool is missing', async () => {
    const bin = join(stack.directory, 'bin')
    await mkdir(bin)
    for (const directory of ['/usr/bin', '/bin', '/usr/lib/postgresql/15/bin']) {
      for (const name of await readdir(directory).catch(() => [])) {
        if (name !== 'pg_dump' && name !== 'sqlite3')
          await symlink(join(directory, name), join(bin, name)).catch(() => {})
      }
    }
    await workerWith({ PATH: bin })
    const missing = await expectFailed(
      await stack.backup({ connection: 'lite', destinations: ['disk'] }),
      'host.tool-missing',
    )
    assert.match(missing.error?.detail ?? '', /sqlite3/)
    const dump = await expectFailed(
      await stack.backup({ connection: 'pg', destinations: ['disk'] }),
      'host.tool-missing',
    )
    assert.match(dump.error?.detail ?? '', /pg_dump/)
  })

  test('the destination is full', async () => {
    const small = await tmpfs('small-destination', 8)
    await stack.expectOk('POST', '/v1/destinations', { name: 'small', uri: small })
    for (const connection of ['lite', 'pg']) {
      const operation = await stack.backup({ connection, destinations: ['small'] })
      assert.equal((await stack.parked(operation.id)).error?.code, 'destination.full')
      await stack.expectOk('POST', `/v1/operations/${operation.id}/cancel`)
      assert.equal((await stack.ended(operation.id)).state, 'cancelled')
      expectCleanHost(stack.home, operation.id)
    }
    const left = execFileSync('find', [small, '-type', 'f', '-size', '+8k'], { encoding: 'utf8' })
    assert.equal(left, '', 'nothing large is left in the full destination')
    const markers = execFileSync('find', [small, '-name', 'deleted.json'], { encoding: 'utf8' })
    assert.equal(markers.trim().split('\n').length, 2, 'and both are marked as given up')
    for (const connection of ['lite', 'pg']) {
      enlarge(small, 8)
      await expectMended(
        await stack.backup({ connection, destinations: ['small'] }),
        'destination.full',
        () => enlarge(small, 80),
      )
      execFileSync('rm', ['-rf', join(small, connection)])
    }
  })

  test('staging is full: said before, and when the tool meets it', async () => {
    const small = await tmpfs('small-staging', 10)
    await workerWith({ HOLDFAST_TEMP_DIR: join(small, 'staging') })
    const early = await expectFailed(
      await stack.backup({ connection: 'lite', destinations: ['disk'] }),
      'staging.full',
    )
    assert.match(early.error?.detail ?? '', /free/)
    // A directory-format dump writes bytea as hexadecimal: twice of what the server's size promises.
    const middle = await tmpfs('middle-staging', 32)
    await workerWith({ HOLDFAST_TEMP_DIR: join(middle, 'staging') })
    await expectMended(
      await stack.backup({ connection: 'pg', destinations: ['disk'], format: 'directory' }),
      'staging.full',
      () => enlarge(middle, 128),
    )
    assert.equal(
      execFileSync('find', [middle, '-type', 'f', '!', '-name', 'machine.id'], { encoding: 'utf8' }),
      '',
      'staging is empty again',
    )
  })

  test('the target of a restore is full', async () => {
    const small = await tmpfs('small-target', 8)
    const text = join(stack.directory, 'text.db')
    await copyFile(sqlitePath, text)
    await stack.expectOk('POST', '/v1/connections', {
      name: 'text',
      url: `sqlite:${text}`,
      method: 'logical',
    })
    for (const connection of ['lite', 'text']) {
      const made = await stack.ended((await stack.backup({ connection, destinations: ['disk'] })).id)
      assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
      const target = { connection, database: join(small, 'back.db') }
      const view = await stack.ended((await stack.restore({ backup: made.backup, target })).id)
      assert.equal(view.state, 'failed', JSON.stringify(view))
      assert.equal(view.error?.code, 'restore.target-full', JSON.stringify(view.error))
      assert.deepEqual(await readdir(small), [], 'nothing of it is left')
      expectCleanHost(stack.home, view.id)
    }
  })

  test('the destination refuses: other credentials, no bucket', async () => {
    await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'failures'))
    await store.kill()
    const { root, port } = store
    store = await startVersitygw({
      root,
      port,
      credentials: { accessKeyId: 'other', secretAccessKey: 'another-secret' },
    })
    await expectFailed(
      await stack.backup({ connection: 'lite', destinations: ['vault'] }),
      'destination.denied',
    )
  })

  test('a restore over something that exists is refused and touches nothing', async () => {
    const made = await stack.ended((await stack.backup({ connection: 'lite', destinations: ['disk'] })).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    const target = join(stack.directory, 'precious.txt')
    await writeFile(target, 'precious')
    const view = await stack.ended(
      (await stack.restore({ backup: made.backup, target: { connection: 'lite', database: target } })).id,
    )
    assert.equal(view.error?.code, 'restore.target-exists')
    const pg = await stack.ended((await stack.backup({ connection: 'pg', destinations: ['disk'] })).id)
    const over = await stack.ended(
      (await stack.restore({ backup: pg.backup, target: { connection: 'pg', database: 'shop' } })).id,
    )
    assert.equal(over.error?.code, 'restore.target-exists')
    assert.equal(await postgres.sql('SELECT count(*) FROM words', 'shop'), '2')
  })

  test('a second backup of the same server names the holder', async () => {
    const lock = await lockTable(postgres.url('shop'), 'blobs')
    const first = await stack.backup({ connection: 'pg', destinations: ['disk'] })
    const second = await stack.refused('POST', '/v1/backups', { connection: 'pg', destinations: ['disk'] })
    assert.equal(second.status, 409)
    assert.equal(second.body.code, 'operation.conflict')
    assert.equal(second.body.holder?.operation, first.id)
    await lock.release()
    assert.equal((await stack.ended(first.id)).state, 'succeeded')
  })
})
