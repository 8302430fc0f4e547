/**
 * The worst day: Holdfast is gone, there is a destination and the key file. `holdfast recover` lists, gives the tool's
 * bytes back and restores, with no server of ours running; and refuses what it cannot prove.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdir, open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { EscrowAnswer } from '../../cli/recover/escrow.ts'
import { createKey, loadKeyFile } from '../../storage/keys.ts'
import { holdfast } from '../cli/run.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { createDatabase, makePostgresSample } from '../support/postgres-sample.ts'
import { makeShop, sqliteOddities } from '../support/shop.ts'
import { type Scratch, scratch } from '../support/temporary.ts'
import { s3Input, startStack } from './stack.ts'

const run = promisify(execFile)
const formats = ['copy', 'dump', 'custom', 'directory'] as const
type Format = (typeof formats)[number]
const isSqlite = (format: Format) => format === 'copy' || format === 'dump'
const connectionOf = (format: Format) => (isSqlite(format) ? `sqlite-${format}` : 'pg')
const password = 'only for this test'
const source = `ödd "source" --`

describe('recover', () => {
  let here: Scratch
  let store: Versitygw
  let postgres: TestPostgres
  let shop: string
  let disk: string
  let keyFile: string
  let fingerprint: string
  /** Backup ids by format, the same in both destinations' lists. */
  const made: Record<'disk' | 'vault', Partial<Record<Format, string>>> = { disk: {}, vault: {} }
  const plain: Partial<Record<Format, string>> = {}

  before(async () => {
    here = await scratch()
    store = await startVersitygw()
    postgres = await startPostgres({ auth: 'scram', password })
    shop = join(here.path, 'shop.db')
    makeShop(shop, { rows: 2000 })
    const { DatabaseSync } = await import('node:sqlite')
    const database = new DatabaseSync(shop)
    database.exec(sqliteOddities)
    database.close()
    await createDatabase(postgres.url(), source)
    await makePostgresSample(postgres.url(source), { rows: 2000, oddities: true })
    disk = join(here.path, 'disk')
    await mkdir(disk)
    await mkdir(join(here.path, 'targets'))
    keyFile = join(here.path, 'kept-key.json')

    // Holdfast makes the backups and is gone, with its home.
    const stack = await startStack()
    try {
      await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
      await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'recover'))
      await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url(source) })
      for (const format of ['copy', 'dump'] as const) {
        await stack.expectOk('POST', '/v1/connections', {
          name: connectionOf(format),
          url: `sqlite:${shop}`,
          method: format === 'copy' ? 'physical' : 'logical',
        })
      }
      const backup = async (format: Format, destination: string, more: object = {}) => {
        const connection = connectionOf(format)
        const asked = await stack.backup({ connection, destinations: [destination], format, ...more })
        const ended = await stack.ended(asked.id)
        assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
        return ended.backup
      }
      for (const format of formats) {
        for (const destination of ['disk', 'vault'] as const) {
          made[destination][format] = await backup(format, destination)
        }
        plain[format] = await backup(format, 'disk', { encryptTo: [] })
      }
      ;({ fingerprint } = await stack.expectOk<{ fingerprint: string }>('GET', '/v1/status'))
      await cp(join(stack.home, 'keys', 'default.json'), keyFile)
    } finally {
      await stack.stop()
    }
  })

  after(async () => {
    await postgres?.stop()
    await store?.stop()
    await here?.[Symbol.asyncDispose]()
  })

  const place = (destination: 'disk' | 'vault'): string[] =>
    destination === 'disk'
      ? [disk]
      : [`s3://${store.bucket}/recover`, '--endpoint', store.endpoint, '--region', store.region]
  const recover = (args: string[]) =>
    holdfast(['recover', ...args], {
      cwd: here.path,
      env: {
        AWS_ACCESS_KEY_ID: store.accessKeyId,
        AWS_SECRET_ACCESS_KEY: store.secretAccessKey,
        HOLDFAST_HOME: join(here.path, 'no-home'),
        HOLDFAST_TEMP_DIR: join(here.path, 'scratch'),
        DATABASE_PASSWORD: password,
      },
    })
  const recovered = async (args: string[]) => {
    const ended = await recover(args)
    assert.equal(ended.code, 0, ended.stderr)
    return ended.stdout
  }
  /** Where a restore goes: a database that is not there. */
  const targetOf = (format: Format, name: string): string[] =>
    isSqlite(format)
      ? ['--restore-to', join(here.path, 'targets', `${name}.db`)]
      : [
          '--restore-to',
          `postgres://postgres@127.0.0.1:${postgres.port}/${encodeURIComponent(name)}`,
          '--secret-env',
          'DATABASE_PASSWORD',
        ]
  const digestOf = async (format: Format, name: string) =>
    isSqlite(format)
      ? digestSqlite(join(here.path, 'targets', `${name}.db`))
      : await digestPostgres(postgres.url(name))
  const sourceDigest = async (format: Format) =>
    isSqlite(format) ? digestSqlite(shop) : await digestPostgres(postgres.url(source))
  /** Everything a failed attempt could leave: files, databases. */
  const traces = async () => ({
    files: (await readdir(join(here.path, 'targets'))).sort(),
    scratch: await readdir(join(here.path, 'scratch')).catch(() => []),
    databases: await postgres.sql('SELECT datname FROM pg_database ORDER BY 1'),
  })

  for (const destination of ['disk', 'vault'] as const) {
    test(`${destination}: lists what is there and who can be trusted`, async () => {
      const listed = JSON.parse(
        await recovered(['--json', ...place(destination), '--key', keyFile, '--list']),
      ) as { backup: string; connection: string; state: string; trusted: boolean }[]
      const expected = [
        ...Object.values(made[destination]),
        ...(destination === 'disk' ? Object.values(plain) : []),
      ]
      assert.deepEqual(listed.map(one => one.backup).sort(), expected.sort())
      for (const one of listed) assert.deepEqual([one.state, one.trusted], ['committed', true])
      const shown = await recovered([...place(destination), '--key', keyFile, '--list'])
      for (const id of expected) assert.ok(shown.includes(id), shown)
    })

    for (const format of formats) {
      test(`${destination}, ${format}: the tool's bytes, and a new database`, async () => {
        const backup = ['--backup', made[destination][format] ?? '']
        const name = `-back "${destination}" ${format} é`
        const from = [...place(destination), '--key', keyFile]

        const out = join(here.path, 'targets', `${destination}.${format}`)
        await recovered([...from, ...backup, '--out', out])
        assert.equal((await stat(out)).mode & 0o777, 0o600)
        await expectToolBytes(format, out)
        const again = await recover([...from, ...backup, '--out', out])
        assert.match(again.stderr, /^error restore\.target-exists:/)

        const target = targetOf(format, name)
        await recovered([...from, ...backup, ...target])
        assert.deepEqual(await digestOf(format, name), await sourceDigest(format))
        const before = await traces()
        const taken = await recover([...from, ...backup, ...target])
        assert.equal(taken.code, 3, taken.stderr)
        assert.match(taken.stderr, /error restore\.target-exists:/)
        assert.deepEqual(await traces(), before)
      })
    }
  }

  /** What the database's own tools make of it. */
  async function expectToolBytes(format: Format, path: string): Promise<void> {
    if (format === 'copy') {
      assert.deepEqual(digestSqlite(path), digestSqlite(shop))
      return
    }
    if (format === 'dump') {
      const replayed = `${path}.db`
      await run('sqlite3', ['-bail', replayed, `.read '${path}'`])
      assert.deepEqual(digestSqlite(replayed), digestSqlite(shop))
      return
    }
    let dump = path
    if (format === 'directory') {
      dump = `${path}.unpacked`
      await mkdir(dump)
      await run('tar', ['-x', '-f', path, '-C', dump])
    }
    const { stdout } = await run('pg_restore', ['--list', dump])
    for (const table of ['customers', 'order_items']) {
      assert.match(stdout, new RegExp(`TABLE DATA public ${table} `))
    }
  }

  test('the URI of one backup, CONNECTION:latest, and standard output', async () => {
    const uri = join(disk, connectionOf('copy'), 'backups', plain.copy ?? '')
    const out = join(here.path, 'targets', 'named.db')
    await recovered([uri, '--key', keyFile, '--out', out])
    assert.deepEqual(digestSqlite(out), digestSqlite(shop))
    const latest = [disk, '--key', keyFile, '--backup', 'sqlite-dump:latest', '--out']
    const file = join(here.path, 'targets', 'latest.sql')
    await recovered([...latest, file])
    const sql = await recovered([...latest, '-'])
    assert.ok(sql.startsWith('-- Holdfast SQLite dump 1\n'))
    assert.ok(sql === (await readFile(file, 'utf8')), 'standard output is the same as the file')
  })

  test('a fingerprint instead of a key file opens what is not encrypted', async () => {
    const out = join(here.path, 'targets', 'fingerprint.db')
    await recovered([disk, '--fingerprint', fingerprint, '--backup', plain.copy ?? '', '--out', out])
    assert.deepEqual(digestSqlite(out), digestSqlite(shop))
    for (const [args, code] of [
      [['--fingerprint', fingerprint, '--backup', made.disk.copy ?? ''], 'key.missing'],
      [['--fingerprint', `${fingerprint.slice(1)}A`, '--backup', plain.copy ?? ''], 'manifest.forged'],
      [['--backup', plain.copy ?? ''], 'manifest.forged'],
    ] as const) {
      await refused([disk, ...args, '--out', join(here.path, 'targets', 'nothing.db')], code)
    }
  })

  test('a copy of the key file is tried on what lies there, before it is needed', async () => {
    const check = (args: string[]) =>
      holdfast(['--json', 'keys', 'escrow-check', ...args], { cwd: here.path })
    const answered = async (args: string[]) => {
      const ended = await check(args)
      return { code: ended.code, stderr: ended.stderr, answers: JSON.parse(ended.stdout) as EscrowAnswer[] }
    }
    const copy = await mkdtempIn('safe')
    await cp(keyFile, join(copy, 'default.json'))
    const good = await answered([disk, '--key', join(copy, 'default.json'), '--all'])
    assert.equal(good.code, 0, good.stderr)
    assert.deepEqual(
      good.answers.map(one => one.backup).sort(),
      [...Object.values(made.disk), ...Object.values(plain)].sort(),
    )
    assert.ok(good.answers.every(one => one.opens))
    const newest = await answered([disk, '--key', join(copy, 'default.json')])
    assert.equal(newest.answers.length, new Set(formats.map(connectionOf)).size)

    // Trusts us, and is another key: it opens what is not encrypted, and nothing else.
    await createKey(copy, 'other', (await loadKeyFile(keyFile)).installations)
    const other = await answered([disk, '--key', join(copy, 'other.json'), '--all'])
    assert.equal(other.code, 1)
    assert.match(other.stderr, /key\.missing/)
    for (const one of other.answers)
      assert.deepEqual([one.opens, one.code], one.encrypted ? [false, 'key.missing'] : [true, null])
    await createKey(copy, 'stranger', {})
    const stranger = await answered([disk, '--key', join(copy, 'stranger.json'), '--all'])
    assert.ok(stranger.answers.every(one => one.code === 'manifest.forged'))

    // What is damaged shows at its beginning, too.
    const damaged = await copyOfDisk()
    const folder = join(damaged, connectionOf('copy'), 'backups', made.disk.copy ?? '')
    const { artifacts } = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as {
      artifacts: { object: string }[]
    }
    const object = await open(join(folder, artifacts[0]?.object ?? ''), 'r+')
    await object.write(Buffer.from('xxxx'), 0, 4, 100)
    await object.close()
    const bad = await answered([damaged, '--key', join(copy, 'default.json'), '--all'])
    assert.equal(bad.answers.find(one => one.backup === made.disk.copy)?.code, 'artifact.corrupted')
    assert.equal((await check([await mkdtempIn('empty'), '--key', keyFile])).code, 1)
  })

  /** Refused with this code, and nothing came of it. */
  async function refused(args: readonly string[], code: string): Promise<void> {
    const before = await traces()
    const ended = await recover([...args])
    assert.notEqual(ended.code, 0)
    assert.match(ended.stderr, new RegExp(`(^|\\n)error ${code.replace('.', '\\.')}: `), ended.stderr)
    assert.equal(ended.stdout, '')
    assert.deepEqual(await traces(), before)
  }

  for (const format of formats) {
    const intoNothing = (): string[][] => [
      ['--out', join(here.path, 'targets', 'nothing')],
      targetOf(format, `nothing ${format}`),
    ]

    test(`${format}: a wrong key file is refused`, async () => {
      const wrong = await mkdtempIn('wrong')
      // Made elsewhere: trusts nobody we know. And one that trusts us, and is not the key.
      await createKey(wrong, 'stranger', {})
      await createKey(wrong, 'other', (await loadKeyFile(keyFile)).installations)
      for (const [key, code] of [
        ['stranger', 'manifest.forged'],
        ['other', 'key.missing'],
      ] as const) {
        for (const target of intoNothing()) {
          const from = [disk, '--key', join(wrong, `${key}.json`), '--backup', made.disk[format] ?? '']
          await refused([...from, ...target], code)
        }
      }
    })

    test(`${format}: a manifest that was changed is refused`, async () => {
      const copy = await copyOfDisk()
      const manifest = join(copy, connectionOf(format), 'backups', made.disk[format] ?? '', 'manifest.json')
      const text = await readFile(manifest, 'utf8')
      const forged = text.replace(
        /"toolBytes":(\d)/,
        (_, digit: string) => `"toolBytes":${(Number(digit) % 9) + 1}`,
      )
      assert.notEqual(forged, text)
      await writeFile(manifest, forged)
      for (const target of intoNothing()) {
        await refused(
          [copy, '--key', keyFile, '--backup', made.disk[format] ?? '', ...target],
          'manifest.forged',
        )
      }
    })

    for (const kind of ['encrypted', 'plain'] as const) {
      test(`${format}, ${kind}: an artifact that was cut is refused`, async () => {
        const copy = await copyOfDisk()
        const id = (kind === 'encrypted' ? made.disk : plain)[format] ?? ''
        const folder = join(copy, connectionOf(format), 'backups', id)
        const { artifacts } = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as {
          artifacts: { object: string; storedBytes: number }[]
        }
        const [artifact] = artifacts
        assert.ok(artifact)
        for (const bytes of [artifact.storedBytes - 1, Math.floor(artifact.storedBytes / 2)]) {
          await truncate(join(folder, artifact.object), bytes)
          for (const target of intoNothing()) {
            await refused([copy, '--key', keyFile, '--backup', id, ...target], 'artifact.truncated')
          }
        }
      })
    }
  }

  let count = 0
  async function mkdtempIn(name: string): Promise<string> {
    count += 1
    const path = join(here.path, `${name}-${count}`)
    await mkdir(path)
    return path
  }
  async function copyOfDisk(): Promise<string> {
    const path = await mkdtempIn('copy')
    await cp(disk, path, { recursive: true })
    return path
  }
})
