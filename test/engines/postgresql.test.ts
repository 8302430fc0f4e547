/** PostgreSQL: real servers, the real client tools, round trips judged by digests of schema and content. */
import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { chmod, chown, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { RestoreTarget } from '../../engines/engine.ts'
import { psql, startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { digestPostgres } from '../support/digest.ts'
import { createDatabase, makePostgresSample, sampleRoles } from '../support/postgres-sample.ts'
import { ask, backUp, restore } from '../support/run.ts'
import {
  code,
  engine,
  type Ground,
  method,
  nothingLeft,
  openGround,
  settingsOf,
  sibling,
  targetOf,
} from './postgresql-ground.ts'

let ground: Ground
let server: TestPostgres
let odd: string
let oddDigest: Awaited<ReturnType<typeof digestPostgres>>
before(async () => {
  ground = await openGround()
  server = ground.server
  odd = await createDatabase(server.url(), `postgres://x dbname='y' "é" -=\\`)
  await makePostgresSample(odd, { rows: 20_000, oddities: true })
  oddDigest = await digestPostgres(odd)
})
after(() => ground?.[Symbol.asyncDispose]())

describe('round trips', () => {
  for (const toolFormat of ['custom', 'directory']) {
    test(`${toolFormat}: everything odd, under hostile names`, async () => {
      const here = ground.place()
      const settings = settingsOf(odd)
      const backup = await backUp(engine, method, settings, here, { toolFormat })
      const final = `-d "${toolFormat}"'; host=evil %`
      await restore(engine, method, settings, here, backup, { target: targetOf(final) })
      const restored = await digestPostgres(sibling(odd, final))
      assert.deepEqual(restored.parts, oddDigest.parts)
      assert.ok(restored.rows > 20_000)
      await nothingLeft(server)
    })
    test(`${toolFormat}: an empty database`, async () => {
      const url = await createDatabase(server.url(), `empty ${toolFormat}`)
      const here = ground.place()
      const backup = await backUp(engine, method, settingsOf(url), here, { toolFormat })
      await restore(engine, method, settingsOf(url), here, backup, {
        target: targetOf(`empty ${toolFormat} again`),
      })
      assert.equal(
        (await digestPostgres(sibling(url, `empty ${toolFormat} again`))).digest,
        (await digestPostgres(url)).digest,
      )
    })
  }
  test('a lost database comes back through its own connection', async () => {
    const url = await createDatabase(
      server.url(),
      'lost',
      `TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`,
    )
    await psql(
      url,
      `CREATE TABLE t (x text); INSERT INTO t VALUES ('é'); ALTER DATABASE lost SET default_transaction_read_only = on;`,
    )
    const before = await digestPostgres(url)
    const here = ground.place()
    const backup = await backUp(engine, method, settingsOf(url), here)
    await server.sql('DROP DATABASE lost')
    await assert.rejects(ask(here, engine.probe('c', settingsOf(url))), code('database.missing'))
    await restore(engine, method, settingsOf(url), here, backup, { target: targetOf('lost') })
    assert.deepEqual((await digestPostgres(url)).parts, before.parts)
  })
  test('the digest notices one changed row, grant or setting', async () => {
    const url = await createDatabase(server.url(), 'digested')
    await psql(url, 'CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2); CREATE SEQUENCE s;')
    const seen = new Set([(await digestPostgres(url)).digest])
    for (const change of [
      'UPDATE t SET x = 3 WHERE x = 2',
      "SELECT nextval('s')",
      'GRANT SELECT ON t TO holdfast_reader',
      'ALTER DATABASE digested SET work_mem = 8192',
      "COMMENT ON DATABASE digested IS 'x'",
      'SELECT lo_create(99)',
    ]) {
      await psql(url, change)
      const { digest } = await digestPostgres(url)
      assert.ok(!seen.has(digest), change)
      seen.add(digest)
    }
  })
})

describe('privileges', () => {
  test('a role that may not read everything is told what', async () => {
    await server.sql(`CREATE ROLE weak LOGIN PASSWORD 'canary3'`)
    const url = new URL(odd)
    url.username = 'weak'
    url.password = 'canary3'
    await psql(
      odd,
      `GRANT CONNECT ON DATABASE "${decodeURIComponent(url.pathname.slice(1)).replaceAll('"', '""')}" TO weak`,
    )
    const here = ground.place({ password: 'canary3' })
    const settings = settingsOf(url.href)
    const facts = await ask(here, engine.probe('c', settings))
    const request = { connection: 'c', type: 'full' as const, toolFormat: 'custom', jobs: 1 }
    const failed = method.checks(settings, request, facts).filter(check => check.answer === 'fail')
    assert.deepEqual(
      failed.map(check => check.code),
      ['database.privilege'],
    )
    assert.match(failed[0]?.detail ?? '', /"weak".*customers/)
    await server.sql('GRANT pg_read_all_data TO weak')
    const second = await ask(here, engine.probe('c', settings))
    const rows = method.checks(settings, request, second).filter(check => check.answer === 'fail')
    assert.match(rows[0]?.detail ?? '', /Row security hides rows of "odd schema; --"\.secrets/)
    await assert.rejects(backUp(engine, method, settings, here), code('database.privilege'))
    await psql(odd, `DROP OWNED BY weak; DROP ROLE weak`)
  })
})

describe('another server', () => {
  let other: TestPostgres
  before(async () => {
    other = await startPostgres({
      config:
        'max_locks_per_transaction = 10\nmax_connections = 5\nsuperuser_reserved_connections = 1\nmax_wal_senders = 0',
    })
  })
  after(() => other?.stop())

  test('missing roles are named; without owners it goes; with the roles it is equal', async () => {
    assert.notEqual(other.port, server.port)
    const here = ground.place()
    const backup = await backUp(engine, method, settingsOf(odd), here)
    const there = settingsOf(other.url())
    const go = (database: string, more: Partial<RestoreTarget> = {}) =>
      restore(engine, method, there, here, backup, { target: targetOf(database, more) })
    await assert.rejects(go('copy'), code('restore.roles-missing', /holdfast "odd" owner, holdfast_reader/))
    // A policy names its role whoever owns the table.
    await assert.rejects(go('copy', { noOwner: true }), code('restore.roles-missing', /: holdfast_reader/))
    await other.sql('CREATE ROLE holdfast_reader')
    await go('copy without owners', { noOwner: true })
    assert.equal(
      await other.sql(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'copy without owners'",
      ),
      'postgres',
    )
    await other.sql(`CREATE ROLE "${sampleRoles[0].replaceAll('"', '""')}"`)
    await go('copy')
    const restored = await digestPostgres(other.url('copy'))
    assert.deepEqual(restored.parts, oddDigest.parts)
    await nothingLeft(other)
  })

  test('the lock table: the exact setting is told', async () => {
    const url = await createDatabase(other.url(), 'many')
    await psql(url, "SELECT format('CREATE TABLE t%s ()', i) FROM generate_series(1, 60) i \\gexec")
    const facts = await ask(ground.place({}), engine.probe('c', settingsOf(url)))
    const request = { connection: 'c', type: 'full' as const, toolFormat: 'custom', jobs: 1 }
    const check = method.checks(settingsOf(url), request, facts).find(one => one.id === 'postgresql.locks')
    assert.equal(check?.answer, 'fail')
    assert.match(check?.hint ?? '', /max_locks_per_transaction = 24 /)
  })

  test('a full file system under the target server', async () => {
    await chmod(ground.dir.path, 0o711)
    const roomy = join(ground.dir.path, 'roomy')
    await mkdir(roomy)
    await chownToServer(roomy)
    await server.sql(`CREATE TABLESPACE disk LOCATION '${roomy}'`)
    const url = await createDatabase(server.url(), 'large', 'TABLESPACE disk')
    await psql(
      url,
      'CREATE TABLE t AS SELECT i, repeat(md5(i::text), 30) AS v FROM generate_series(1, 20000) i',
    )
    const here = ground.place()
    const backup = await backUp(engine, method, settingsOf(url), here)
    const small = await ground.dir.smallDisk('small-tablespace', 14_000)
    await chownToServer(small)
    await other.sql(`CREATE TABLESPACE disk LOCATION '${small}'`)
    const going = restore(engine, method, settingsOf(other.url()), here, backup, {
      target: targetOf('large again'),
    })
    await assert.rejects(going, code('restore.target-full'))
    await nothingLeft(other)
    await server.sql('DROP DATABASE large')
    await server.sql('DROP TABLESPACE disk')
  })
  async function chownToServer(path: string): Promise<void> {
    const owner = statSync(server.dataDir)
    await chown(path, owner.uid, owner.gid)
  }
  test('kill -9 and start again: the server answers and data is kept', async () => {
    const url = await createDatabase(other.url(), 'kept')
    await psql(url, 'CREATE TABLE t AS SELECT 1 AS x')
    await other.kill9()
    await assert.rejects(
      ask(ground.place({}), engine.probe('c', settingsOf(url))),
      code('database.unreachable'),
    )
    await other.restart()
    assert.equal(await psql(url, 'SELECT count(*) FROM t'), '1')
  })
})
