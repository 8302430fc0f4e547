/** Foreign dumps in an object store: found, read and restored there; and whoever is killed meanwhile, it comes out the same. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readFile, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { BackupView, OperationView, SyncView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost, objectsOf } from './inspect.ts'
import { directory, type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

const prefix = 'company'
const folder = 'before holdfast'

describe('foreign, in S3', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let cloud: Destination
  let postgres: TestPostgres
  let worker: Process
  let source = ''
  let targets = ''
  /** What was put there, by its name. */
  const put = new Map<string, Buffer>()

  before(async () => {
    stack = await startStack()
    ;({ store, front, destination: cloud } = await startVault(stack, prefix))
    postgres = await startPostgres()
    targets = await directory(stack, 'targets')
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 9)
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 3)
    await stack.expectOk('POST', '/v1/connections', {
      name: 'file',
      url: `sqlite:${source}`,
      method: 'physical',
    })
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    const run = (program: string, ...args: string[]) => execFileSync(program, args, { maxBuffer: 1 << 30 })
    put.set('copy.db', await readFile(source))
    put.set('text.sql.gz', gzipSync(run('sqlite3', source, '.dump'), { level: 1 }))
    put.set('shop.dump', run('pg_dump', '-Fc', postgres.url('shop')))
    put.set('shop.sql', run('pg_dump', '-Fp', postgres.url('shop')))
    put.set('größe.tar', run('pg_dump', '-Ft', postgres.url('shop')))
    for (const [name, bytes] of put) await cloud.put(`${folder}/${name}`, bytes)
    await cloud.put(`${folder}/notes.txt`, Buffer.from('no dump'))
    await cloud.put('elsewhere/other.sql', put.get('shop.sql') ?? Buffer.alloc(0))
    assert.ok(stack.worker)
    worker = stack.worker
  })
  after(async () => {
    await stack?.stop()
    await postgres?.stop()
    await front?.close()
    await cloud?.close()
    await store?.stop()
  })

  const place = () => `s3://${store.bucket}/${prefix}/${folder}`
  const sync = () => stack.expectOk<SyncView>('POST', '/v1/catalog/sync', { source: place() })
  const foreign = async () =>
    (await stack.expectOk<{ items: BackupView[] }>('GET', '/v1/backups')).items.filter(one => one.foreign)
  const the = async (name: string): Promise<BackupView> => {
    const found = (await foreign()).filter(
      one => one.foreign?.file === `${folder}/${name}` && one.state === 'committed',
    )
    assert.equal(found.length, 1, `${name}: ${found.length}`)
    return found[0] ?? assert.fail(name)
  }
  const begin = async (name: string, level: string): Promise<OperationView> => {
    const { id } = await the(name)
    const path = `/v1/backups/${id}/verify`
    return (await stack.expectOk<{ operation: OperationView }>('POST', path, { level })).operation
  }
  const verified = async (name: string, level: string): Promise<OperationView> => {
    const ended = await stack.ended((await begin(name, level)).id)
    expectCleanHost(stack.home, ended.id)
    return ended
  }
  const restored = async (name: string, connection: string) => {
    const temporary = `back_${randomBytes(4).toString('hex')}`
    const database = connection === 'pg' ? temporary : join(targets, `${temporary}.db`)
    const { id } = await the(name)
    const operation = await stack.restore({ backup: id, target: { connection, database } })
    return { view: await stack.ended(operation.id), database }
  }
  const expectSucceeded = (view: OperationView) =>
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
  const isRead = (name: string) => (method: string, url: string) =>
    method === 'GET' && decodeURIComponent(url).includes(`${folder}/${name}`)

  test('the API is killed while it syncs: asked again it comes to the end, and nothing stands twice', async () => {
    for (const moment of ['before', 'after'] as const) {
      const held = front.hold(moment, isRead('shop.dump'))
      const asked = sync().catch((error: unknown) => error)
      await held.reached
      await stack.api.kill9()
      held.cut()
      assert.ok((await asked) instanceof Error)
      await stack.restartApi()
    }
    // Those before it are in the catalog, it and those behind it are not.
    const done = (await foreign()).map(one => one.foreign?.file).sort()
    assert.deepEqual(done, [`${folder}/copy.db`, `${folder}/größe.tar`])
    const [one, other] = await Promise.all([sync(), sync()])
    assert.deepEqual([one?.found, other?.found], [5, 5])
    assert.equal((one?.added ?? 0) + (other?.added ?? 0), 3, 'two at once add each file once')
    assert.deepEqual(await sync(), {
      destination: 'vault',
      found: 5,
      added: 0,
      back: 0,
      gone: 0,
      skipped: 1,
      next: null,
      refused: [],
    })
    const files = (await foreign()).map(({ foreign: file }) => file?.file).sort()
    assert.deepEqual(files, Array.from(put.keys(), name => `${folder}/${name}`).sort())
    assert.equal((await the('größe.tar')).format, 'pgdump-tar')
  })

  test('the worker is killed in the middle of each reading; it is read again, and nothing stays', async () => {
    const reads: [string, string, 'before' | 'midway'][] = [
      ['copy.db', 'deep', 'midway'],
      ['text.sql.gz', 'checksum', 'midway'],
      ['shop.dump', 'deep', 'before'],
    ]
    for (const [name, level, moment] of reads) {
      const held = front.hold(moment, isRead(name))
      const { id } = await begin(name, level)
      await held.reached
      await worker.kill9()
      held.cut()
      worker = stack.startWorker()
      const view = await stack.ended(id)
      expectSucceeded(view)
      expectCleanHost(stack.home, id)
      const { foreign: file, verified: found } = await the(name)
      const sha256 = createHash('sha256')
        .update(put.get(name) ?? '')
        .digest('hex')
      assert.equal(file?.sha256, sha256, name)
      assert.deepEqual([found?.ok, found?.level], [true, level])
    }
  })

  test('its answer is lost after the hash is in the catalog: the hash of the first reading is that of the second', async () => {
    const held = stack.workerApi.hold('after', (_method, url) => url.endsWith('/recordForeignReading'))
    const { id } = await begin('shop.sql', 'deep')
    await held.reached
    const first = (await the('shop.sql')).foreign?.sha256
    assert.match(first ?? '', /^[0-9a-f]{64}$/)
    await worker.kill9()
    held.cut()
    worker = stack.startWorker()
    expectSucceeded(await stack.ended(id))
    assert.equal((await the('shop.sql')).foreign?.sha256, first)
  })

  test('every one read to its end, and restored as it was; nothing is written in the store', async () => {
    const keys = await objectsOf(cloud)
    for (const name of put.keys()) expectSucceeded(await verified(name, 'deep'))
    for (const name of ['copy.db', 'text.sql.gz']) {
      const { view, database } = await restored(name, 'file')
      expectSucceeded(view)
      assert.deepEqual(await digestSqlite(database), await digestSqlite(source), name)
    }
    for (const name of ['shop.dump', 'shop.sql', 'größe.tar']) {
      const { view, database } = await restored(name, 'pg')
      expectSucceeded(view)
      const [back, was] = [postgres.url(database), postgres.url('shop')]
      assert.deepEqual(await digestPostgres(back), await digestPostgres(was), name)
    }
    assert.deepEqual(await objectsOf(cloud), keys)
  })

  test('one that is put anew under its key is another backup; the old one is told apart by the tag of the store', async () => {
    const { id } = await the('shop.dump')
    const changed = Buffer.from(put.get('shop.dump') ?? '')
    changed[changed.length - 100] = (changed.at(-100) ?? 0) ^ 0x10
    await cloud.put(`${folder}/shop.dump`, changed)
    assert.equal((await verified('shop.dump', 'exists')).error?.code, 'artifact.corrupted')
    assert.equal((await restored('shop.dump', 'pg')).view.error?.code, 'artifact.corrupted')
    const { added, gone, found } = await sync()
    assert.deepEqual([added, gone, found], [1, 0, 5])
    const now = await the('shop.dump')
    assert.notEqual(now.id, id)
    assert.equal(now.foreign?.sha256, null)
  })

  test('bytes that changed behind the back of the store are found by their hash', async () => {
    const path = join(store.root, 'buckets', store.bucket, prefix, folder, 'copy.db')
    const bytes = await readFile(path)
    bytes[5_000_000] = (bytes[5_000_000] ?? 0) ^ 1
    await writeFile(path, bytes)
    await utimes(path, new Date(), new Date())
    expectSucceeded(await verified('copy.db', 'exists'))
    assert.equal((await restored('copy.db', 'file')).view.error?.code, 'artifact.corrupted')
    const view = await verified('copy.db', 'checksum')
    assert.equal(view.error?.code, 'artifact.corrupted')
    assert.match(view.error.detail, /copy\.db: its SHA-256 is/)
    assert.equal((await the('copy.db')).verified?.ok, false)
  })
})
