import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { sqliteDigest } from '../../demo/sqlite.ts'
import { holdfast } from './run.ts'

const demo = join(import.meta.dirname, '../../demo/main.ts')

describe('the demo', () => {
  let folder = ''
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-demo-test-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  const database = (name: string, statements: string) => {
    const path = join(folder, name)
    const db = new DatabaseSync(path)
    db.exec(statements)
    db.close()
    return path
  }

  test("a database of the reader's own is only read and comes back beside", async () => {
    const path = database(
      "it's mine.sqlite",
      `CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, NULL)`,
    )
    const before = await readFile(path)
    const ended = await holdfast([demo, path], { program: process.execPath, cwd: folder })
    assert.equal(ended.code, 0, ended.stdout + ended.stderr)
    assert.match(ended.stdout, /✓ equal/)
    assert.deepEqual(await readFile(path), before)
    const home = join(folder, '.holdfast/demo')
    assert.equal(sqliteDigest(join(home, 'restored', "it's mine.sqlite")), sqliteDigest(path))
    assert.ok(!existsSync(join(home, 'runtime.json')))
  })

  test('what is not a database ends with its code, not with success', async () => {
    const ended = await holdfast([demo, join(folder, 'none.sqlite')], {
      program: process.execPath,
      cwd: folder,
    })
    assert.equal(ended.code, 1)
    assert.match(ended.stderr, /error database\.missing/)
  })

  test('the digest sees types, order of columns, NULLs, schema', () => {
    const table = 'CREATE TABLE t (a, b)'
    const digests = [
      `${table}; INSERT INTO t VALUES (1, 2)`,
      `${table}; INSERT INTO t VALUES ('1', 2)`,
      `${table}; INSERT INTO t VALUES (x'31', 2)`,
      `${table}; INSERT INTO t VALUES (1.5, 2)`,
      `${table}; INSERT INTO t VALUES (2, 1)`,
      `${table}; INSERT INTO t VALUES (NULL, 2)`,
      `${table}; INSERT INTO t VALUES ('', 2)`,
      `${table}; INSERT INTO t VALUES ('12', '')`,
      `${table}; INSERT INTO t VALUES ('1', '2')`,
      `${table}; INSERT INTO t VALUES (1, 2), (1, 2)`,
      `${table}; CREATE INDEX i ON t (a); INSERT INTO t VALUES (1, 2)`,
    ].map((statements, i) => sqliteDigest(database(`${i}.sqlite`, statements)))
    assert.equal(new Set(digests).size, digests.length)
    const other = database(
      'other order.sqlite',
      `${table}; INSERT INTO t VALUES (1, 2); INSERT INTO t VALUES (3, 4)`,
    )
    const same = database('same.sqlite', `${table}; INSERT INTO t VALUES (3, 4); INSERT INTO t VALUES (1, 2)`)
    assert.equal(sqliteDigest(other), sqliteDigest(same))
  })
})
