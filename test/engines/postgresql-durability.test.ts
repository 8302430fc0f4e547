/** PostgreSQL: what is left when tools are killed, streams are cut, answers are lost or targets are refused. */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import type { PostgresqlConnection } from '../../engines/postgresql/connection.ts'
import { psql, type TestPostgres } from '../servers/postgres.ts'
import { digestPostgres } from '../support/digest.ts'
import { ask, backUp, restore, runCommand, runSteps } from '../support/run.ts'
import {
  code,
  databases,
  engine,
  type Ground,
  method,
  nothingLeft,
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
  ground = await openGround()
  server = ground.server
})
after(() => ground?.[Symbol.asyncDispose]())

describe('durability', () => {
  for (const toolFormat of ['custom', 'directory']) {
    test(`${toolFormat}: a load that is killed twice runs again from an empty database`, async () => {
      const { url, here } = await ground.plain(`killed ${toolFormat}`)
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
      await nothingLeft(server)
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
    const { url, here, backup, bytes } = await ground.plain('cut')
    const cut = bytes.subarray(0, Math.floor(bytes.length * 0.6))
    const target = targetOf('cut again')
    const going = restore(engine, method, settingsOf(url), here, backup, {
      target,
      feed: () => Readable.from([cut]),
    })
    await assert.rejects(going, code('artifact.truncated'))
    assert.equal((await databases(server)).includes('cut again'), false)
    await nothingLeft(server)
  })

  test('an answer that was lost: every finishing step may run again', async () => {
    const { url, here, backup } = await ground.plain('twice')
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
    const { url, here, backup } = await ground.plain('ours')
    const target = targetOf('ours again')
    const plan = await planFor(url, here, backup, target)
    const name = `holdfast_${target.token}`
    await server.sql(`CREATE DATABASE ${name}`)
    await server.sql(`COMMENT ON DATABASE ${name} IS 'somebody adopted it'`)
    for (const command of plan.undo) await runCommand(here, command)
    assert.ok((await databases(server)).includes(name))
    await assert.rejects(runSteps(engine, here, backup, plan.steps), code('restore.target-exists'))
    await server.sql(`COMMENT ON DATABASE ${name} IS NULL`)
    for (const command of plan.undo) await runCommand(here, command)
    await nothingLeft(server)
  })

  test('while it loads, others may not connect; afterwards they may', async () => {
    const { url, here, backup } = await ground.plain('closed')
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
    const { url, here, backup } = await ground.plain('exists')
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
    await nothingLeft(server)
  })

  test('wrong password, no such database, nobody there, no such host', async () => {
    const settings = settingsOf(server.url())
    const probe = (changed: Partial<PostgresqlConnection>, secrets: Record<string, string> = { password }) =>
      ask(ground.place(secrets), engine.probe('c', { ...settings, ...changed }))
    await assert.rejects(probe({}, { password: 'wrong canary' }), code('database.authentication'))
    await assert.rejects(probe({}, {}), code('database.authentication'))
    await assert.rejects(probe({ user: 'nobody here' }), code('database.authentication'))
    await assert.rejects(probe({ database: 'nothing here' }), code('database.missing'))
    await assert.rejects(probe({ port: 1 }), code('database.unreachable'))
    await assert.rejects(probe({ host: 'no-such-host.invalid' }), code('database.unreachable'))
  })

  test('an ordinary owner backs up and restores their own database', async () => {
    await server.sql(`CREATE ROLE ordinary LOGIN CREATEDB PASSWORD 'canary4'`)
    await server.sql('CREATE DATABASE ordinary OWNER ordinary')
    const url = `postgres://ordinary:canary4@127.0.0.1:${server.port}/ordinary`
    await psql(url, 'CREATE TABLE t AS SELECT generate_series(1, 100) AS x')
    const here = ground.place({ password: 'canary4' })
    const backup = await backUp(engine, method, settingsOf(url), here)
    await restore(engine, method, settingsOf(url), here, backup, { target: targetOf('ordinary again') })
    assert.equal(
      (await digestPostgres(sibling(url, 'ordinary again'))).digest,
      (await digestPostgres(url)).digest,
    )
  })

  test('a full staging directory', async () => {
    const disk = await ground.dir.smallDisk('small', 256)
    const here = { staging: disk, secrets: { password } }
    const { url } = await ground.plain('staged')
    await assert.rejects(
      backUp(engine, method, settingsOf(url), here, { toolFormat: 'directory' }),
      code('staging.full'),
    )
  })
})
