/** SQLite: real files, the real sqlite3 shell, round trips judged by digests of schema and content. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chownSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { mkdir, open, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import type { Engine, RestoreTarget } from '../../engines/engine.ts'
import { engineOf } from '../../engines/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import { digestSqlite } from '../support/digest.ts'
import { ask, backUp, restore, runCommand, runSteps } from '../support/run.ts'
import { makeShop, sqliteCopyOnly, sqliteOddities } from '../support/shop.ts'
import { type Scratch, scratch } from '../support/temporary.ts'

const engine: Engine = engineOf('sqlite')
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

let places = 0
const place = () => ({ staging: join(dir.path, `staging-${++places}`), secrets: {} })
const targetAt = (database: string, token = 'tok3n1'): RestoreTarget => ({
  connection: 'target',
  database,
  token,
  jobs: 1,
  noOwner: false,
})
const openAt = (name: string, sql: string): string => {
  const path = join(dir.path, name)
  const database = new DatabaseSync(path)
  database.exec(sql)
  database.close()
  return path
}
/** Nothing of ours is left beside a target. */
const noLeftovers = (directory: string) =>
  assert.deepEqual(
    readdirSync(directory).filter(name => name.includes('.holdfast-')),
    [],
  )

describe('round trips', () => {
  const sources: Record<string, () => string> = {
    'a shop of 100,000 rows': () => {
      const path = join(dir.path, 'shop.db')
      if (!existsSync(path)) makeShop(path)
      return path
    },
    'everything odd, hostile name, WAL, UTF-16': () => {
      const path = join(dir.path, `-o'd "d" é ?mode=memory&x=%20 $(id) .db`)
      if (!existsSync(path)) {
        const database = new DatabaseSync(path)
        database.exec("PRAGMA encoding = 'UTF-16le'; PRAGMA page_size = 8192; PRAGMA auto_vacuum = 2;")
        database.exec(sqliteOddities)
        database.exec('PRAGMA journal_mode = WAL;')
        database.close()
      }
      return path
    },
    'a database without a byte': () => {
      const path = join(dir.path, 'empty.db')
      if (!existsSync(path)) writeFileSync(path, '')
      return path
    },
  }
  for (const [name, make] of Object.entries(sources)) {
    for (const method of ['physical', 'logical'] as const) {
      test(`${method}: ${name}`, async () => {
        const source = make()
        const { settings } = engine.parseUrl(source)
        const here = place()
        const backup = await backUp(engine, methodOf(method), settings, here)
        const final = `${source}.${method}`
        await restore(engine, methodOf(method), settings, here, backup, { target: targetAt(final) })
        assert.deepEqual(digestSqlite(final), digestSqlite(source))
        assert.equal(statSync(final).mode & 0o777, 0o600)
        assert.equal(statSync(final).nlink, 1)
        noLeftovers(dir.path)
      })
    }
  }

  test('physical: text with NUL and the tiniest numbers', async () => {
    const source = openAt('copy-only.db', sqliteCopyOnly)
    const here = place()
    const backup = await backUp(engine, methodOf('physical'), { path: source }, here)
    await restore(engine, methodOf('physical'), { path: source }, here, backup, {
      target: targetAt(`${source}.r`),
    })
    assert.equal(digestSqlite(`${source}.r`).digest, digestSqlite(source).digest)
  })

  test('the digest notices one changed value', () => {
    const source = openAt('digest.db', sqliteOddities)
    const first = digestSqlite(source)
    openAt('digest.db', "UPDATE no_key SET a = 'TEN' WHERE rowid = 10; DELETE FROM reals WHERE 0;")
    const second = digestSqlite(source)
    assert.notEqual(second.digest, first.digest)
    const differing = Object.keys(first.parts).filter(part => first.parts[part] !== second.parts[part])
    assert.deepEqual(differing, ['table no_key'])
  })
})

describe('while others write', () => {
  /** Adds one row to two tables per transaction, for as long as it lives: a copy must hold equally many of both. */
  const writer = `
    import { DatabaseSync } from 'node:sqlite'
    const database = new DatabaseSync(process.argv[1])
    database.exec('PRAGMA busy_timeout = 60000; PRAGMA synchronous = OFF')
    process.stdout.write('ready')
    for (;;) database.exec('BEGIN IMMEDIATE; INSERT INTO a DEFAULT VALUES; UPDATE filler SET x = x + 1 WHERE id = abs(random() % 4000) + 1; INSERT INTO b DEFAULT VALUES; COMMIT')`
  for (const mode of ['WAL', 'DELETE']) {
    for (const method of ['physical', 'logical'] as const) {
      test(`${method}, journal mode ${mode}: one snapshot`, async () => {
        const source = openAt(
          `busy-${mode}-${method}.db`,
          `PRAGMA journal_mode = ${mode}; BEGIN; CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (id INTEGER PRIMARY KEY);
           CREATE TABLE filler (id INTEGER PRIMARY KEY, x INT, y BLOB);
           WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) INSERT INTO filler SELECT i, 0, randomblob(4000) FROM n; COMMIT;`,
        )
        const child = spawn(process.execPath, ['--input-type=module', '-e', writer, source], {
          stdio: ['ignore', 'pipe', 'inherit'],
        })
        try {
          await new Promise(resolve => child.stdout.once('data', resolve))
          const here = place()
          const backup = await backUp(engine, methodOf(method), { path: source }, here)
          const final = `${source}.restored`
          await restore(engine, methodOf(method), { path: source }, here, backup, { target: targetAt(final) })
          const counts = count(final)
          assert.equal(counts.a, counts.b)
          assert.equal(counts.filler, 4000)
          assert.equal(counts.sum, counts.a, 'every transaction is whole')
          assert.equal(child.exitCode, null, 'the writer lives on')
        } finally {
          child.kill('SIGKILL')
        }
      })
    }
  }
  const count = (path: string): Record<string, number> => {
    const database = new DatabaseSync(path)
    const sql =
      'SELECT (SELECT count(*) FROM a) AS a, (SELECT count(*) FROM b) AS b, count(*) AS filler, sum(x) AS sum FROM filler'
    const row = database.prepare(sql).get() as Record<string, number>
    database.close()
    return row
  }
})

describe('what a probe says', () => {
  test('a missing file is missing, and stays so', async () => {
    const path = join(dir.path, 'not-there.db')
    await assert.rejects(ask(place(), engine.probe('c', { path })), code('database.missing'))
    assert.equal(existsSync(path), false)
    const facts = await ask(place(), engine.probeTarget('c', { path }))
    assert.match(facts.identity, /^sqlite:[0-9a-f]{12}:\//)
  })
  test('a directory and a text file are no databases', async () => {
    await assert.rejects(ask(place(), engine.probe('c', { path: dir.path })), code('database.missing'))
    const path = join(dir.path, 'text.db')
    await writeFile(
      path,
      'this is not a database, only some text that is long enough to be looked at'.repeat(20),
    )
    await assert.rejects(ask(place(), engine.probe('c', { path })), code('database.corrupted'))
  })
  test('a symbolic link and its file are one server; the identity is safe in names', async () => {
    const path = openAt('é link target.db', 'CREATE TABLE t (x)')
    const link = join(dir.path, 'link.db')
    await symlink(path, link)
    const [one, other, gone] = [
      await ask(place(), engine.probe('c', { path })),
      await ask(place(), engine.probe('d', { path: link })),
      await ask(place(), engine.probeTarget('d', { path: link })),
    ]
    assert.equal(one.identity, other.identity)
    assert.equal(one.identity, gone.identity)
    assert.match(one.identity, /^[A-Za-z0-9.:\-/_]+$/)
  })
  test('files beside a WAL database that we read belong to its owner', async () => {
    const path = openAt('wal-owner.db', 'PRAGMA journal_mode = WAL; CREATE TABLE t (x)')
    if (process.getuid?.() === 0) chownSync(path, 65534, 65534)
    await ask(place(), engine.probe('c', { path }))
    for (const name of [`${path}-wal`, `${path}-shm`]) {
      if (existsSync(name)) assert.equal(statSync(name).uid, statSync(path).uid)
    }
  })
})

describe('restores go beside', () => {
  const prepared = async (method: 'physical' | 'logical', name: string) => {
    const source = openAt(
      `${name}.db`,
      `CREATE TABLE t (x); WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t SELECT 'row ' || i FROM n; CREATE INDEX t_x ON t (x);`,
    )
    const here = place()
    const backup = await backUp(engine, methodOf(method), { path: source }, here)
    const directory = join(dir.path, `beside-${name}`)
    await mkdir(directory)
    const final = join(directory, 'restored.db')
    const go = (feed?: () => Readable) =>
      restore(engine, methodOf(method), { path: source }, here, backup, {
        target: targetAt(final),
        ...(feed === undefined ? {} : { feed }),
      })
    return { source, here, backup, directory, final, go }
  }
  const bytesOf = (backup: { files: Record<string, string> }): Buffer =>
    readFileSync(Object.values(backup.files)[0] ?? '')

  for (const method of ['physical', 'logical'] as const) {
    test(`${method}: a stream that is cut leaves nothing`, async () => {
      const { backup, directory, go } = await prepared(method, `cut-${method}`)
      const bytes = bytesOf(backup)
      const cut = bytes.subarray(0, Math.floor(bytes.length * 0.6))
      await assert.rejects(go(() => Readable.from([cut])))
      assert.deepEqual(readdirSync(directory), [])
    })
  }
  test('logical: a dump without its last line commits nothing', async () => {
    const { backup, directory, go } = await prepared('logical', 'no-commit')
    const text = bytesOf(backup).toString()
    const cut = text.slice(0, text.lastIndexOf('COMMIT;'))
    await assert.rejects(
      go(() => Readable.from([cut])),
      code('restore.proof-failed'),
    )
    assert.deepEqual(readdirSync(directory), [])
  })
  test('logical: the dump may not run programs or touch other files', async () => {
    const { directory, go } = await prepared('logical', 'hostile-dump')
    const trap = join(directory, 'trap')
    for (const line of [
      `.shell touch ${trap}`,
      `.once ${trap}`,
      `ATTACH '${trap}' AS trap; CREATE TABLE trap.t (x);`,
      `SELECT writefile('${trap}', 'x');`,
    ]) {
      await assert.rejects(go(() => Readable.from([`BEGIN;\n${line}\nCOMMIT;\n`])))
      assert.deepEqual(readdirSync(directory), [], line)
    }
  })
  test('physical: flipped bytes fail the proof and are removed', async () => {
    const { backup, directory, go } = await prepared('physical', 'flipped')
    const bytes = bytesOf(backup)
    bytes.fill(0xff, 8192, 8192 + 4096)
    await assert.rejects(
      go(() => Readable.from([bytes])),
      code('restore.proof-failed'),
    )
    assert.deepEqual(readdirSync(directory), [])
  })
  test('an existing target is refused and left alone', async () => {
    const { final, go, directory } = await prepared('physical', 'exists')
    await writeFile(final, 'precious')
    await assert.rejects(go(), code('restore.target-exists'))
    assert.equal(await readFile(final, 'utf8'), 'precious')
    assert.deepEqual(readdirSync(directory), ['restored.db'])
  })
  test('a target that appears at the last moment is refused and left alone', async () => {
    const { backup, here, final, directory } = await prepared('physical', 'late')
    const method = methodOf('physical')
    const target = targetAt(final)
    const facts = await ask(here, engine.probeTarget('t', { path: final }))
    const plan = method.planRestore({ path: final }, target, backup.manifest, facts)
    await runSteps(engine, here, backup, plan.steps)
    await writeFile(final, 'precious')
    await assert.rejects(runSteps(engine, here, backup, plan.finish), code('restore.target-exists'))
    for (const command of plan.undo) await runCommand(here, command)
    assert.equal(await readFile(final, 'utf8'), 'precious')
    assert.deepEqual(readdirSync(directory), ['restored.db'])
  })
  test('the log of another database is not replayed into the restored one', async () => {
    const { final, go } = await prepared('physical', 'stale')
    await writeFile(`${final}-wal`, 'frames of another database')
    await assert.rejects(go(), code('restore.target-exists'))
    await writeFile(`${final}-wal`, '')
    await go()
  })
  test('a load that was killed runs again from an empty file; a finish may run twice', async () => {
    for (const name of ['physical', 'logical'] as const) {
      const { source, backup, here, final, directory } = await prepared(name, `killed-${name}`)
      const facts = await ask(here, engine.probeTarget('t', { path: final }))
      const plan = methodOf(name).planRestore({ path: final }, targetAt(final), backup.manifest, facts)
      const bytes = bytesOf(backup)
      const half = new Readable({ read() {} })
      half.push(bytes.subarray(0, Math.floor(bytes.length / 2)))
      const killed = runSteps(engine, here, backup, plan.steps, {
        feed: () => half,
        onSpawn: (step, children) => {
          if (step.feeds) setTimeout(() => children[0]?.kill('SIGKILL'), 150)
        },
      })
      await assert.rejects(killed, code('tool.interrupted'))
      await runSteps(engine, here, backup, plan.steps)
      const named = plan.finish.findIndex(step => step.done)
      await runSteps(engine, here, backup, plan.finish.slice(0, named + 1))
      await runSteps(engine, here, backup, plan.finish)
      assert.equal(digestSqlite(final).digest, digestSqlite(source).digest)
      assert.deepEqual(readdirSync(directory), ['restored.db'])
    }
  })
  test('a full file system at the target', async () => {
    const { source, here, backup } = await prepared('physical', 'full')
    const disk = await dir.smallDisk('small-target', 256)
    const final = join(disk, 'restored.db')
    const facts = await ask(here, engine.probeTarget('t', { path: final }))
    const plan = methodOf('physical').planRestore({ path: source }, targetAt(final), backup.manifest, facts)
    await assert.rejects(runSteps(engine, here, backup, plan.steps), code('restore.target-full'))
    for (const command of plan.undo) await runCommand(here, command)
    assert.deepEqual(readdirSync(disk), [])
    const checks = await ask(
      here,
      methodOf('physical').targetChecks({ path: source }, targetAt(final), backup.manifest),
    )
    assert.equal(checks.find(check => check.id === 'target.space')?.code, 'restore.target-full')
  })
  test('a full staging directory', async () => {
    const source = openAt('for-staging.db', 'CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(600000))')
    const disk = await dir.smallDisk('small-staging', 256)
    const here = { staging: disk, secrets: {} }
    await assert.rejects(backUp(engine, methodOf('physical'), { path: source }, here), code('staging.full'))
  })
})

test('a source that is locked is busy, one that is damaged is damaged', async () => {
  const busy = openAt('locked.db', 'CREATE TABLE t (x)')
  const holder = new DatabaseSync(busy)
  holder.exec('BEGIN EXCLUSIVE')
  const probe = engine.probe('c', { path: busy })
  const facts30 = probe.commands.facts ?? assert.fail()
  const [stage] = facts30.stages
  const [program, ...words] = stage.argv
  const argv: [string, ...string[]] = [
    program,
    ...words.map(word => word.replace('timeout 30000', 'timeout 50')),
  ]
  const impatient = { ...probe.commands, facts: { ...facts30, stages: [{ ...stage, argv }] as const } }
  await assert.rejects(ask(place(), { ...probe, commands: impatient }), code('database.busy'))
  holder.close()

  const damaged = openAt(
    'damaged.db',
    'CREATE TABLE t (x); INSERT INTO t SELECT randomblob(3000) FROM (SELECT 1 UNION SELECT 2 UNION SELECT 3)',
  )
  const file = await open(damaged, 'r+')
  await file.write(Buffer.alloc(4096, 0xee), 0, 4096, 4096)
  await file.close()
  await assert.rejects(
    backUp(engine, methodOf('logical'), { path: damaged }, place()),
    code('backup.incomplete'),
  )
})

test('an application that crashed: its journal is left alone and said', async () => {
  const path = openAt(
    'crashed.db',
    'CREATE TABLE t (x); INSERT INTO t SELECT randomblob(2000) FROM (SELECT 1 UNION SELECT 2 UNION SELECT 3)',
  )
  const crash = `import { DatabaseSync } from 'node:sqlite'
    const d = new DatabaseSync(process.argv[1]); d.exec('PRAGMA cache_size = 1; BEGIN; UPDATE t SET x = randomblob(9000);')
    process.kill(process.pid, 'SIGKILL')`
  await new Promise(resolve =>
    spawn(process.execPath, ['--input-type=module', '-e', crash, path]).once('exit', resolve),
  )
  assert.ok(statSync(`${path}-journal`).size > 0, 'there is a hot journal')
  const before = readFileSync(`${path}-journal`)
  await assert.rejects(ask(place(), engine.probe('c', { path })), code('database.corrupted'))
  assert.deepEqual(readFileSync(`${path}-journal`), before)
})
