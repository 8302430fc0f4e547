/** Physical backups of PostgreSQL 17, whose backup_manifest says whose it is, with the tools of its own. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
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
import { backUp, type PlainBackup, restore } from '../support/run.ts'
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
        token: `tok${++places}abcdef`,
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
