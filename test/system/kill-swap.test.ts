/**
 * The kill matrix of swaps: kill -9 of the worker before and after every word it exchanges with the catalog around the
 * exchange and the hand-over, of the tool in the middle of it, of the API and of Temporal. Each time the restore goes on by
 * itself, and until then there is the old database or the new one, whole.
 */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { addPerson, approve, askFor, awaiting, type Person } from '../support/people.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { expectCleanHost } from './inspect.ts'
import { pidsIn } from './sessions.ts'
import { directory, eventually, type Process, type Stack, startStack } from './stack.ts'

describe('kill -9 during a swap', () => {
  let stack: Stack
  let worker: Process
  let postgres: TestPostgres
  let anna: Person
  let path = ''

  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    postgres = await startPostgres()
    anna = await addPerson(stack, 'anna', 'approver')
    const vault = await directory(stack, 'vault')
    path = join(await directory(stack, 'live'), 'live.db')
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: vault })
    onFile("CREATE TABLE t (x TEXT); INSERT INTO t VALUES ('backed up'); PRAGMA application_id = 5")
    await createDatabase(postgres.url(), 'shop')
    await postgres.sql(`CREATE ROLE keeper; ALTER DATABASE shop OWNER TO keeper; ALTER DATABASE shop SET work_mem TO '9MB';
      REVOKE ALL ON DATABASE shop FROM PUBLIC; COMMENT ON DATABASE shop IS 'ours'`)
    await postgres.sql("CREATE TABLE t (x text); INSERT INTO t VALUES ('backed up')", 'shop')
    await stack.expectOk('POST', '/v1/connections', { name: 'file', url: `sqlite:${path}` })
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    for (const connection of ['file', 'pg']) {
      const { id } = await stack.backup({ connection, destinations: ['vault'] })
      assert.equal((await stack.ended(id)).state, 'succeeded')
    }
  })
  after(async () => {
    await stack?.stop()
    await postgres?.stop()
  })

  function onFile(sql: string): void {
    const database = new DatabaseSync(path)
    try {
      database.exec(`PRAGMA busy_timeout = 20000; ${sql}`)
    } finally {
      database.close()
    }
  }
  const content = async (name: 'file' | 'pg'): Promise<string> => {
    if (name === 'pg') return await postgres.sql("SELECT string_agg(x, ',') FROM t", 'shop')
    const database = new DatabaseSync(path)
    try {
      database.exec('PRAGMA busy_timeout = 20000')
      return String(database.prepare("SELECT group_concat(x, ',') AS x FROM t").get()?.x)
    } finally {
      database.close()
    }
  }
  const properties = () =>
    postgres.sql(`SELECT pg_get_userbyid(datdba), datacl, datconnlimit, datallowconn, shobj_description(oid, 'pg_database'),
      (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = oid) FROM pg_database WHERE datname = 'shop'`)
  /** The old or the new one, never none, never a mixture. */
  const expectWhole = async (name: 'file' | 'pg') => {
    const found = await content(name)
    assert.ok(['later', 'backed up'].includes(found), `there is: ${found}`)
  }

  /** Asked for and approved; `at` gets in its way. */
  const run = async (
    name: 'file' | 'pg',
    at: (id: string) => Promise<void>,
    expected: 'backed up' | 'later',
  ) => {
    if (name === 'pg') await postgres.sql("UPDATE t SET x = 'later'", 'shop')
    else onFile("UPDATE t SET x = 'later'")
    const was = await properties()
    const { body } = await askFor(anna, {
      backup: `${name}:latest`,
      target: { connection: name, database: name === 'pg' ? 'shop' : path },
    })
    const { id } = body.operation
    assert.equal((await awaiting(stack, id)).state, 'awaiting-approval')
    const disturbed = at(id)
    assert.equal((await approve(stack, anna, id)).status, 202)
    await disturbed
    await expectWhole(name)
    const view = await stack.ended(id, 180)
    assert.equal(view.state, expected === 'later' ? 'failed' : 'succeeded', JSON.stringify(view.error))
    assert.equal(await content(name), expected)
    assert.equal(await properties(), was)
    if (name === 'file') {
      const database = new DatabaseSync(path)
      assert.deepEqual(Object.values(database.prepare('PRAGMA application_id').get() ?? {}), [5])
      database.close()
    }
    // Nothing temporary is left; of what was replaced, one copy.
    const names =
      name === 'pg'
        ? (await postgres.sql('SELECT datname FROM pg_database')).split('\n')
        : readdirSync(join(path, '..'))
    const ours = names.filter(
      one => one.includes('holdfast') && one !== view.kept?.name && !one.includes('old'),
    )
    assert.deepEqual(ours, [])
    expectCleanHost(stack.home, id)
    return view
  }
  const word = (method: string) => (_: string, url: string) => url.endsWith(`/internal/v1/${method}`)

  for (const name of ['pg', 'file'] as const) {
    for (const [what, method, moment, skip] of [
      ['before the exchange is noted', 'beginDestructive', 'before', 0],
      ['after the exchange is noted, before it runs', 'beginDestructive', 'after', 0],
      ['after the exchange, before it is noted', 'finishDestructive', 'before', 0],
      ['after the exchange is noted as done', 'finishDestructive', 'after', 0],
      ['before the hand-over is noted', 'beginDestructive', 'before', 1],
      ['after the hand-over is noted, before it runs', 'beginDestructive', 'after', 1],
      ['after the hand-over, before it is noted', 'finishDestructive', 'before', 1],
      ['after the hand-over is noted as done', 'finishDestructive', 'after', 1],
      ['before the approval is used', 'useApproval', 'before', 0],
      ['after the approval is used', 'useApproval', 'after', 0],
      ['before what is kept is noted', 'recordKept', 'before', 0],
    ] as const) {
      test(`${name}: the worker dies ${what}`, async () => {
        await run(
          name,
          async () => {
            let left: number = skip
            const is = word(method)
            const held = stack.workerApi.hold(moment, (verb, url) => is(verb, url) && left-- === 0)
            await held.reached
            await expectWhole(name)
            await worker.kill9()
            held.cut()
            worker = stack.startWorker()
          },
          'backed up',
        )
      })
    }

    test(`${name}: the tool dies in the middle of the exchange, the API and Temporal after it`, async () => {
      await run(
        name,
        async id => {
          const begun = stack.workerApi.hold('after', word('beginDestructive'))
          await begun.reached
          begun.release()
          const held = stack.workerApi.hold('before', word('finishDestructive'))
          const tool = name === 'pg' ? 'psql' : 'sqlite3'
          // It is short: whether it was hit, and where, differs from run to run.
          await eventually(
            'the exchange runs or has run',
            async () => {
              const [pid] = pidsIn(id, tool)
              if (pid === undefined) return undefined
              process.kill(pid, 'SIGKILL')
              return true
            },
            3,
          ).catch(() => {})
          await held.reached
          await expectWhole(name)
          await stack.api.kill9()
          held.cut()
          await stack.restartApi()
          await stack.temporal.kill9()
          await stack.temporal.restart()
        },
        'backed up',
      )
    })

    test(`${name}: the second proof fails: the old one comes back, also when the worker dies on the way`, async () => {
      const view = await run(
        name,
        async () => {
          const held = stack.workerApi.hold('before', word('finishDestructive'))
          await held.reached
          // Somebody with every right breaks the new one before it is handed over.
          if (name === 'pg') await postgres.sql('DROP TABLE t', 'shop')
          else onFile('DROP TABLE t')
          held.release()
          const back = stack.workerApi.hold('after', word('beginRollBack'))
          await back.reached
          await worker.kill9()
          back.cut()
          worker = stack.startWorker()
          await eventually('the old one is back', async () =>
            (await content(name)) === 'later' ? true : undefined,
          )
        },
        'later',
      )
      assert.equal(view.error?.code, 'restore.proof-failed')
    })
  }
})
