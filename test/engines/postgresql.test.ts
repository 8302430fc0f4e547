/** PostgreSQL: real servers, the real client tools, round trips judged by digests of schema and content. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { chown, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import type { Engine, Method, RestoreTarget } from '../../engines/engine.ts'
import { engineOf } from '../../engines/index.ts'
import type { PostgresqlConnection } from '../../engines/postgresql/connection.ts'
import { HoldfastError } from '../../model/errors.ts'
import { psql, startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { digestPostgres } from '../support/digest.ts'
import { createDatabase, makePostgresSample, sampleRoles } from '../support/postgres-sample.ts'
import { ask, backUp, type Place, type PlainBackup, restore, runCommand, runSteps } from '../support/run.ts'
import { type Scratch, scratch } from '../support/temporary.ts'

const engine: Engine = engineOf('postgresql')
const method: Method = engine.methods.logical ?? assert.fail()
const code = (expected: string, said?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof HoldfastError, String(error))
  assert.equal(error.code, expected, error.message)
  if (said) assert.match(error.message, said)
  assert.doesNotMatch(`${error.message} ${JSON.stringify(error.context)}`, /canary/)
  return true
}
const password = "canary p'w%:@/ü"

let dir: Scratch
let server: TestPostgres
let odd: string
let oddDigest: Awaited<ReturnType<typeof digestPostgres>>
before(async () => {
  dir = await scratch()
  server = await startPostgres({ auth: 'scram', password })
  odd = await createDatabase(server.url(), `postgres://x dbname='y' "é" -=\\`)
  await makePostgresSample(odd, { rows: 20_000, oddities: true })
  oddDigest = await digestPostgres(odd)
})
after(async () => {
  await server?.stop()
  await dir[Symbol.asyncDispose]()
})

let places = 0
const place = (secrets: Record<string, string> = { password }): Place => ({
  staging: join(dir.path, `staging-${++places}`),
  secrets,
})
const settingsOf = (url: string) => engine.parseUrl(url).settings as PostgresqlConnection
const targetOf = (database: string, more: Partial<RestoreTarget> = {}): RestoreTarget => ({
  connection: 'target',
  database,
  token: `tok${++places}abcdef`,
  jobs: 2,
  noOwner: false,
  ...more,
})
const databases = async (on = server) => (await on.sql('SELECT datname FROM pg_database')).split('\n')
const nothingLeft = async (on = server) =>
  assert.deepEqual(
    (await databases(on)).filter(name => name.startsWith('holdfast_')),
    [],
  )
const sibling = (url: string, database: string): string => {
  const other = new URL(url)
  other.pathname = `/${encodeURIComponent(database)}`
  return other.href
}

describe('round trips', () => {
  for (const toolFormat of ['custom', 'directory']) {
    test(`${toolFormat}: everything odd, under hostile names`, async () => {
      const here = place()
      const settings = settingsOf(odd)
      const backup = await backUp(engine, method, settings, here, { toolFormat })
      const final = `-d "${toolFormat}"'; host=evil %`
      await restore(engine, method, settings, here, backup, { target: targetOf(final) })
      const restored = await digestPostgres(sibling(odd, final))
      assert.deepEqual(restored.parts, oddDigest.parts)
      assert.ok(restored.rows > 20_000)
      await nothingLeft()
    })
    test(`${toolFormat}: an empty database`, async () => {
      const url = await createDatabase(server.url(), `empty ${toolFormat}`)
      const here = place()
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
    const here = place()
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

/** A small database with enough data that a load takes a while. */
async function plain(
  name: string,
): Promise<{ url: string; here: Place; backup: PlainBackup; bytes: Buffer }> {
  const url = await createDatabase(server.url(), name)
  await psql(
    url,
    `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i; CREATE INDEX ON t (v);`,
  )
  const here = place()
  const backup = await backUp(engine, method, settingsOf(url), here)
  return { url, here, backup, bytes: readFileSync(Object.values(backup.files)[0] ?? '') }
}
const planFor = async (url: string, here: Place, backup: PlainBackup, target: RestoreTarget) =>
  method.planRestore(
    settingsOf(url),
    target,
    backup.manifest,
    await ask(here, engine.probeTarget('target', settingsOf(url))),
  )

describe('durability', () => {
  for (const toolFormat of ['custom', 'directory']) {
    test(`${toolFormat}: a load that is killed twice runs again from an empty database`, async () => {
      const { url, here } = await plain(`killed ${toolFormat}`)
      const backup = await backUp(engine, method, settingsOf(url), here, { toolFormat })
      const target = targetOf(`killed ${toolFormat} again`)
      const plan = await planFor(url, here, backup, target)
      for (let round = 0; round < 2; round++) {
        const killed = runSteps(engine, here, backup, plan.steps, {
          onSpawn(step, children) {
            if (step.id === 'load') void killOnceLoading(children[0]?.pid ?? -1, target.token)
          },
        })
        await assert.rejects(killed, code('tool.interrupted'))
      }
      await runSteps(engine, here, backup, plan.steps)
      await runSteps(engine, here, backup, plan.finish)
      assert.equal(
        (await digestPostgres(sibling(url, target.database))).digest,
        (await digestPostgres(url)).digest,
      )
      await nothingLeft()
    })
  }
  /** Waits until the table is there, so that the kill falls into the load of data. */
  async function killOnceLoading(pid: number, token: string): Promise<void> {
    for (;;) {
      const there = await server
        .sql("SELECT count(*) FROM pg_class WHERE relname = 't'", `holdfast_${token}`)
        .catch(() => '0')
      if (there === '1') break
    }
    process.kill(pid, 'SIGKILL')
  }

  test('a dump that is cut in the middle of COPY leaves nothing', async () => {
    const { url, here, backup, bytes } = await plain('cut')
    const cut = bytes.subarray(0, Math.floor(bytes.length * 0.6))
    const target = targetOf('cut again')
    const going = restore(engine, method, settingsOf(url), here, backup, {
      target,
      feed: () => Readable.from([cut]),
    })
    await assert.rejects(going, code('artifact.truncated'))
    assert.equal((await databases()).includes('cut again'), false)
    await nothingLeft()
  })

  test('an answer that was lost: every finishing step may run again', async () => {
    const { url, here, backup } = await plain('twice')
    await psql(url, "COMMENT ON DATABASE twice IS 'the original'")
    const again = await backUp(engine, method, settingsOf(url), here)
    assert.ok(backup)
    const target = targetOf('twice again')
    const plan = await planFor(url, here, again, target)
    await runSteps(engine, here, again, plan.steps)
    const [name, ...rest] = plan.finish
    assert.ok(name)
    assert.notEqual((await runCommand(here, name.done ?? assert.fail())).exits[0], 0)
    await runSteps(engine, here, again, [name])
    await runSteps(engine, here, again, [name, ...rest])
    await runSteps(engine, here, again, rest)
    // Giving up now must not touch what carries its final name.
    for (const command of plan.undo) assert.deepEqual((await runCommand(here, command)).exits, [0])
    assert.deepEqual(
      (await digestPostgres(sibling(url, 'twice again'))).parts,
      (await digestPostgres(url)).parts,
    )
  })

  test('only what is ours is dropped', async () => {
    const { url, here, backup } = await plain('ours')
    const target = targetOf('ours again')
    const plan = await planFor(url, here, backup, target)
    const name = `holdfast_${target.token}`
    await server.sql(`CREATE DATABASE ${name}`)
    await server.sql(`COMMENT ON DATABASE ${name} IS 'somebody adopted it'`)
    for (const command of plan.undo) await runCommand(here, command)
    assert.ok((await databases()).includes(name))
    await assert.rejects(runSteps(engine, here, backup, plan.steps), code('restore.target-exists'))
    await server.sql(`COMMENT ON DATABASE ${name} IS NULL`)
    for (const command of plan.undo) await runCommand(here, command)
    await nothingLeft()
  })

  test('while it loads, others may not connect; afterwards they may', async () => {
    const { url, here, backup } = await plain('closed')
    await server.sql(`CREATE ROLE anybody LOGIN PASSWORD 'canary2'`)
    const target = targetOf('closed again')
    const plan = await planFor(url, here, backup, target)
    await runSteps(engine, here, backup, plan.steps)
    const as = (database: string) =>
      `postgres://anybody:canary2@127.0.0.1:${server.port}/${encodeURIComponent(database)}`
    await assert.rejects(psql(as(`holdfast_${target.token}`), 'SELECT 1'), /permission denied for database/)
    await runSteps(engine, here, backup, plan.finish)
    assert.equal(await psql(as('closed again'), 'SELECT 1'), '1')
  })
})

describe('refusals', () => {
  test('an existing target is refused, early and at the last moment', async () => {
    const { url, here, backup } = await plain('exists')
    const target = targetOf('taken')
    const plan = await planFor(url, here, backup, target)
    await runSteps(engine, here, backup, plan.steps)
    await server.sql('CREATE DATABASE taken')
    await psql(sibling(url, 'taken'), 'CREATE TABLE precious ()')
    await assert.rejects(runSteps(engine, here, backup, plan.finish), code('restore.target-exists'))
    for (const command of plan.undo) await runCommand(here, command)
    await assert.rejects(
      restore(engine, method, settingsOf(url), here, backup, { target: targetOf('taken') }),
      code('restore.target-exists'),
    )
    // The first step finds it, too, before any data is loaded.
    await assert.rejects(
      runSteps(engine, here, backup, plan.steps.slice(0, 1)),
      code('restore.target-exists'),
    )
    for (const command of plan.undo) await runCommand(here, command)
    assert.equal(await server.sql("SELECT count(*) FROM pg_class WHERE relname = 'precious'", 'taken'), '1')
    await nothingLeft()
  })

  test('wrong password, no such database, nobody there, no such host', async () => {
    const settings = settingsOf(server.url())
    const probe = (changed: Partial<PostgresqlConnection>, secrets: Record<string, string> = { password }) =>
      ask(place(secrets), engine.probe('c', { ...settings, ...changed }))
    await assert.rejects(probe({}, { password: 'wrong canary' }), code('database.authentication'))
    await assert.rejects(probe({}, {}), code('database.authentication'))
    await assert.rejects(probe({ user: 'nobody here' }), code('database.authentication'))
    await assert.rejects(probe({ database: 'nothing here' }), code('database.missing'))
    await assert.rejects(probe({ port: 1 }), code('database.unreachable'))
    await assert.rejects(probe({ host: 'no-such-host.invalid' }), code('database.unreachable'))
  })

  test('a role that may not read everything is told what', async () => {
    await server.sql(`CREATE ROLE weak LOGIN PASSWORD 'canary3'`)
    const url = new URL(odd)
    url.username = 'weak'
    url.password = 'canary3'
    await psql(
      odd,
      `GRANT CONNECT ON DATABASE "${decodeURIComponent(url.pathname.slice(1)).replaceAll('"', '""')}" TO weak`,
    )
    const here = place({ password: 'canary3' })
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

  test('an ordinary owner backs up and restores their own database', async () => {
    await server.sql(`CREATE ROLE ordinary LOGIN CREATEDB PASSWORD 'canary4'`)
    await server.sql('CREATE DATABASE ordinary OWNER ordinary')
    const url = `postgres://ordinary:canary4@127.0.0.1:${server.port}/ordinary`
    await psql(url, 'CREATE TABLE t AS SELECT generate_series(1, 100) AS x')
    const here = place({ password: 'canary4' })
    const backup = await backUp(engine, method, settingsOf(url), here)
    await restore(engine, method, settingsOf(url), here, backup, { target: targetOf('ordinary again') })
    assert.equal(
      (await digestPostgres(sibling(url, 'ordinary again'))).digest,
      (await digestPostgres(url)).digest,
    )
  })

  test('a full staging directory', async () => {
    const disk = await dir.smallDisk('small', 256)
    const here = { staging: disk, secrets: { password } }
    const { url } = await plain('staged')
    await assert.rejects(
      backUp(engine, method, settingsOf(url), here, { toolFormat: 'directory' }),
      code('staging.full'),
    )
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
    const here = place()
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
    const facts = await ask(place({}), engine.probe('c', settingsOf(url)))
    const request = { connection: 'c', type: 'full' as const, toolFormat: 'custom', jobs: 1 }
    const check = method.checks(settingsOf(url), request, facts).find(one => one.id === 'postgresql.locks')
    assert.equal(check?.answer, 'fail')
    assert.match(check?.hint ?? '', /max_locks_per_transaction = 24 /)
  })

  test('a full file system under the target server', async () => {
    const roomy = join(server.dataDir, '..', `holdfast-roomy-${server.port}`)
    await mkdir(roomy)
    await chownToServer(roomy)
    await server.sql(`CREATE TABLESPACE disk LOCATION '${roomy}'`)
    const url = await createDatabase(server.url(), 'large', 'TABLESPACE disk')
    await psql(
      url,
      'CREATE TABLE t AS SELECT i, repeat(md5(i::text), 30) AS v FROM generate_series(1, 20000) i',
    )
    const here = place()
    const backup = await backUp(engine, method, settingsOf(url), here)
    const small = await dir.smallDisk('small-tablespace', 14_000)
    await chownToServer(small)
    await letThrough()
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
    const { statSync } = await import('node:fs')
    const owner = statSync(server.dataDir)
    await chown(path, owner.uid, owner.gid)
  }
  async function letThrough(): Promise<void> {
    const { chmod } = await import('node:fs/promises')
    await chmod(dir.path, 0o711)
  }

  test('kill -9 and start again: the server answers and data is kept', async () => {
    const url = await createDatabase(other.url(), 'kept')
    await psql(url, 'CREATE TABLE t AS SELECT 1 AS x')
    await other.kill9()
    await assert.rejects(ask(place({}), engine.probe('c', settingsOf(url))), code('database.unreachable'))
    await other.restart()
    assert.equal(await psql(url, 'SELECT count(*) FROM t'), '1')
  })
})
