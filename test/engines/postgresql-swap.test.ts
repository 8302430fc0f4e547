/** PostgreSQL: a proven copy takes the place of a database: what stays, what is refused, what a kill leaves. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RestorePlan, RestoreTarget, Step } from '../../engines/engine.ts'
import { psql, type TestPostgres } from '../servers/postgres.ts'
import { digestPostgres } from '../support/digest.ts'
import { ask, type Place, type PlainBackup, runCommand, runSteps } from '../support/run.ts'
import {
  code,
  databases,
  engine,
  type Ground,
  method,
  openGround,
  password,
  planFor,
  settingsOf,
  sibling,
  targetOf,
} from './postgresql-ground.ts'

let ground: Ground
let server: TestPostgres
before(async () => {
  ground = await openGround({ config: 'wal_level = logical\nmax_prepared_transactions = 5' })
  server = ground.server
  await server.sql(
    `CREATE ROLE shopkeeper LOGIN PASSWORD 'canary2'; CREATE ROLE reader LOGIN PASSWORD 'canary3'`,
  )
})
after(() => ground?.[Symbol.asyncDispose]())

const swapOf = (plan: RestorePlan) => plan.swap ?? assert.fail('a swap is planned')
const oidOf = (name: string) => server.sql(`SELECT oid FROM pg_database WHERE datname = '${name}'`)
/** Everything about a database that is not in it. */
const properties = (name: string) =>
  server.sql(`SELECT pg_get_userbyid(datdba), datacl, datconnlimit, datistemplate, datallowconn, shobj_description(oid, 'pg_database'),
    (SELECT json_agg(json_build_array(coalesce(setrole::regrole::text, ''), setconfig) ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = oid)
    FROM pg_database WHERE datname = '${name}'`)

interface Ready {
  url: string
  here: Place
  backup: PlainBackup
  target: RestoreTarget
  plan: RestorePlan
  /** Digest of what was backed up, and of what is there now. */
  restored: string
  before: string
  run(...steps: Step[]): Promise<void>
  undo(): Promise<void>
}

/** A database that changed since its backup, dressed with everything that must survive; the copy is loaded and proven. */
async function ready(name: string, options: { load?: boolean } = {}): Promise<Ready> {
  const { url, here, backup } = await ground.plain(name)
  const restored = (await digestPostgres(url)).parts.data ?? (await digestPostgres(url)).digest
  await psql(url, `DROP TABLE t; CREATE TABLE later (x int); INSERT INTO later VALUES (1)`)
  await server.sql(`ALTER DATABASE "${name}" OWNER TO shopkeeper;
    REVOKE ALL ON DATABASE "${name}" FROM PUBLIC; GRANT CONNECT ON DATABASE "${name}" TO reader WITH GRANT OPTION;
    ALTER DATABASE "${name}" SET search_path TO '"$user"', 'odd, "name"', public;
    ALTER DATABASE "${name}" SET work_mem TO '7MB'; ALTER DATABASE "${name}" SET holdfast.odd TO 'it''s \\ odd';
    ALTER ROLE reader IN DATABASE "${name}" SET statement_timeout TO '5s';
    ALTER DATABASE "${name}" CONNECTION LIMIT 17;
    COMMENT ON DATABASE "${name}" IS 'the shop''s own'`)
  const before = (await digestPostgres(url)).digest
  const there = await ask(here, method.existing(settingsOf(url), 'target', name))
  assert.ok(there)
  const target = targetOf(name, { replaces: there })
  const plan = await planFor(url, here, backup, target)
  const run = (...steps: Step[]) => runSteps(engine, here, backup, steps)
  if (options.load !== false) await run(...plan.steps)
  return {
    url,
    here,
    backup,
    target,
    plan,
    restored,
    before,
    run,
    async undo() {
      await run(swapOf(plan).rollBack)
      for (const command of plan.undo) assert.deepEqual((await runCommand(here, command)).exits, [0])
    },
  }
}
const tables = async (url: string) =>
  await psql(
    url,
    `SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND oid >= 16384`,
  )

describe('a swap', () => {
  test('replaces the content; owner, grants, settings, limit and comment stay; the old one is kept, closed', async t => {
    const r = await ready('whole')
    const oid = await oidOf('whole')
    const was = await properties('whole')
    const { exchange, open, kept } = swapOf(r.plan)
    // Somebody is connected, and comes back as fast as they can.
    let busy = true
    const clients = Promise.all(
      Array.from({ length: 4 }, async () => {
        while (busy) await psql(r.url, 'SELECT pg_sleep(0.05)').catch(() => sleep(5))
      }),
    )
    t.after(() => {
      busy = false
    })
    await r.run(exchange)
    await assert.rejects(
      psql(`postgres://reader:canary3@127.0.0.1:${server.port}/whole`, 'SELECT 1'),
      /permission denied for database/,
    )
    const checks = await ask(r.here, method.proofs(settingsOf(r.url), r.target, r.backup.manifest, 'swapped'))
    assert.deepEqual(
      checks.map(check => check.answer),
      ['pass'],
    )
    await r.run(open)
    busy = false
    await clients
    assert.equal(await tables(r.url), 't')
    assert.equal(await properties('whole'), was)
    assert.equal(await psql(`postgres://reader:canary3@127.0.0.1:${server.port}/whole`, 'SELECT 1'), '1')

    const identity = (await runCommand(r.here, kept.identify)).stdout.trim()
    assert.equal(identity, oid)
    await assert.rejects(psql(sibling(r.url, kept.name), 'SELECT 1'), /not currently accepting connections/)
    // There is no way back any more, and asking for it changes nothing.
    await r.undo()
    assert.equal(await tables(r.url), 't')
    // By hand, as it is told.
    await server.sql(kept.look)
    assert.equal(await tables(sibling(r.url, kept.name)), 'later')
    await server.sql(kept.goBack)
    assert.equal(await tables(r.url), 'later')
    // What somebody took back is not dropped.
    assert.deepEqual(
      (await runCommand(r.here, method.dropKept(settingsOf(r.url), 'target', { name: kept.name, identity })))
        .exits,
      [0],
    )
    assert.equal(await oidOf('whole'), oid)
  })

  test('what is kept is dropped as who it was, never by name only', async () => {
    const r = await ready('dropped')
    const { exchange, open, kept } = swapOf(r.plan)
    await r.run(exchange, open)
    const drop = (identity: string) =>
      runCommand(r.here, method.dropKept(settingsOf(r.url), 'target', { name: kept.name, identity }))
    const identity = (await runCommand(r.here, kept.identify)).stdout.trim()
    await drop('1')
    assert.ok((await databases(server)).includes(kept.name))
    const comment = await server.sql(`SELECT shobj_description(${identity}, 'pg_database')`)
    await server.sql(`COMMENT ON DATABASE ${kept.name} IS 'mine now'`)
    await drop(identity)
    assert.ok((await databases(server)).includes(kept.name))
    await server.sql(`COMMENT ON DATABASE ${kept.name} IS '${comment.replaceAll("'", "''")}'`)
    assert.deepEqual((await drop(identity)).exits, [0])
    assert.ok(!(await databases(server)).includes(kept.name))
    assert.deepEqual((await drop(identity)).exits, [0])
  })

  test('rolled back: the old database as it was, the copy is gone', async () => {
    const r = await ready('back')
    const [oid, was] = [await oidOf('back'), await properties('back')]
    const { exchange, rollBack } = swapOf(r.plan)
    await r.run(exchange)
    // The second proof finds damage.
    await psql(r.url, 'DROP TABLE t')
    const checks = await ask(r.here, method.proofs(settingsOf(r.url), r.target, r.backup.manifest, 'swapped'))
    assert.equal(checks[0]?.code, 'restore.proof-failed')
    await r.undo()
    await r.undo()
    assert.deepEqual([await oidOf('back'), await properties('back')], [oid, was])
    assert.equal((await digestPostgres(r.url)).digest, r.before)
    assert.deepEqual(
      (await databases(server)).filter(one => one.includes(r.target.token)),
      [],
    )
    // A run that comes late finds no copy, and leaves everything alone.
    await assert.rejects(runSteps(engine, r.here, r.backup, [exchange]), code('restore.target-changed'))
    await r.run(rollBack)
    assert.equal(await oidOf('back'), oid)
  })

  test('the new one was dropped by somebody: the old one comes back', async () => {
    const r = await ready('vanished')
    const oid = await oidOf('vanished')
    await r.run(swapOf(r.plan).exchange)
    await server.sql('DROP DATABASE vanished WITH (FORCE)')
    await r.undo()
    assert.equal(await oidOf('vanished'), oid)
    assert.equal(await psql(r.url, 'SELECT count(*) FROM later'), '1')
  })
})

describe('a swap that is killed', () => {
  test('whenever psql dies, there is the old database or the new one, and it goes on', async () => {
    const r = await ready('killed')
    const was = await properties('killed')
    const { exchange, open, rollBack } = swapOf(r.plan)
    const oldOid = await oidOf('killed')
    for (const [index, step] of [exchange, rollBack, exchange, rollBack, exchange, open].entries()) {
      for (let delay = 0; delay <= 40; delay += 8) {
        const held = psql(r.url, 'SELECT pg_sleep(0.1)').catch(() => undefined)
        await runCommand(r.here, step.run, {
          onSpawn: ([child]) => setTimeout(() => child?.kill('SIGKILL'), 15 + delay),
        })
        // A statement whose client died goes on: both facts are of one moment.
        const [there, kept] = (
          await server.sql(
            `SELECT coalesce((SELECT oid FROM pg_database WHERE datname = 'killed')::text, 'none'), EXISTS (SELECT FROM pg_database WHERE datname = '${swapOf(r.plan).kept.name}')`,
          )
        ).split('|')
        assert.notEqual(there, 'none', `${step.id} after ${delay} ms: there is a database`)
        assert.equal(kept === 't', there !== oldOid, 'the old one has exactly one name')
        await held
      }
      await runSteps(engine, r.here, r.backup, [step])
      assert.equal((await oidOf('killed')) === oldOid, step === rollBack, `step ${index}`)
    }
    assert.equal(await properties('killed'), was)
    assert.equal(await tables(r.url), 't')
  })

  test('the server dies in the middle of the exchange', async () => {
    const r = await ready('crashed')
    const oid = await oidOf('crashed')
    const { exchange, open } = swapOf(r.plan)
    // A session that cannot be ended at once: the rename waits for it, with the first statements done.
    let died: Promise<void> | undefined
    await runCommand(r.here, exchange.run, {
      onSpawn: () => {
        died = sleep(60).then(() => server.kill9())
      },
    })
    await died
    await server.restart()
    const now = await oidOf('crashed')
    assert.equal((await databases(server)).includes(swapOf(r.plan).kept.name), now !== oid)
    await r.run(exchange, open)
    assert.equal(await tables(r.url), 't')
  })

  test('two runs at once are one', async () => {
    const r = await ready('twice')
    const { exchange, open } = swapOf(r.plan)
    const both = await Promise.all([runCommand(r.here, exchange.run), runCommand(r.here, exchange.run)])
    assert.deepEqual(
      both.map(one => one.exits),
      [[0], [0]],
    )
    const opened = await Promise.all([runCommand(r.here, open.run), runCommand(r.here, open.run)])
    assert.deepEqual(
      opened.map(one => one.exits),
      [[0], [0]],
    )
    assert.equal(await tables(r.url), 't')
  })
})

describe('a swap that is refused', () => {
  const checked = async (r: Ready) =>
    (await ask(r.here, method.targetChecks(settingsOf(r.url), r.target, r.backup.manifest))).find(
      check => check.answer === 'fail',
    )

  test('another database of that name: early and within the transaction', async () => {
    const r = await ready('other')
    await server.sql('ALTER DATABASE other RENAME TO other_before')
    await server.sql('CREATE DATABASE other')
    assert.equal((await checked(r))?.code, 'restore.target-changed')
    await assert.rejects(r.run(swapOf(r.plan).exchange), code('restore.target-changed'))
    await r.undo()
    assert.equal(await tables(r.url), '')
    assert.equal(await tables(sibling(r.url, 'other_before')), 'later')
  })

  for (const [what, arrange, release, said] of [
    [
      'a logical replication slot',
      "SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')",
      "SELECT pg_drop_replication_slot('cdc')",
      /slot "cdc"/,
    ],
    [
      'a prepared transaction',
      "BEGIN; INSERT INTO later VALUES (2); PREPARE TRANSACTION 'half'",
      "ROLLBACK PREPARED 'half'",
      /transaction "half"/,
    ],
  ] as const) {
    test(`${what}: early and within the transaction`, async () => {
      const name = `refused ${what.split(' ')[1]}`
      const r = await ready(name)
      const was = await properties(name)
      await psql(r.url, arrange)
      const failed = await checked(r)
      assert.equal(failed?.code, 'restore.swap-refused')
      assert.match(failed?.detail ?? '', said)
      await assert.rejects(r.run(swapOf(r.plan).exchange), code('restore.swap-refused', said))
      await psql(r.url, release)
      await r.undo()
      assert.equal(await properties(name), was)
      assert.equal(await tables(r.url), 'later')
    })
  }

  test('a template, a closed database, the maintenance database', async () => {
    const r = await ready('odd', { load: false })
    await server.sql('ALTER DATABASE odd IS_TEMPLATE true')
    assert.match((await checked(r))?.detail ?? '', /template/)
    await server.sql('ALTER DATABASE odd IS_TEMPLATE false; ALTER DATABASE odd ALLOW_CONNECTIONS false')
    assert.match((await checked(r))?.detail ?? '', /allows no connections/)
    await server.sql('ALTER DATABASE odd ALLOW_CONNECTIONS true')
    assert.equal(await checked(r), undefined)
    const facts = await ask(r.here, engine.probeTarget('target', settingsOf(r.url)))
    const settings = { ...settingsOf(r.url), maintenanceDatabase: 'odd' }
    assert.throws(
      () => method.planRestore(settings, r.target, r.backup.manifest, facts),
      code('restore.mismatch'),
    )
  })

  test('a user who may not end the sessions of others', async () => {
    await server.sql(
      `CREATE ROLE clerk LOGIN CREATEDB PASSWORD 'canary5'; CREATE DATABASE clerks OWNER clerk`,
    )
    const r = await ready('bystander', { load: false })
    const url = `postgres://clerk:canary5@127.0.0.1:${server.port}/clerks`
    const here = ground.place({ password: 'canary5' })
    const there = await ask(here, method.existing(settingsOf(url), 'target', 'clerks'))
    assert.ok(there)
    const session = psql(sibling(server.url(), 'clerks'), 'SELECT pg_sleep(3)')
    const target = targetOf('clerks', { replaces: there })
    const until = Date.now() + 5000
    let failed: { code?: string } | undefined
    while (failed === undefined && Date.now() < until) {
      const checks = await ask(here, method.targetChecks(settingsOf(url), target, r.backup.manifest))
      failed = checks.find(check => check.id === 'target.sessions' && check.answer === 'fail')
    }
    assert.equal(failed?.code, 'database.privilege')
    await session
    const free = await ask(ground.place({ password }), method.existing(settingsOf(r.url), 'target', 'nobody'))
    assert.equal(free, undefined)
  })
})
