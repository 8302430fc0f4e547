/** Dumps that others made are catalogued where they lie: once, again when they changed, gone when they went. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, readdir, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import type { BackupShown, BackupView, DestinationView, SyncView } from '../../model/views.ts'
import { workerOf } from './backups.ts'
import { startTestApi, type TestApi } from './support.ts'

const script = 'PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t(a);\nCOMMIT;\n'

describe('foreign backups', () => {
  let t: TestApi
  let dumps = ''
  let database = ''

  before(async () => {
    t = await startTestApi()
    dumps = join(t.home, 'Old Dumps')
    await mkdir(join(dumps, 'sub'), { recursive: true })
    database = join(dumps, 'sub', 'shop.bin')
    execFileSync('sqlite3', [database, 'PRAGMA application_id=77; CREATE TABLE t(a);'])
    await writeFile(join(dumps, 'a.sql'), script)
    await writeFile(join(dumps, 'b.sql.gz'), gzipSync(script))
    await writeFile(join(dumps, 'c.zst'), zstdCompressSync(Buffer.from(script)))
    await writeFile(join(dumps, 'oracle.dmp'), 'of an engine that is not here')
    await writeFile(join(dumps, 'notes.txt'), 'not a dump')
    await writeFile(join(dumps, 'empty.sql'), '')
    await writeFile(join(dumps, 'toc.dat'), 'PGDMP')
    await symlink('/etc/passwd', join(dumps, 'link.sql'))
  })
  after(() => t.stop())

  const sync = async (source: string, more: object = {}) => {
    const answer = await t.call<SyncView>('POST', '/v1/catalog/sync', { source, ...more })
    assert.equal(answer.status, 200, JSON.stringify(answer.body))
    return answer.body
  }
  const foreign = async () =>
    (await t.call<{ items: BackupView[] }>('GET', '/v1/backups')).body.items.filter(one => one.foreign)
  const at = async (file: string) =>
    (await foreign()).filter(one => one.foreign?.file === file).sort((a, b) => (a.id < b.id ? -1 : 1))
  const the = async (file: string): Promise<BackupView> => {
    const [found, ...more] = (await at(file)).filter(one => one.state === 'committed')
    assert.ok(found, file)
    assert.deepEqual(more, [])
    return found
  }

  test('a directory: what looks like a dump, by content and by name', async () => {
    const done = await sync(dumps)
    assert.deepEqual(done, {
      destination: 'old-dumps',
      found: 5,
      added: 5,
      back: 0,
      gone: 0,
      skipped: 3,
      next: null,
      refused: [],
    })
    const shown = (await foreign()).map(one => [
      one.foreign?.file,
      one.engine,
      one.format,
      one.foreign?.wrapping,
      one.foreign?.sha256,
    ])
    shown.sort()
    assert.deepEqual(shown, [
      ['a.sql', 'sqlite', 'sqlite-dump', null, null],
      ['b.sql.gz', 'sqlite', 'sqlite-dump', 'gzip', null],
      ['c.zst', 'sqlite', 'sqlite-dump', 'zstd', null],
      ['oracle.dmp', '', 'unknown', null, null],
      ['sub/shop.bin', 'sqlite', 'sqlite-file', null, null],
    ])
    const one = await the('sub/shop.bin')
    assert.equal(one.uri, `file://${t.home}/Old%20Dumps/sub/shop.bin`)
    assert.equal(one.connection, '')
    assert.equal(one.consistency, 'unknown')
    const single = await t.call<BackupShown>('GET', `/v1/backups/${one.id}`)
    assert.equal(single.status, 200)
    assert.deepEqual((await workerOf(t).foreign(one.id)).facts, {
      pageSize: 4096,
      journalMode: 'delete',
      applicationId: 77,
    })
  })

  test('again: what is the same stays, what changed is new, what went is gone, what came back is the same', async () => {
    const before = new Map((await foreign()).map(one => [one.foreign?.file, one.id]))
    assert.deepEqual(await sync(dumps), { ...(await sync(dumps)), found: 5, added: 0, gone: 0 })
    assert.deepEqual(new Map((await foreign()).map(one => [one.foreign?.file, one.id])), before)

    await writeFile(join(dumps, 'a.sql'), script.replace('(a)', '(a,b)'))
    await rename(join(dumps, 'c.zst'), join(t.home, 'c.zst'))
    const changed = await sync(dumps)
    assert.deepEqual([changed.found, changed.added, changed.gone], [4, 1, 1])
    const [old, now] = await at('a.sql')
    assert.deepEqual([old?.state, now?.state].sort(), ['committed', 'deleted'])
    assert.notEqual((await the('a.sql')).id, before.get('a.sql'))
    assert.equal((await at('c.zst'))[0]?.state, 'deleted')
    const refusal = await t.refused('POST', `/v1/backups/${before.get('c.zst')}/verify`, {})
    assert.equal(refusal.code, 'backup.deleted')

    await rename(join(t.home, 'c.zst'), join(dumps, 'c.zst'))
    const back = await sync(dumps)
    assert.deepEqual([back.found, back.added, back.back, back.gone], [5, 0, 1, 0])
    assert.equal((await the('c.zst')).id, before.get('c.zst'))
  })

  test('the same bytes written anew are another file: nobody has read them', async () => {
    const one = await the('b.sql.gz')
    await workerOf(t).recordForeignReading(one.id, { sha256: 'a'.repeat(64) })
    const later = new Date(Date.now() + 5000)
    await utimes(join(dumps, 'b.sql.gz'), later, later)
    await sync(dumps)
    const next = await the('b.sql.gz')
    assert.notEqual(next.id, one.id)
    assert.equal(next.foreign?.sha256, null)
  })

  test('the first hash stays', async () => {
    const { id } = await the('c.zst')
    await workerOf(t).recordForeignReading(id, { sha256: 'b'.repeat(64), contentBytes: script.length })
    await workerOf(t).recordForeignReading(id, { sha256: 'b'.repeat(64) })
    await assert.rejects(workerOf(t).recordForeignReading(id, { sha256: 'c'.repeat(64) }), {
      code: 'artifact.corrupted',
    })
    const shown = await the('c.zst')
    assert.equal(shown.foreign?.sha256, 'b'.repeat(64))
    assert.equal(shown.toolBytes, script.length)
  })

  test('a SQLite file with its log beside it is no backup', async () => {
    await writeFile(`${database}-wal`, 'log')
    const later = new Date(Date.now() + 9000)
    await utimes(database, later, later)
    const done = await sync(dumps)
    assert.deepEqual(
      done.refused.map(one => [one.file, one.code]),
      [['sub/shop.bin', 'artifact.malformed']],
    )
    await rm(`${database}-wal`)
    assert.deepEqual((await sync(dumps)).refused, [])
  })

  test('what an earlier request looked at is not looked at again', async () => {
    assert.equal((await sync(dumps)).skipped, 3)
    assert.equal((await sync(dumps, { after: 'empty.sql' })).skipped, 2)
    assert.equal((await sync(dumps, { after: 'toc.dat' })).skipped, 0)
  })

  test('a folder of it is synced alone, and what lies beside it is not marked gone', async () => {
    const before = (await foreign()).length
    const done = await sync(`file://${t.home}/Old%20Dumps/sub`)
    assert.deepEqual([done.destination, done.found, done.added, done.gone], ['old-dumps', 1, 0, 0])
    assert.equal((await foreign()).length, before)
    assert.ok(await the('a.sql'))
  })

  test('nothing is written there, and nothing else takes it for a destination of backups', async () => {
    const names = (await readdir(dumps)).sort()
    const { body } = await t.call<DestinationView>('GET', '/v1/destinations/old-dumps')
    assert.equal(body.readOnly, true)
    await t.addSqlite('shop')
    await t.call('POST', '/v1/keys', { name: 'default' })
    for (const [path, request, code] of [
      ['/v1/destinations/old-dumps/check', {}, 'request.invalid'],
      ['/v1/destinations/old-dumps/takeover', {}, 'request.invalid'],
      ['/v1/sweep', { destination: 'old-dumps', unknown: true }, 'request.invalid'],
      ['/v1/catalog/rebuild', { destination: 'old-dumps' }, 'request.invalid'],
      ['/v1/backups', { connection: 'shop', destinations: ['old-dumps'] }, 'request.invalid'],
      ['/v1/backups', { connection: 'shop' }, 'request.invalid'],
    ] as const) {
      assert.equal((await t.refused('POST', path, request)).code, code, path)
    }
    assert.deepEqual((await readdir(dumps)).sort(), names)
  })

  test('it is restored and copied by nobody who has not read it', async () => {
    const { id } = await the('a.sql')
    const refused = await t.refused('POST', '/v1/restores', {
      backup: id,
      target: { connection: 'shop', database: join(t.home, 'new.db') },
    })
    assert.equal(refused.code, 'restore.unread')
    assert.match(refused.hint ?? '', new RegExp(`verify ${id} --level deep`))
    await t.addDestination('vault')
    assert.equal((await t.refused('POST', `/v1/backups/${id}/copy`, { to: 'vault' })).code, 'request.invalid')
  })

  test('a destination: by name and by URI; what Holdfast wrote there is not foreign', async () => {
    const { body } = await t.call<DestinationView>('GET', '/v1/destinations/vault')
    const root = new URL(body.uri).pathname
    const own = join(root, 'shop/backups/20261121T031400Z-full-9f3kq2/A')
    await mkdir(own, { recursive: true })
    await writeFile(join(own, 'shop.sql'), script)
    await mkdir(join(root, 'before'), { recursive: true })
    await writeFile(join(root, 'before', 'x.sql'), script)
    const done = await sync('vault')
    assert.deepEqual([done.destination, done.found, done.added], ['vault', 1, 1])
    assert.deepEqual((await sync(`${body.uri}/before`, { destination: 'vault' })).found, 1)
  })

  test('what does not go together is refused', async () => {
    for (const [request, code] of [
      [{ source: 's3://bucket/x', destination: 'vault' }, 'request.mismatch'],
      [{ source: '/somewhere/else', destination: 'vault' }, 'request.mismatch'],
      [{ source: 's3://bucket/x' }, 'request.not-found'],
      [{ source: 'nowhere' }, 'request.not-found'],
      [{ source: '/no/such/directory' }, 'destination.missing'],
      [{ source: '../x' }, 'request.invalid'],
    ] as const) {
      assert.equal((await t.refused('POST', '/v1/catalog/sync', request)).code, code, request.source)
    }
    const { body } = await t.call<{ items: DestinationView[] }>('GET', '/v1/destinations')
    assert.deepEqual(body.items.map(one => one.name).sort(), ['old-dumps', 'vault'])
  })

  test('a directory that is gone marks nothing gone; one that is forgotten takes its backups along', async () => {
    await rename(dumps, `${dumps}-away`)
    assert.equal(
      (await t.refused('POST', '/v1/catalog/sync', { source: 'old-dumps' })).code,
      'destination.missing',
    )
    assert.ok(await the('a.sql'))
    await rename(`${dumps}-away`, dumps)
    assert.ok((await t.call('DELETE', '/v1/destinations/old-dumps')).status < 300)
    assert.deepEqual(
      (await foreign()).map(one => one.destination),
      ['vault'],
    )
    await rm(dumps, { recursive: true })
  })
})
