/** Physical backups of PostgreSQL 17, whose backup_manifest says whose it is, with the tools of its own. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { appendFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { readWhole } from '../../activities/reading.ts'
import { engineOf, readerOf } from '../../engines/index.ts'
import { openLocalHost } from '../../hosts/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { postgresRelinked, type RelinkedPostgres } from '../servers/postgres-relinked.ts'
import { digestPostgres } from '../support/digest.ts'
import { makePostgresSample } from '../support/postgres-sample.ts'
import { backUp, newToken, type PlainBackup, restore } from '../support/run.ts'
import { type Scratch, scratch } from '../support/temporary.ts'

const run = promisify(execFile)
const engine = engineOf('postgresql')
const physical = engine.methods.physical ?? assert.fail()
const path = process.env.PATH

describe('physical backups of PostgreSQL 17', () => {
  let tools: RelinkedPostgres
  let server: TestPostgres
  let dir: Scratch
  let ground = ''
  let places = 0
  const place = () => ({ staging: join(dir.path, `staging-${++places}`), secrets: {} })
  const settings = () => engine.parseUrl(server.url('shop')).settings

  before(async () => {
    tools = await postgresRelinked(17)
    process.env.PATH = `${tools.bin}:${path}`
    dir = await scratch()
    ground = await mkdtemp(join(tmpdir(), 'holdfast-physical-17-'))
    if (process.getuid?.() === 0) await run('chown', ['postgres:', ground])
    server = await startPostgres({ binaries: tools, config: 'wal_keep_size = 1GB\nfull_page_writes = on' })
    await server.sql('CREATE DATABASE shop')
    await makePostgresSample(server.url('shop'), { rows: 1000 })
  })
  after(async () => {
    process.env.PATH = path
    await server?.stop()
    await dir?.[Symbol.asyncDispose]()
    await tools?.remove()
    if (ground !== '') await rm(ground, { recursive: true, force: true })
  })

  const read = async (backup: PlainBackup, change = (bytes: Buffer) => bytes): Promise<string> => {
    const host = await openLocalHost({ name: 'local', stagingRoot: join(dir.path, `reading-${++places}`) })
    const names = backup.manifest.artifacts.map(({ name }) => name)
    const whole = async (name: string) => change(await readFile(backup.files[name] ?? ''))
    const words: string[] = []
    for (const { name, format } of backup.manifest.artifacts) {
      const bytes = await whole(name)
      const pieces = (async function* () {
        yield bytes
      })()
      const signal = new AbortController().signal
      const siblings = { name, names, whole }
      words.push(await readWhole(readerOf(format), pieces, { host, operation: 'op', signal, siblings }))
    }
    return words.join('\n')
  }

  for (const toolFormat of ['tar', 'staged-tar']) {
    test(`${toolFormat}: there and back, read to the last byte`, async () => {
      const backup = await backUp(engine, physical, settings(), place(), { toolFormat })
      assert.match(backup.manifest.server.version, /^17\./)
      assert.match(await read(backup), /every one as backup_manifest has it/)
      const target = {
        connection: 'target',
        database: join(ground, toolFormat),
        token: newToken(),
        jobs: 1,
        noOwner: false,
      }
      await restore(engine, physical, settings(), place(), backup, { target })
      const logFile = join(dir.path, `${toolFormat}.log`)
      const copy = await startPostgres({ binaries: tools, dataDir: target.database, logFile })
      try {
        assert.deepEqual(await digestPostgres(copy.url('shop')), await digestPostgres(server.url('shop')))
      } finally {
        await copy.stop()
      }
    })
  }

  describe('incremental', () => {
    const chain: PlainBackup[] = []
    const refused = (words: RegExp) => (error: unknown) => {
      assert.ok(error instanceof HoldfastError, String(error))
      assert.equal(error.code, 'backup.parent', error.message)
      assert.match(error.message, words)
      return true
    }
    const targetOf = (name: string) => ({
      connection: 'target',
      database: join(ground, name),
      token: newToken(),
      jobs: 1,
      noOwner: false,
    })
    const againstLast = () =>
      backUp(engine, physical, settings(), place(), { parent: chain.at(-1) ?? assert.fail() })
    const put = async (backup: PlainBackup, parents: PlainBackup[], name: string) =>
      await restore(engine, physical, settings(), place(), backup, { target: targetOf(name), parents })

    before(async () => {
      await server.sql('ALTER SYSTEM SET summarize_wal = on')
      await server.sql('SELECT pg_reload_conf()')
      await server.sql('CREATE TABLE grown AS SELECT generate_series(1, 1000) i', 'shop')
      chain.push(await backUp(engine, physical, settings(), place()))
      for (const round of [1, 2]) {
        await server.sql(
          `INSERT INTO grown SELECT generate_series(1, ${1000 * round}); CREATE TABLE round_${round} (i int)`,
          'shop',
        )
        chain.push(await againstLast())
      }
    })

    test('a full one and two against it: put together, proven, the same', async () => {
      const [full, first, second] = chain as [PlainBackup, PlainBackup, PlainBackup]
      assert.ok(full.manifest.artifacts.some(({ name }) => name === 'backup_manifest'))
      assert.equal(second.manifest.parent, first.manifest.backupId)
      const bytes = async (backup: PlainBackup) => (await stat(backup.files['base.tar'] ?? '')).size
      assert.ok((await bytes(second)) < (await bytes(full)) / 3)
      assert.match(await read(second), /every one as backup_manifest has it/)
      await put(second, [full, first], 'chain')
      assert.deepEqual(
        (await readdir(ground)).filter(name => name.startsWith('chain')),
        ['chain'],
      )
      const logFile = join(dir.path, 'chain.log')
      const copy = await startPostgres({ binaries: tools, dataDir: join(ground, 'chain'), logFile })
      try {
        assert.deepEqual(await digestPostgres(copy.url('shop')), await digestPostgres(server.url('shop')))
      } finally {
        await copy.stop()
      }
    })

    test('tablespaces, one of which came after the full one: in places of their own', async () => {
      const [warm, cold] = await Promise.all(
        ['warm', 'cold'].map(async name => {
          const home = join(ground, `home-of=${name}`)
          await run('mkdir', [home])
          if (process.getuid?.() === 0) await run('chown', ['postgres:', home])
          return home
        }),
      )
      try {
        await server.sql(`CREATE TABLESPACE warm LOCATION '${warm}'`)
        await server.sql('CREATE TABLE kept TABLESPACE warm AS SELECT generate_series(1, 50000) i', 'shop')
        const full = await backUp(engine, physical, settings(), place())
        await server.sql(`CREATE TABLESPACE cold LOCATION '${cold}'`)
        await server.sql(
          'UPDATE kept SET i = -i WHERE i < 10; CREATE TABLE late TABLESPACE cold AS SELECT 1 i',
          'shop',
        )
        const second = await backUp(engine, physical, settings(), place(), { parent: full })
        assert.equal(second.manifest.artifacts.length, 5)
        await put(second, [full], 'spread')
        assert.deepEqual(
          (await readdir(ground)).filter(name => name.startsWith('spread')).map(name => name.split('-')[0]),
          ['spread', 'spread.tablespaces'],
        )
        const logFile = join(dir.path, 'spread.log')
        const copy = await startPostgres({ binaries: tools, dataDir: join(ground, 'spread'), logFile })
        try {
          assert.deepEqual(await digestPostgres(copy.url('shop')), await digestPostgres(server.url('shop')))
          const places = await copy.sql(
            "SELECT DISTINCT split_part(pg_tablespace_location(oid), '-', 1) FROM pg_tablespace WHERE spcname IN ('warm', 'cold')",
          )
          assert.equal(places.split('\n').length, 1, places)
          await copy.sql('DELETE FROM kept', 'shop')
          assert.equal(await server.sql('SELECT count(*) FROM kept', 'shop'), '50000')
        } finally {
          await copy.stop()
        }
      } finally {
        await server.sql('DROP TABLE IF EXISTS kept, late', 'shop')
        await server.sql('DROP TABLESPACE IF EXISTS warm')
        await server.sql('DROP TABLESPACE IF EXISTS cold')
      }
    })

    test('a chain with a hole, in another order, or with another backup in it', async () => {
      const [full, first, second] = chain as [PlainBackup, PlainBackup, PlainBackup]
      await assert.rejects(put(second, [full], 'hole'), refused(/is another one/))
      await assert.rejects(put(second, [first], 'headless'), refused(/needs .*is not there/))
      await assert.rejects(put(second, [], 'alone'), refused(/is not there/))
      const other = { ...first, manifest: { ...first.manifest, attemptId: 'other' } }
      await assert.rejects(put(second, [full, other], 'other'), refused(/attempt other, is another one/))
      // Past the names: the tool reads whose child it is in the files themselves.
      const third = await againstLast()
      const forged = { ...third, manifest: { ...second.manifest, backupId: third.manifest.backupId } }
      await assert.rejects(put(forged, [full, first], 'forged'), refused(/cannot be put together/))
      assert.deepEqual(
        (await readdir(ground)).filter(name => /hole|headless|alone|other|forged/.test(name)),
        [],
      )
    })

    test('across a promotion; not against a timeline that is none of the server', async () => {
      const [full, first, second] = chain as [PlainBackup, PlainBackup, PlainBackup]
      await put(second, [full, first], 'promoted')
      const dataDir = join(ground, 'promoted')
      await writeFile(join(dataDir, 'standby.signal'), '')
      // As many as its proof was started with: no standby has less than its primary had.
      await appendFile(join(dataDir, 'postgresql.auto.conf'), "max_connections = '100'\n")
      const promoted = await startPostgres({
        ...{ binaries: tools, dataDir },
        logFile: join(dir.path, 'promoted.log'),
      })
      try {
        assert.equal(await promoted.sql('SELECT pg_promote()'), 't')
        await promoted.sql('INSERT INTO grown VALUES (-1)', 'shop')
        const there = engine.parseUrl(promoted.url('shop')).settings
        const later = await backUp(engine, physical, there, place(), { parent: second })
        assert.equal((later.manifest.facts.positions as { timeline: number }).timeline, 2)
        await put(later, [full, first, second], 'later')
        const copy = await startPostgres({
          ...{ binaries: tools, dataDir: join(ground, 'later') },
          logFile: join(dir.path, 'later.log'),
        })
        try {
          assert.deepEqual(await digestPostgres(copy.url('shop')), await digestPostgres(promoted.url('shop')))
        } finally {
          await copy.stop()
        }
        await assert.rejects(
          backUp(engine, physical, settings(), place(), { parent: later }),
          refused(/timeline 2/),
        )
      } finally {
        await promoted.stop()
      }
    })

    test('a parent that is none of this server, or whose backup_manifest is broken', async () => {
      const parent = chain.at(-1) ?? assert.fail()
      const [full] = chain
      const streamed = {
        ...parent,
        manifest: { ...parent.manifest, artifacts: parent.manifest.artifacts.slice(1) },
      }
      await assert.rejects(
        backUp(engine, physical, settings(), place(), { parent: streamed }),
        refused(/backup_manifest lies by itself/),
      )
      const facts = structuredClone(parent.manifest.facts) as { server: { systemIdentifier: string } }
      facts.server.systemIdentifier = '7'
      const foreign = { ...parent, manifest: { ...parent.manifest, facts: { ...facts } } }
      await assert.rejects(
        backUp(engine, physical, settings(), place(), { parent: foreign }),
        refused(/is of system 7/),
      )
      const broken = join(dir.path, 'broken')
      await writeFile(broken, (await readFile(parent.files.backup_manifest ?? '')).subarray(0, 5000))
      await assert.rejects(
        backUp(engine, physical, settings(), place(), {
          parent: { ...parent, files: { backup_manifest: broken } },
        }),
      )
      // The manifest of its grandparent in the place of its parent's.
      const swapped = { ...parent, files: { backup_manifest: full?.files.backup_manifest ?? '' } }
      await assert.rejects(
        backUp(engine, physical, settings(), place(), { parent: swapped }),
        refused(/against the one before/),
      )
    })
  })

  test('a backup_manifest of another server, sound in itself', async () => {
    const backup = await backUp(engine, physical, settings(), place(), { toolFormat: 'staged-tar' })
    const another = (bytes: Buffer): Buffer => {
      const text = bytes.toString('latin1')
      const end = text.lastIndexOf('\n"Manifest-Checksum"') + 1
      if (end === 0 || !text.startsWith('{ "PostgreSQL-Backup-Manifest-Version"')) return bytes
      const body = text.slice(0, end).replace(/("System-Identifier": )\d/, '$14')
      const sum = createHash('sha256').update(body, 'latin1').digest('hex')
      return Buffer.from(`${body}"Manifest-Checksum": "${sum}"}\n`, 'latin1')
    }
    await assert.rejects(
      read(backup, another),
      (error: unknown) =>
        error instanceof HoldfastError &&
        error.code === 'artifact.malformed' &&
        /It is of system \d+, and backup_manifest of 4/.test(error.message),
    )
  })
})
