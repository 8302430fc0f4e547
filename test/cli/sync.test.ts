/** Cataloguing dumps of others at the command line, and what is said before somebody agrees to restore one over what is there. */
import assert from 'node:assert/strict'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { BackupView, OperationView, SyncView } from '../../model/views.ts'
import { startWorkedApi, type WorkedApi } from '../api/worked.ts'
import { addPerson, awaiting, type Person, planOf } from '../support/people.ts'
import { holdfast } from './run.ts'

const script =
  "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE items (name text);\nINSERT INTO items VALUES ('one');\nCOMMIT;\n"

describe('catalog sync', () => {
  let stack: WorkedApi
  let anna: Person
  let dumps = ''
  const run = (...args: string[]) =>
    holdfast(args, {
      env: { HOLDFAST_URL: stack.api.api.url, HOLDFAST_TOKEN: stack.api.token },
      cwd: stack.directory,
    })

  before(async () => {
    stack = await startWorkedApi()
    anna = await addPerson(stack, 'anna', 'approver')
    dumps = join(stack.directory, 'dumps')
    await mkdir(dumps)
    await writeFile(join(dumps, 'shop.sql'), script)
    await writeFile(join(dumps, 'old.sql.gz'), gzipSync(script))
    await writeFile(join(dumps, 'notes.txt'), 'no dump')
  })
  after(() => stack?.stop())

  const foreign = async (file: string): Promise<BackupView> => {
    const { items } = await stack.expectOk<{ items: BackupView[] }>('GET', '/v1/backups')
    return items.find(one => one.foreign?.file === file) ?? assert.fail(file)
  }

  test('a directory, also one that is named from where we are; again; one that went', async () => {
    const first = await run('catalog', 'sync', './dumps')
    assert.deepEqual([first.code, first.stderr], [0, ''])
    assert.match(first.stdout, /^2 foreign backups at dumps: 2 new, 0 back, 0 gone; 1 other files\.$/m)
    const again = await run('--json', 'catalog', 'sync', dumps)
    assert.equal(again.code, 0, again.stderr)
    assert.deepEqual(JSON.parse(again.stdout) as SyncView, {
      destination: 'dumps',
      found: 2,
      added: 0,
      back: 0,
      gone: 0,
      skipped: 1,
      next: null,
      refused: [],
    })
    await rename(join(dumps, 'old.sql.gz'), join(stack.directory, 'old.sql.gz'))
    assert.match(
      (await run('catalog', 'sync', 'dumps')).stdout,
      /^1 foreign backups at dumps: 0 new, 0 back, 1 gone/,
    )
    const listed = await run('backups', 'list')
    assert.match(listed.stdout, /foreign: shop\.sql/)
    assert.match(listed.stdout, /foreign: old\.sql\.gz.*gone/)
    await rename(join(stack.directory, 'old.sql.gz'), join(dumps, 'old.sql.gz'))
    assert.match((await run('catalog', 'sync', 'dumps')).stdout, /0 new, 1 back, 0 gone/)
  })

  test('one that cannot be taken is named, and the exit code says so', async () => {
    const path = join(dumps, 'torn.db')
    const database = new DatabaseSync(path)
    database.exec('CREATE TABLE t(a)')
    database.close()
    await writeFile(`${path}-wal`, 'log')
    const ended = await run('catalog', 'sync', dumps)
    assert.equal(ended.code, 1)
    assert.match(ended.stdout, /not taken: torn\.db, artifact\.malformed: torn\.db-wal lies beside it/)
    await rename(`${path}-wal`, join(stack.directory, 'wal'))
    assert.match((await run('catalog', 'sync', dumps)).stdout, /1 new/)
  })

  test('what does not go together, and what is not there', async () => {
    const other = await run('catalog', 'sync', 's3://bucket/x', '--destination', 'dumps')
    assert.deepEqual([other.code, /error request\.mismatch/.test(other.stderr)], [2, true], other.stderr)
    const nowhere = await run('catalog', 'sync', join(stack.directory, 'nowhere'))
    assert.ok(nowhere.code !== 0 && /error destination\.missing/.test(nowhere.stderr), nowhere.stderr)
  })

  test('shown as what it is; not restored unread; over what is there only after the warning was shown', async () => {
    const path = await stack.api.addSqlite('shop')
    const { id } = await foreign('shop.sql')
    const shown = await run('backups', 'show', id)
    assert.match(shown.stdout, /foreign +not made by Holdfast, signed by nobody/)
    assert.match(shown.stdout, new RegExp(`sha256 +not read yet: holdfast backups verify ${id} --level deep`))
    const ask = ['restore', id, '--target', 'shop', '--database', path, '--overwrite-existing']
    const more = ['--reason', 'the old shop', '--keep-old', '2h', '--no-wait']
    const unread = await run(...ask, ...more)
    assert.deepEqual([unread.code, /error restore\.unread/.test(unread.stderr)], [3, true], unread.stderr)
    assert.match(unread.stderr, new RegExp(`holdfast backups verify ${id} --level deep`))
    const read = await run('backups', 'verify', id, '--level', 'deep')
    assert.equal(read.code, 0, read.stderr)
    const { foreign: file } = await foreign('shop.sql')
    assert.match((await run('backups', 'show', id)).stdout, new RegExp(`sha256 +${file?.sha256}`))

    const secret = join(stack.directory, 'password')
    await writeFile(secret, `${anna.password}\n`, { mode: 0o600 })
    const asked = await holdfast(['--json', ...ask, ...more], {
      env: { HOLDFAST_URL: stack.api.api.url, HOLDFAST_TOKEN: anna.token },
    })
    assert.equal(asked.code, 0, asked.stderr)
    const operation = JSON.parse(asked.stdout) as OperationView
    assert.equal((await awaiting(stack, operation.id)).state, 'awaiting-approval')
    const { digest } = await planOf(stack, operation.id)
    const approved = await holdfast(
      ['approve', operation.id, '--target-name', path, '--reason', 'known', '--plan-digest', digest].concat(
        '--secret-file',
        secret,
      ),
      { env: { HOLDFAST_URL: stack.api.api.url, HOLDFAST_TOKEN: anna.token } },
    )
    assert.equal(approved.code, 0, approved.stderr)
    assert.match(
      approved.stdout,
      new RegExp(
        `The backup is not signed:\\n +Nobody signed this backup: it is foreign\\. .*shop\\.sql.*SHA-256 ${file?.sha256}`,
      ),
    )
    assert.ok(approved.stdout.indexOf('not signed') < approved.stdout.indexOf('This replaces:'))
    const database = new DatabaseSync(path)
    const rows = database.prepare('SELECT name FROM items').all()
    database.close()
    assert.deepEqual(
      rows.map(row => row.name),
      ['one'],
    )
  })
})
