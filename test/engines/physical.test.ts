/** Physical backups of a real server: round trips under a writer, damage named by its file, and tools that are killed. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { readWhole } from '../../activities/reading.ts'
import { engineOf, readerOf } from '../../engines/index.ts'
import { openLocalHost } from '../../hosts/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { digestPostgres } from '../support/digest.ts'
import { makePostgresSample } from '../support/postgres-sample.ts'
import { ask, backUp, newToken, type PlainBackup, restore, runCommand, runSteps } from '../support/run.ts'
import { type Scratch, scratch } from '../support/temporary.ts'

const run = promisify(execFile)
const engine = engineOf('postgresql')
const physical = engine.methods.physical ?? assert.fail()
const settingsOf = (url: string) => engine.parseUrl(url).settings

let dir: Scratch
let server: TestPostgres
/** A directory that belongs to whoever runs the servers. */
let ground = ''
before(async () => {
  dir = await scratch()
  ground = await mkdtemp(join(tmpdir(), 'holdfast-physical-'))
  if (process.getuid?.() === 0) await run('chown', ['postgres:', ground])
  server = await startPostgres({
    config: 'archive_mode = on\narchive_command = false\nwal_keep_size = 1GB\nfull_page_writes = on',
  })
  await server.sql('CREATE DATABASE shop')
  await makePostgresSample(server.url('shop'), { rows: 3000, oddities: true })
  await server.sql(
    `CREATE UNLOGGED TABLE fleeting AS SELECT generate_series(1, 100) i;
     ALTER TABLE "odd schema; --".unlogged_one SET LOGGED;
     SELECT lo_from_bytea(4711, 'large');
     CREATE TABLE commits (id int PRIMARY KEY, padding text);`,
    'shop',
  )
})
after(async () => {
  await server?.stop()
  await dir?.[Symbol.asyncDispose]()
  if (ground !== '') await rm(ground, { recursive: true, force: true })
})

let places = 0
const place = () => ({ staging: join(dir.path, `staging-${++places}`), secrets: {} })
const targetOf = (name: string) => ({
  connection: 'target',
  database: join(ground, name),
  token: newToken(),
  jobs: 1,
  noOwner: false,
})
const take = async (toolFormat: string, here = place()): Promise<PlainBackup> =>
  await backUp(engine, physical, settingsOf(server.url('shop')), here, { toolFormat })

/** Writes one row after another until it is stopped; answers how many it was told are committed. */
function writer() {
  let stopped = false
  let count = 0
  const done = (async () => {
    const first = Number(await server.sql('SELECT count(*) FROM commits', 'shop'))
    for (; !stopped; count += 1) {
      await server.sql(`INSERT INTO commits VALUES (${first + count + 1}, repeat('x', 500))`, 'shop')
    }
    return first + count
  })()
  return {
    count: () => count,
    stop: async () => {
      stopped = true
      return await done
    },
  }
}

const startedCopy = async <T>(directory: string, use: (copy: TestPostgres) => Promise<T>): Promise<T> => {
  const copy = await startPostgres({ dataDir: directory, logFile: join(dir.path, `copy-${++places}.log`) })
  try {
    return await use(copy)
  } finally {
    await copy.stop()
  }
}
const leftBeside = async () => (await readdir(ground)).filter(name => name.includes('.holdfast-'))

describe('there and back', () => {
  for (const toolFormat of ['tar', 'staged-tar']) {
    test(`${toolFormat}, while somebody writes`, async () => {
      const before = Number(await server.sql('SELECT count(*) FROM commits', 'shop'))
      const writes = writer()
      while (writes.count() < 5) await new Promise(resolve => setTimeout(resolve, 5))
      const backup = await take(toolFormat)
      const committed = await writes.stop()
      const target = targetOf(`copy-${toolFormat}`)
      await restore(engine, physical, settingsOf(server.url('shop')), place(), backup, { target })
      assert.deepEqual(await leftBeside(), [])
      assert.equal((await stat(target.database)).mode & 0o777, 0o700)
      assert.deepEqual(
        (await readdir(target.database)).filter(name => /signal$|^tablespace_map$|^holdfast/.test(name)),
        [],
      )
      await startedCopy(target.database, async copy => {
        // What was committed before it began is there, as a prefix without holes.
        const [count, most] = (await copy.sql('SELECT count(*), max(id) FROM commits', 'shop'))
          .split('|')
          .map(Number)
        assert.equal(count, most)
        assert.ok((count ?? 0) >= before + 5 && (count ?? 0) <= committed, `${before} ${count} ${committed}`)
        await copy.sql(`DELETE FROM commits WHERE id > ${before}`, 'shop')
        await server.sql(`DELETE FROM commits WHERE id > ${before}`, 'shop')
        // Unlogged tables come back empty; everything else as it was.
        assert.equal(await copy.sql('SELECT count(*) FROM fleeting', 'shop'), '0')
        await copy.sql('INSERT INTO fleeting SELECT generate_series(1, 100)', 'shop')
        assert.deepEqual(await digestPostgres(copy.url('shop')), await digestPostgres(server.url('shop')))
        assert.equal(await copy.sql("SELECT convert_from(lo_get(4711), 'UTF8')", 'shop'), 'large')
        assert.equal(await copy.sql('SHOW archive_mode'), 'off')
        assert.equal(await server.sql('SHOW archive_mode'), 'on')
      })
    })
  }

  test('tablespaces: in places of their own, those of the server untouched', async () => {
    const home = await mkdtemp(join(tmpdir(), 'holdfast-warm-'))
    if (process.getuid?.() === 0) await run('chown', ['postgres:', home])
    try {
      await server.sql(`CREATE TABLESPACE warm LOCATION '${home}'`)
      await server.sql('CREATE TABLE kept (i int) TABLESPACE warm; INSERT INTO kept VALUES (1), (2)', 'shop')
      const backup = await take('tar')
      const names = backup.manifest.artifacts.map(({ name }) => name)
      assert.equal(names.length, 4)
      const target = targetOf('copy-tablespaces')
      await restore(engine, physical, settingsOf(server.url('shop')), place(), backup, { target })
      await startedCopy(target.database, async copy => {
        const location = await copy.sql(
          "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'warm'",
        )
        assert.ok(location.startsWith(`${target.database}.tablespaces-`), location)
        await copy.sql('INSERT INTO kept VALUES (3)', 'shop')
        assert.equal(await copy.sql('SELECT count(*) FROM kept', 'shop'), '3')
        assert.equal(await server.sql('SELECT count(*) FROM kept', 'shop'), '2')
      })
      await readEach(backup)
      await assert.rejects(
        readEach(backup, { drop: names.find(name => /^\d+\.tar$/.test(name)) ?? '' }),
        said(/missing.*pg_tblspc/s),
      )
    } finally {
      await server.sql('DROP TABLE IF EXISTS kept', 'shop')
      await server.sql('DROP TABLESPACE IF EXISTS warm')
      await rm(home, { recursive: true, force: true })
    }
  })

  test('of a standby: the copy is a server of its own', async () => {
    const home = join(ground, 'standby')
    const from = ['-h', '127.0.0.1', '-p', String(server.port), '-U', 'postgres']
    await run('pg_basebackup', ['-D', home, '-R', '-X', 'stream', '-c', 'fast', ...from])
    if (process.getuid?.() === 0) await run('chown', ['-R', 'postgres:', home])
    await startedCopy(home, async standby => {
      const settings = settingsOf(standby.url('shop'))
      const facts = await ask(place(), engine.probe('c', settings, 'physical'))
      const request = { connection: 'c', type: 'full' as const, toolFormat: 'tar', jobs: 1 }
      const answer = physical.checks(settings, request, facts).find(({ id }) => id === 'postgresql.standby')
      assert.equal(answer?.answer, 'pass', JSON.stringify(answer))
      const backup = await backUp(engine, physical, settings, place())
      const target = targetOf('copy-standby')
      await restore(engine, physical, settings, place(), backup, { target })
      await startedCopy(target.database, async copy => {
        assert.equal(await copy.sql('SELECT pg_is_in_recovery()'), 'f')
        // Nothing can be read of it on a standby.
        await copy.sql('INSERT INTO fleeting SELECT generate_series(1, 100)', 'shop')
        assert.deepEqual(await digestPostgres(copy.url('shop')), await digestPostgres(server.url('shop')))
      })
    })
    await rm(home, { recursive: true, force: true })
  })

  test('refused where something is, and then nothing is touched', async () => {
    const backup = await take('tar')
    const target = targetOf('taken')
    const { stdout } = await run('sh', [
      '-c',
      'mkdir "$1" && date > "$1/mine" && cat "$1/mine"',
      'sh',
      target.database,
    ])
    await assert.rejects(
      restore(engine, physical, settingsOf(server.url('shop')), place(), backup, { target }),
      (error: unknown) => error instanceof HoldfastError && error.code === 'restore.target-exists',
    )
    assert.equal(await readFile(join(target.database, 'mine'), 'utf8'), stdout)
    assert.deepEqual(await leftBeside(), [])
  })

  for (const id of ['base', 'verify']) {
    test(`killed in "${id}": nothing is left, and the next one works`, async () => {
      const backup = await take('tar')
      const target = targetOf(`killed-${id}`)
      const again = { target: { ...target, token: `${target.token}2` } }
      await assert.rejects(
        restore(engine, physical, settingsOf(server.url('shop')), place(), backup, {
          target,
          onSpawn: (step, children) => {
            if (step.id === id) for (const child of children) child.kill('SIGKILL')
          },
        }),
      )
      assert.deepEqual(await leftBeside(), [])
      assert.ok(!existsSync(target.database))
      await restore(engine, physical, settingsOf(server.url('shop')), place(), backup, again)
      assert.ok(existsSync(join(target.database, 'global/pg_control')))
    })
  }

  test('a copy that was told to stop while it replayed proves itself at the next try', async () => {
    const writes = writer()
    const backup = await take('tar')
    await writes.stop()
    const target = targetOf('stopped')
    const settings = settingsOf(server.url('shop'))
    const targetFacts = await ask(place(), engine.probeTarget('target', settings, 'physical'))
    const here = place()
    const plan = physical.planRestore(settings, target, backup.manifest, targetFacts)
    await runSteps(engine, here, backup, plan.steps)
    const unproven = `${target.database}.holdfast-${target.token}`
    const proofs = physical.proofs(settings, target, backup.manifest, 'temporary', targetFacts)
    const stopped = runCommand(here, proofs.commands.prove ?? assert.fail(), {
      onSpawn: () =>
        void (async () => {
          // As soon as there is a server: it replays, or is about to.
          for (;;) {
            const pid = Number.parseInt(
              await readFile(`${unproven}/postmaster.pid`, 'utf8').catch(() => ''),
              10,
            )
            if (pid > 0) return process.kill(pid, 'SIGTERM')
            await new Promise(resolve => setTimeout(resolve, 1))
          }
        })(),
    })
    assert.notEqual((await stopped).exits[0], 0)
    const checks = await ask(here, proofs)
    assert.deepEqual(
      checks.filter(({ answer }) => answer === 'fail'),
      [],
    )
  })

  test('the prechecks of a real server', async () => {
    const settings = settingsOf(server.url('shop'))
    const facts = await ask(place(), engine.probe('c', settings, 'physical'))
    const request = { connection: 'c', type: 'full' as const, toolFormat: 'tar', jobs: 1 }
    const answers = physical.checks(settings, request, facts).map(({ id, answer }) => `${id} ${answer}`)
    assert.ok(answers.includes('postgresql.replication pass'), answers.join())
    assert.ok(answers.includes('postgresql.page-checksums warn'), answers.join())
    assert.ok(facts.sizeBytes > 1e7)
    await server.sql('CREATE ROLE reader LOGIN')
    const asReader = settingsOf(server.url('shop').replace('postgres@', 'reader@'))
    const seen = await ask(place(), engine.probe('c', asReader, 'physical'))
    const [refused] = physical.checks(asReader, request, seen).filter(check => check.answer === 'fail')
    assert.equal(refused?.id, 'postgresql.replication')
  })
})

/** Reads every artifact with its reader, the others beside. */
async function readEach(
  backup: PlainBackup,
  change: { drop?: string; bytes?: { name: string; of(bytes: Buffer): Buffer } } = {},
): Promise<string[]> {
  const host = await openLocalHost({ name: 'local', stagingRoot: join(dir.path, `reading-${++places}`) })
  const names = backup.manifest.artifacts.map(({ name }) => name).filter(name => name !== change.drop)
  const bytesOf = async (name: string) => {
    const bytes = await readFile(backup.files[name] ?? '')
    return change.bytes?.name === name ? change.bytes.of(bytes) : bytes
  }
  const words: string[] = []
  for (const { name, format } of backup.manifest.artifacts) {
    if (name === change.drop) continue
    const bytes = await bytesOf(name)
    const pieces = (async function* () {
      for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7) % 262_139 || 1) {
        yield bytes.subarray(at, at + size)
      }
    })()
    words.push(
      await readWhole(readerOf(format), pieces, {
        host,
        operation: 'op',
        signal: new AbortController().signal,
        siblings: { name, names, whole: bytesOf },
      }),
    )
  }
  return words
}
const said = (words: RegExp, code?: string) => (error: unknown) => {
  assert.ok(error instanceof HoldfastError, String(error))
  assert.match(`${error.message} ${JSON.stringify(error.context)}`, words)
  if (code !== undefined) assert.equal(error.code, code)
  return true
}

describe('deep verification', () => {
  /** Where a member's content begins. */
  const placeOf = (bytes: Buffer, member: string): { header: number; at: number; size: number } => {
    for (let at = 0; at < bytes.length - 1024; ) {
      const name = bytes.toString('utf8', at, at + 100).replace(/\0.*$/s, '')
      const size = Number.parseInt(bytes.toString('latin1', at + 124, at + 136), 8) || 0
      if (name === member) return { header: at, at: at + 512, size }
      at += 512 + Math.ceil(size / 512) * 512
    }
    throw new Error(`no ${member}`)
  }
  const flipped =
    (member: string, offset = 100) =>
    (bytes: Buffer) => {
      const copy = Buffer.from(bytes)
      const at = placeOf(bytes, member).at + offset
      copy[at] = (copy[at] ?? 0) ^ 1
      return copy
    }
  const without = (member: string) => (bytes: Buffer) => {
    const { at, header, size } = placeOf(bytes, member)
    return Buffer.concat([bytes.subarray(0, header), bytes.subarray(at + Math.ceil(size / 512) * 512)])
  }
  for (const toolFormat of ['tar', 'staged-tar']) {
    describe(toolFormat, () => {
      let backup: PlainBackup
      let segment = ''
      const wal = toolFormat === 'tar' ? 'base.tar' : 'pg_wal.tar'
      before(async () => {
        backup = await take(toolFormat)
        const listed = (await run('tar', ['-tf', backup.files[wal] ?? ''])).stdout.split('\n')
        segment = listed.find(name => /[0-9A-F]{24}$/.test(name)) ?? assert.fail(listed.join())
      })
      test('whole', async () => {
        const words = (await readEach(backup)).join('\n')
        assert.match(words, /tar [\d,]+ files, \d+ bytes; every one as backup_manifest has it/)
        assert.match(words, /WAL [0-9A-F]+\/[0-9A-F]+-[0-9A-F]+\/[0-9A-F]+ of timeline 1/)
      })
      for (const member of ['global/pg_control', 'PG_VERSION']) {
        test(`a flipped bit in ${member}`, async () => {
          const bytes = { name: 'base.tar', of: flipped(member, 0) }
          await assert.rejects(
            readEach(backup, { bytes }),
            said(new RegExp(`checksum.*${member}`), 'artifact.malformed'),
          )
        })
        test(`${member} is missing`, async () => {
          const bytes = { name: 'base.tar', of: without(member) }
          await assert.rejects(
            readEach(backup, { bytes }),
            said(new RegExp(`missing.*${member}`), 'artifact.truncated'),
          )
        })
      }
      test('a WAL segment is missing, or another one', async () => {
        await assert.rejects(
          readEach(backup, { bytes: { name: wal, of: without(segment) } }),
          said(/WAL/, 'artifact.truncated'),
        )
        await assert.rejects(
          readEach(backup, { bytes: { name: wal, of: flipped(segment, 11) } }),
          said(/begins at/, 'artifact.malformed'),
        )
      })
      test('without backup_manifest it is no backup', async () => {
        const change =
          toolFormat === 'tar'
            ? { bytes: { name: 'base.tar', of: without('backup_manifest') } }
            : { drop: 'backup_manifest' }
        await assert.rejects(readEach(backup, change), said(/no backup_manifest/, 'artifact.truncated'))
      })
      test('the tar is cut', async () => {
        const of = (bytes: Buffer) => bytes.subarray(0, bytes.length >> 1)
        await assert.rejects(
          readEach(backup, { bytes: { name: 'base.tar', of } }),
          said(/./, 'artifact.truncated'),
        )
      })
    })
  }
  test('backup_manifest was touched', async () => {
    const backup = await take('staged-tar')
    const of = (bytes: Buffer) => Buffer.from(bytes.toString().replace(/"Size": (\d)/, '"Size": 1$1'))
    await assert.rejects(
      readEach(backup, { bytes: { name: 'backup_manifest', of } }),
      said(/checksum that it says/),
    )
  })
})
