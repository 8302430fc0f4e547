/** SQLite: the content of a live file is replaced: what stays, what is refused, what a kill leaves. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import type { RestorePlan, RestoreTarget, Step } from '../../engines/engine.ts'
import { engineOf } from '../../engines/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import { digestSqlite } from '../support/digest.ts'
import { ask, backUp, type PlainBackup, runCommand, runSteps } from '../support/run.ts'
import { type Scratch, scratch } from '../support/temporary.ts'

const engine = engineOf('sqlite')
const methodOf = (name: 'physical' | 'logical') => engine.methods[name] ?? assert.fail()
const code = (expected: string) => (error: unknown) => {
  assert.ok(error instanceof HoldfastError, String(error))
  assert.equal(error.code, expected, error.message)
  return true
}
let dir: Scratch
before(async () => {
  dir = await scratch()
})
after(() => dir[Symbol.asyncDispose]())

const swapOf = (plan: RestorePlan) => plan.swap ?? assert.fail('a swap is planned')
const sqlOn = (path: string, sql: string) => {
  const database = new DatabaseSync(path)
  try {
    database.exec(sql)
  } finally {
    database.close()
  }
}
const rows = (path: string) => {
  // As an application would: a journal that was left is rolled back.
  const database = new DatabaseSync(path)
  try {
    return database.prepare('SELECT count(*) AS count, min(v) AS first FROM t').get() as {
      count: number
      first: string
    }
  } finally {
    database.close()
  }
}
const applicationId = (path: string) => {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    return Object.values(database.prepare('PRAGMA application_id').get() ?? {})[0]
  } finally {
    database.close()
  }
}

let count = 0
/** A file that changed since its backup; the copy is loaded and proven. */
async function ready(
  options: {
    method?: 'physical' | 'logical'
    journal?: string
    rows?: number
    later?: string
    name?: string
  } = {},
) {
  count += 1
  const method = methodOf(options.method ?? 'physical')
  const directory = join(dir.path, `case-${count}`)
  await mkdir(directory)
  const path = join(directory, options.name ?? 'live.db')
  const many = options.rows ?? 2000
  sqlOn(
    path,
    `PRAGMA application_id = 7; PRAGMA journal_mode = ${options.journal ?? 'delete'}; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
     INSERT INTO t (v) SELECT 'backed up' || hex(randomblob(200)) FROM (WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT ${many}) SELECT x FROM n)`,
  )
  const here = { staging: join(dir.path, `staging-${count}`), secrets: {} }
  const backup = await backUp(engine, method, { path }, here)
  const restored = digestSqlite(path).digest
  sqlOn(path, `DELETE FROM t WHERE id > 10; UPDATE t SET v = 'later'; ${options.later ?? ''}`)
  const before = digestSqlite(path).digest
  const replaces = await ask(here, method.existing({ path }, 'target', path))
  assert.ok(replaces)
  const target: RestoreTarget = {
    connection: 'target',
    database: path,
    token: `tok${count}abcdef`,
    jobs: 1,
    noOwner: false,
    replaces,
  }
  const facts = await ask(here, engine.probeTarget('target', { path }))
  const plan = method.planRestore({ path }, target, backup.manifest, facts)
  const run = (...steps: Step[]) => runSteps(engine, here, backup as PlainBackup, steps)
  await run(...plan.steps)
  const proofs = async (place: 'temporary' | 'swapped') =>
    await ask(here, method.proofs({ path }, target, backup.manifest, place))
  assert.ok((await proofs('temporary')).every(check => check.answer === 'pass'))
  return {
    method,
    directory,
    path,
    here,
    backup,
    target,
    plan,
    run,
    proofs,
    restored,
    before,
    swap: swapOf(plan),
    checks: () => ask(here, method.targetChecks({ path }, target, backup.manifest)),
    async undo() {
      await run(swapOf(plan).rollBack)
      for (const command of plan.undo) assert.deepEqual((await runCommand(here, command)).exits, [0])
    },
  }
}

describe('a swap', () => {
  for (const method of ['physical', 'logical'] as const) {
    for (const journal of ['delete', 'wal']) {
      test(`${method}, ${journal}: the content is replaced in the same file, under a reader`, async () => {
        const r = await ready({ method, journal, name: `odd "d' $HOME \\ é.db` })
        const was = statSync(r.path)
        const client = new DatabaseSync(r.path)
        client.exec('PRAGMA busy_timeout = 5000')
        assert.equal(client.prepare('SELECT count(*) AS n FROM t').get()?.n, 10)
        assert.ok((await r.checks()).every(check => check.answer === 'pass'))
        await r.run(...r.swap.prepare, r.swap.exchange)
        assert.ok((await r.proofs('swapped')).every(check => check.answer === 'pass'))
        await r.run(r.swap.open)
        assert.equal(client.prepare('SELECT count(*) AS n FROM t').get()?.n, 2000)
        client.exec("INSERT INTO t (v) VALUES ('written on')")
        client.exec("DELETE FROM t WHERE v = 'written on'")
        assert.equal(Object.values(client.prepare('PRAGMA journal_mode').get() ?? {})[0], journal)
        client.close()
        const now = statSync(r.path)
        assert.deepEqual([now.ino, now.mode, now.uid], [was.ino, was.mode, was.uid])
        assert.equal(digestSqlite(r.path).digest, r.restored)
        assert.equal(applicationId(r.path), 7)
        // Kept beside, private, whole; and the way back by hand is as it is told.
        const { kept } = r.swap
        assert.equal(dirname(kept.name), r.directory)
        assert.equal(statSync(kept.name).mode & 0o777, 0o600)
        assert.equal(digestSqlite(kept.name).digest, r.before)
        await r.undo()
        assert.equal(digestSqlite(r.path).digest, r.restored, 'no way back after the opening')
        const shell = await runCommand(r.here, { stages: [{ argv: ['sh', '-c', kept.goBack] }] })
        assert.deepEqual(shell.exits, [0], shell.stderrTail)
        assert.equal(digestSqlite(r.path).digest, r.before)
        const identity = (await runCommand(r.here, kept.identify)).stdout
        const drop = (one: string) =>
          runCommand(
            r.here,
            r.method.dropKept({ path: r.path }, 'target', { name: kept.name, identity: one }),
          )
        await drop('1:1')
        assert.ok(existsSync(kept.name))
        assert.deepEqual((await drop(identity)).exits, [0])
        assert.deepEqual((await drop(identity)).exits, [0])
        assert.deepEqual(
          readdirSync(r.directory).filter(one => one.includes('holdfast')),
          [],
        )
      })
    }
  }

  test('rolled back: the old content, no number of ours in it', async () => {
    for (const journal of ['delete', 'wal']) {
      const r = await ready({ journal })
      await r.run(...r.swap.prepare, r.swap.exchange)
      assert.notEqual(applicationId(r.path), 7)
      sqlOn(r.path, 'DROP TABLE t')
      assert.ok((await r.proofs('swapped')).some(check => check.code === 'restore.proof-failed'))
      await r.undo()
      await r.undo()
      assert.equal(digestSqlite(r.path).digest, r.before)
      assert.equal(applicationId(r.path), 7)
      assert.deepEqual(
        readdirSync(r.directory).filter(one => one.includes(r.target.token) && !one.includes('-old-')),
        [],
      )
    }
  })

  test('a copy or a kept file that is gone is never taken for an empty database', async () => {
    const r = await ready()
    await r.run(...r.swap.prepare)
    const copy = join(r.directory, readdirSync(r.directory).find(one => one.endsWith(r.target.token)) ?? '')
    renameSync(copy, `${copy}.away`)
    await assert.rejects(r.run(r.swap.exchange))
    assert.equal(digestSqlite(r.path).digest, r.before)
    renameSync(`${copy}.away`, copy)
    await r.run(r.swap.exchange)
    rmSync(r.swap.kept.name)
    await assert.rejects(r.run(r.swap.rollBack))
    assert.equal(rows(r.path).count, 2000)
  })
})

describe('a swap that is killed', () => {
  for (const journal of ['delete', 'wal']) {
    test(`${journal}: whenever sqlite3 dies, there is the old content or the new one, whole`, async () => {
      const r = await ready({
        journal,
        rows: 40_000,
        later: 'CREATE TABLE fill AS SELECT randomblob(20000000) AS b',
      })
      await r.run(...r.swap.prepare)
      const seen = new Set<string>()
      for (const step of [r.swap.exchange, r.swap.rollBack, r.swap.exchange]) {
        for (let delay = 5; delay <= 145; delay += 14) {
          await runCommand(r.here, step.run, {
            onSpawn: ([child]) => setTimeout(() => child?.kill('SIGKILL'), delay),
          })
          const { count, first } = rows(r.path)
          const state = first.startsWith('backed up') ? 'new' : 'old'
          assert.equal(count, state === 'new' ? 40_000 : 10)
          seen.add(state)
        }
        await r.run(step)
        assert.equal(rows(r.path).count, step === r.swap.rollBack ? 10 : 40_000)
      }
      await r.run(r.swap.open)
      assert.equal(digestSqlite(r.path).digest, r.restored)
      assert.equal(digestSqlite(r.swap.kept.name).digest, r.before)
      assert.deepEqual([...seen].sort(), ['new', 'old'])
    })
  }
})

describe('a swap that is refused', () => {
  test('another file of that name, or none: early and within the script', async () => {
    const r = await ready()
    await r.run(...r.swap.prepare)
    renameSync(r.path, `${r.path}.moved`)
    assert.equal((await r.checks()).find(check => check.answer === 'fail')?.code, 'restore.target-changed')
    await assert.rejects(r.run(r.swap.exchange))
    assert.equal(existsSync(r.path), false, 'nothing is made in its place')
    sqlOn(r.path, "CREATE TABLE precious (x); INSERT INTO precious VALUES ('p')")
    const precious = digestSqlite(r.path).digest
    assert.equal((await r.checks()).find(check => check.answer === 'fail')?.code, 'restore.target-changed')
    await assert.rejects(r.run(r.swap.exchange), code('restore.target-changed'))
    await assert.rejects(
      r
        .run(r.swap.rollBack)
        .then(() => r.run(r.swap.open))
        .then(() => assert.fail('same')),
    )
    assert.equal(digestSqlite(r.path).digest, precious)
    assert.equal(digestSqlite(`${r.path}.moved`).digest, r.before)
  })

  test('a write-ahead log with other pages; a damaged file; the file of another connection', async () => {
    const r = await ready({ journal: 'wal' })
    const manifest = structuredClone(r.backup.manifest)
    manifest.facts.pageSize = 1024
    const checks = await ask(r.here, r.method.targetChecks({ path: r.path }, r.target, manifest))
    assert.equal(checks.find(check => check.answer === 'fail')?.code, 'restore.swap-refused')

    const facts = await ask(r.here, engine.probeTarget('target', { path: '/tmp/elsewhere.db' }))
    assert.throws(
      () => r.method.planRestore({ path: '/tmp/elsewhere.db' }, r.target, r.backup.manifest, facts),
      code('restore.mismatch'),
    )
    const damaged = join(r.directory, 'damaged.db')
    writeFileSync(damaged, 'not a database at all, not at all. '.repeat(200))
    await assert.rejects(
      ask(r.here, r.method.existing({ path: damaged }, 'target', damaged)),
      (error: unknown) =>
        code('database.corrupted')(error) && /move it away/.test((error as HoldfastError).hint),
    )
    assert.equal(
      await ask(r.here, r.method.existing({ path: damaged }, 'target', `${damaged}.none`)),
      undefined,
    )
  })

  test('pages of another size, without a write-ahead log, are no obstacle', async () => {
    const r = await ready()
    const other = join(r.directory, 'other.db')
    sqlOn(
      other,
      "PRAGMA page_size = 1024; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t (v) VALUES ('small pages')",
    )
    const backup = await backUp(engine, r.method, { path: other }, r.here)
    const facts = await ask(r.here, engine.probeTarget('target', { path: r.path }))
    const target = { ...r.target, token: 'otherpages1' }
    const plan = r.method.planRestore({ path: r.path }, target, backup.manifest, facts)
    const swap = swapOf(plan)
    await runSteps(engine, r.here, backup, [...plan.steps, ...swap.prepare, swap.exchange])
    const proofs = await ask(r.here, r.method.proofs({ path: r.path }, target, backup.manifest, 'swapped'))
    assert.ok(
      proofs.every(check => check.answer === 'pass'),
      JSON.stringify(proofs),
    )
    await runSteps(engine, r.here, backup, [swap.open])
    assert.equal(digestSqlite(r.path).digest, digestSqlite(other).digest)
  })

  test('a writer that never rests is waited for; the swap comes through', async () => {
    const r = await ready({ journal: 'wal' })
    await r.run(...r.swap.prepare)
    const writer = new DatabaseSync(r.path)
    writer.exec("BEGIN IMMEDIATE; INSERT INTO t (v) VALUES ('last word')")
    const going = r.run(r.swap.exchange)
    await new Promise(resolve => setTimeout(resolve, 400))
    writer.exec('COMMIT')
    writer.close()
    await going
    await r.run(r.swap.open)
    assert.equal(rows(r.path).count, 2000)
    assert.equal(rows(r.swap.kept.name).count, 11, 'what was written last is kept')
  })
})
