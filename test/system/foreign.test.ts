/** Dumps that Holdfast did not make: read by every level, and restored through the same workflow as our own. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { BackupView, OperationView, PlanView, SyncView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost } from './inspect.ts'
import { directory, type Stack, startStack } from './stack.ts'

describe('foreign', () => {
  let stack: Stack
  let postgres: TestPostgres
  let dumps = ''
  let targets = ''
  let source = ''

  before(async () => {
    stack = await startStack()
    postgres = await startPostgres()
    dumps = await directory(stack, 'dumps')
    targets = await directory(stack, 'targets')
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 7)
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 7)
    await stack.expectOk('POST', '/v1/connections', {
      name: 'file',
      url: `sqlite:${source}`,
      method: 'physical',
    })
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    const dump = execFileSync('sqlite3', [source, '.dump'], { maxBuffer: 1 << 30 })
    await writeFile(join(dumps, 'text.sql'), dump)
    await writeFile(join(dumps, 'text.sql.gz'), gzipSync(dump))
    execFileSync('sqlite3', [source, `VACUUM INTO '${join(dumps, 'copy.db')}'`])
    for (const program of ['xz', 'bzip2']) execFileSync(program, ['-k', join(dumps, 'copy.db')])
    for (const [format, name] of [
      ['-Fc', 'shop.dump'],
      ['-Ft', 'shop.tar'],
      ['-Fp', 'shop.sql'],
    ] as const) {
      execFileSync('pg_dump', [format, '-f', join(dumps, name), postgres.url('shop')])
    }
    execFileSync('pg_dump', ['--create', '-f', join(dumps, 'created.sql'), postgres.url('shop')])
    execFileSync('pg_dumpall', ['-f', join(dumps, 'cluster.sql'), '-d', postgres.url()])
    execFileSync('zstd', ['-q', '-k', join(dumps, 'shop.dump')])
    await writeFile(join(dumps, 'other.dmp'), randomBytes(1000))
    await sync()
  })
  after(async () => {
    await stack?.stop()
    await postgres?.stop()
  })

  const sync = () => stack.expectOk<SyncView>('POST', '/v1/catalog/sync', { source: dumps })
  const the = async (file: string): Promise<BackupView> => {
    const { items } = await stack.expectOk<{ items: BackupView[] }>('GET', '/v1/backups')
    const found = items.find(one => one.foreign?.file === file && one.state === 'committed')
    assert.ok(found, file)
    return found
  }
  const verified = async (file: string, level: string): Promise<OperationView> => {
    const { id } = await the(file)
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      `/v1/backups/${id}/verify`,
      {
        level,
      },
    )
    const ended = await stack.ended(operation.id)
    expectCleanHost(stack.home, ended.id)
    return ended
  }
  const restored = async (file: string, connection: string, more: object = {}) => {
    const name = `back_${randomBytes(4).toString('hex')}`
    const database = connection === 'pg' ? name : join(targets, `${name}.db`)
    const { id } = await the(file)
    const operation = await stack.restore({ backup: id, target: { connection, database }, ...more })
    return { view: await stack.ended(operation.id), database }
  }
  const expectSucceeded = (view: OperationView) =>
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))

  test('exists, checksum: the hash is taken by the first reading, and held to by the next', async () => {
    expectSucceeded(await verified('copy.db', 'exists'))
    assert.equal((await the('copy.db')).foreign?.sha256, null)
    expectSucceeded(await verified('copy.db', 'checksum'))
    const sha256 = createHash('sha256')
      .update(await readFile(join(dumps, 'copy.db')))
      .digest('hex')
    assert.equal((await the('copy.db')).foreign?.sha256, sha256)
    expectSucceeded(await verified('copy.db', 'checksum'))
    assert.equal((await the('copy.db')).verified?.level, 'checksum')
  })

  test('deep: every wrapping and format, and what is learned by it', async () => {
    for (const file of [
      'copy.db',
      'copy.db.xz',
      'copy.db.bz2',
      'created.sql',
      'cluster.sql',
      'text.sql',
      'text.sql.gz',
      'shop.dump',
      'shop.dump.zst',
      'shop.tar',
      'shop.sql',
    ]) {
      const view = await verified(file, 'deep')
      expectSucceeded(view)
      const { foreign, verified: found } = await the(file)
      assert.match(foreign?.sha256 ?? '', /^[0-9a-f]{64}$/, file)
      assert.equal(found?.ok, true, file)
    }
    const wrapped = await the('copy.db.xz')
    assert.deepEqual([wrapped.engine, wrapped.format], ['sqlite', 'sqlite-file'])
    assert.equal(wrapped.toolBytes, (await the('copy.db')).storedBytes)
    const unknown = await verified('other.dmp', 'deep')
    assert.equal(unknown.error?.code, 'artifact.unknown-format')
  })

  test('restored beside, and equal', async () => {
    for (const file of ['copy.db', 'text.sql', 'text.sql.gz']) {
      const { view, database } = await restored(file, 'file')
      expectSucceeded(view)
      assert.deepEqual(await digestSqlite(database), await digestSqlite(source), file)
      assert.ok(view.warnings.some(one => /Nobody signed/.test(one)))
    }
    for (const file of ['shop.dump', 'shop.dump.zst', 'shop.tar', 'shop.sql']) {
      const { view, database } = await restored(file, 'pg')
      expectSucceeded(view)
      assert.deepEqual(
        await digestPostgres(postgres.url(database)),
        await digestPostgres(postgres.url('shop')),
        file,
      )
    }
  })

  test('what no engine takes as it is, is refused, and nothing is left', async () => {
    for (const program of ['xz', 'bzip2']) {
      const { id } = await the(`copy.db.${program === 'xz' ? 'xz' : 'bz2'}`)
      const target = { connection: 'file', database: join(targets, 'x.db') }
      const { status, body } = await stack.refused('POST', '/v1/restores', { backup: id, target })
      assert.deepEqual([status, body.code], [422, 'restore.mismatch'], JSON.stringify(body))
      assert.match(body.hint ?? '', new RegExp(`${program} -dk .*catalog sync`))
    }
    for (const [file, said] of [
      ['cluster.sql', /pg_dumpall/],
      ['created.sql', /--create/],
    ] as const) {
      const { view } = await restored(file, 'pg')
      assert.equal(view.error?.code, 'restore.mismatch', file)
      assert.match(view.error.detail, said)
      assert.match(view.error.hint, /server of its own/)
      expectCleanHost(stack.home, view.id)
    }
    const { id } = await the('shop.dump')
    const answer = await stack.call('POST', '/v1/restores', {
      backup: id,
      target: { connection: 'file', database: join(targets, 'x.db') },
    })
    assert.equal(answer.status >= 400, true)
  })

  test('the plan says that nobody signed it, before anybody agrees', async () => {
    const { view } = await restored('copy.db', 'file', { dryRun: true })
    expectSucceeded(view)
    const plan = await stack.expectOk<PlanView>('GET', `/v1/operations/${view.id}/plan`)
    const { foreign } = await the('copy.db')
    assert.match(plan.unsigned ?? '', new RegExp(`Nobody signed.*copy\\.db.*${foreign?.sha256}`))
  })

  test('one that changes under its name is not restored, and found by the quickest look', async () => {
    const path = join(dumps, 'shop.dump')
    const bytes = await readFile(path)
    const changed = Buffer.from(bytes)
    changed[changed.length - 100] = (changed[changed.length - 100] ?? 0) ^ 0x10
    await writeFile(path, changed)
    const { view } = await restored('shop.dump', 'pg')
    assert.equal(view.state, 'failed')
    assert.equal(view.error?.code, 'artifact.corrupted', JSON.stringify(view.error))
    assert.equal((await verified('shop.dump', 'exists')).error?.code, 'artifact.corrupted')
    assert.equal((await the('shop.dump')).verified?.ok, false)
  })

  test('a hash that differs ends a restore, although the store says it is the same file', async () => {
    const path = join(dumps, 'text.sql')
    const bytes = await readFile(path)
    const { foreign } = await the('text.sql')
    const at = new Date(foreign?.modifiedAt ?? 0)
    const end = bytes.length - 'COMMIT;\n'.length - 4
    const changed = Buffer.from(bytes)
    changed[end] = 0x20
    await writeFile(path, changed)
    await utimes(path, at, at)
    const before = await readdir(targets)
    const { view } = await restored('text.sql', 'file')
    assert.equal(view.error?.code, 'artifact.corrupted', JSON.stringify(view.error))
    assert.deepEqual(await readdir(targets), before)
    await mkdir(targets, { recursive: true })
  })
})
