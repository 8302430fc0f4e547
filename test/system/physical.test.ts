/**
 * Physical backups of PostgreSQL through the whole product: streamed and staged, verified to the last byte, restored into a new
 * data directory that starts; with the worker and the tool killed in between.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Manifest } from '../../model/manifest.ts'
import type { OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { holdfast } from '../cli/run.ts'
import { type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { digestPostgres } from '../support/digest.ts'
import { makePostgresSample } from '../support/postgres-sample.ts'
import { fillRandomPostgres } from './databases.ts'
import { expectCleanHost, expectNoBackup, expectOneBackup, processesWith } from './inspect.ts'
import { directory, eventually, type Process, type Stack, s3Input, startStack } from './stack.ts'

const run = promisify(execFile)
/** Small enough that a backup takes seconds, in which something can be killed. */
const slow = 'maxrate=8M'

describe('physical backups of PostgreSQL', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let destination: Destination
  let plain: TestPostgres
  let spread: TestPostgres
  let worker: Process
  let ground = ''
  let warm = ''
  let disk = ''

  const ownedDirectory = async (prefix: string): Promise<string> => {
    const path = await mkdtemp(join(tmpdir(), prefix))
    if (process.getuid?.() === 0) await run('chown', ['postgres:', path])
    return path
  }
  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    store = await startVersitygw()
    front = await startInterceptor(store.endpoint)
    destination = await openDestination(store.destinationRecord('physical'), store.secrets)
    ground = await ownedDirectory('holdfast-physical-')
    warm = await ownedDirectory('holdfast-warm-')
    const config = 'archive_mode = on\narchive_command = false\nwal_keep_size = 1GB'
    plain = await startPostgres({ auth: 'scram', password: 'canary p%w', config })
    spread = await startPostgres({ config })
    for (const server of [plain, spread]) {
      await server.sql('CREATE DATABASE shop')
      await makePostgresSample(server.url('shop'), { rows: 2000, oddities: true })
      await server.sql(
        `SELECT lo_from_bytea(4711, 'large'); CREATE UNLOGGED TABLE fleeting (i int);
         ALTER TABLE "odd schema; --".unlogged_one SET LOGGED;`,
        'shop',
      )
    }
    await fillRandomPostgres(plain.url('shop'), 10)
    await spread.sql(`CREATE TABLESPACE warm LOCATION '${warm}'`)
    await spread.sql('CREATE TABLE kept (i int) TABLESPACE warm; INSERT INTO kept VALUES (1), (2)', 'shop')
    await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'physical', front.url))
    disk = await directory(stack, 'disk')
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
    for (const [name, url] of [
      ['plain', plain.url('shop')],
      ['slow', `${plain.url('shop')}?${slow}`],
      ['spread', spread.url('shop')],
    ]) {
      await stack.expectOk('POST', '/v1/connections', { name, url, method: 'physical' })
    }
  })
  after(async () => {
    await stack?.stop()
    await plain?.stop()
    await spread?.stop()
    await front?.close()
    await destination?.close()
    await store?.stop()
    for (const path of [ground, warm]) if (path !== '') await rm(path, { recursive: true, force: true })
  })

  const succeeded = async (operation: { id: string }): Promise<OperationView> => {
    const view = await stack.ended(operation.id, 240)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    expectCleanHost(stack.home, view.id)
    return view
  }
  const verify = async (backup: string, level = 'deep') => {
    const path = `/v1/backups/${backup}/verify`
    return (await stack.expectOk<{ operation: OperationView }>('POST', path, { level })).operation
  }
  const restore = (backup: string, connection: string, name: string) =>
    stack.restore({ backup, target: { connection, database: join(ground, name) } })
  const startedCopy = async <T>(name: string, use: (copy: TestPostgres) => Promise<T>): Promise<T> => {
    const logFile = join(stack.directory, `${name}.log`)
    const copy = await startPostgres({ dataDir: join(ground, name), logFile })
    try {
      return await use(copy)
    } finally {
      await copy.stop()
    }
  }
  const manifestOf = async (connection: string, backup: string): Promise<Manifest> => {
    const bytes = await destination.read(`${connection}/backups/${backup}/manifest.json`)
    return JSON.parse(Buffer.from(bytes ?? []).toString()) as Manifest
  }

  test('streamed, verified, and restored with the server gone', async () => {
    const made = await succeeded(await stack.backup({ connection: 'plain', destinations: ['vault'] }))
    await expectOneBackup(destination, 'plain', made.backup)
    const manifest = await manifestOf('plain', made.backup)
    assert.deepEqual(
      manifest.artifacts.map(({ name }) => name),
      ['base.tar'],
    )
    assert.match(JSON.stringify(manifest.facts.positions), /"startLsn":"[0-9A-F]+\/[0-9A-F]+".*"timeline":1/)
    assert.doesNotMatch(JSON.stringify(manifest), /canary/)
    await succeeded(await verify(made.backup))
    const expected = await digestPostgres(plain.url('shop'))
    await plain.kill9()
    try {
      await succeeded(await restore(made.backup, 'plain', 'copy'))
    } finally {
      await plain.restart()
    }
    assert.deepEqual(await readdir(ground), ['copy'])
    // The copy asks for the password of the server it came from.
    assert.match(readFileSync(join(ground, 'copy/pg_hba.conf'), 'utf8'), /scram-sha-256/)
    assert.match(readFileSync(join(ground, 'copy/postgresql.auto.conf'), 'utf8'), /^archive_mode = 'off'$/m)
    await writeFile(join(ground, 'copy/pg_hba.conf'), 'host all all 127.0.0.1/32 trust\n')
    await startedCopy('copy', async copy => {
      assert.deepEqual(await digestPostgres(copy.url('shop')), expected)
      assert.equal(await copy.sql('SHOW archive_mode'), 'off')
    })
  })

  test('tablespaces: staged, several artifacts, in places of their own', async () => {
    const made = await succeeded(await stack.backup({ connection: 'spread', destinations: ['vault'] }))
    await expectOneBackup(destination, 'spread', made.backup)
    const names = (await manifestOf('spread', made.backup)).artifacts.map(({ name }) => name)
    assert.match(names.join(' '), /^backup_manifest base\.tar \d+\.tar pg_wal\.tar$/)
    await succeeded(await verify(made.backup))
    await succeeded(await restore(made.backup, 'spread', 'spread'))
    const expected = await digestPostgres(spread.url('shop'))
    await startedCopy('spread', async copy => {
      assert.deepEqual(await digestPostgres(copy.url('shop')), expected)
      await copy.sql('INSERT INTO kept VALUES (3)', 'shop')
      assert.equal(await spread.sql('SELECT count(*) FROM kept', 'shop'), '2')
    })
  })

  test('a directory that is not empty is refused, also with overwriteExisting', async () => {
    const [backup] = await stack.backups('plain')
    const taken = join(ground, 'taken')
    await run('mkdir', [taken])
    await writeFile(join(taken, 'mine'), 'mine')
    const refused = await stack.ended((await restore(backup?.id ?? '', 'plain', 'taken')).id)
    assert.equal(refused.error?.code, 'restore.target-exists', JSON.stringify(refused.error))
    assert.deepEqual(await readdir(taken), ['mine'])
    assert.deepEqual(
      (await readdir(ground)).filter(
        name => /\.(holdfast|tablespaces)-/.test(name) && name.startsWith('taken'),
      ),
      [],
    )
  })

  test('recovered with no Holdfast at all; then a damaged object of it is found', async () => {
    const made = await succeeded(
      await stack.backup({ connection: 'plain', destinations: ['disk'], encryptTo: [] }),
    )
    const from = ['recover', disk, '--key', join(stack.home, 'keys/default.json'), '--backup', made.backup]
    const wrong = await holdfast([...from, '--restore-to', plain.url('again')])
    assert.match(wrong.stderr, /^error request\.invalid: .*--directory/m)
    const recovered = await holdfast([...from, '--directory', join(ground, 'recovered')])
    assert.equal(recovered.code, 0, recovered.stderr)
    await writeFile(join(ground, 'recovered/pg_hba.conf'), 'host all all 127.0.0.1/32 trust\n')
    await startedCopy('recovered', async copy =>
      assert.deepEqual(await digestPostgres(copy.url('shop')), await digestPostgres(plain.url('shop'))),
    )
    const taken = await holdfast([...from, '--directory', join(ground, 'recovered')])
    assert.match(taken.stderr, /^error restore\.target-exists:/m)
    const folder = join(disk, 'plain', 'backups', made.backup)
    const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest
    const path = join(folder, manifest.artifacts[0]?.object ?? '')
    const bytes = await readFile(path)
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1
    await writeFile(path, bytes)
    const view = await stack.ended((await verify(made.backup)).id)
    assert.equal(view.error?.code, 'artifact.corrupted', JSON.stringify(view.error))
  })

  /** A process whose command line has both; asked without a pause, as some live for moments only. */
  const processOf = async (one: string, other: string): Promise<number> => {
    for (const until = Date.now() + 90_000; Date.now() < until; await sleep(2)) {
      const pids = processesWith(one)
        .filter(line => line.includes(other))
        .map(line => Number.parseInt(line, 10))
      // The one that streams WAL is a child of the tool.
      if (pids.length > 0) return Math.min(...pids)
    }
    throw new Error(`no process "${other}" with "${one}" within 90 s`)
  }
  /** The tool that reads the server of this connection. */
  const toolOf = (connection: string) => processOf(`holdfast ${connection} `, 'pg_basebackup -D')

  for (const format of ['tar', 'staged-tar']) {
    test(`${format}: the worker is killed while the tool runs, then the tool: one backup`, async () => {
      const operation = await stack.backup({ connection: 'slow', destinations: ['vault'], format })
      await toolOf('slow')
      await worker.kill9()
      worker = stack.startWorker()
      process.kill(await toolOf('slow'), 'SIGKILL')
      const made = await succeeded(operation)
      await expectOneBackup(destination, 'slow', made.backup)
      await succeeded(await verify(made.backup))
      assert.equal(await plain.sql('SELECT count(*) FROM pg_replication_slots'), '0')
    })
    test(`${format}: cancelled while the tool runs: no backup, no tool, no slot`, async () => {
      const operation = await stack.backup({ connection: 'slow', destinations: ['vault'], format })
      await toolOf('slow')
      await stack.expectOk('POST', `/v1/operations/${operation.id}/cancel`, {})
      const view = await stack.ended(operation.id)
      assert.equal(view.state, 'cancelled', JSON.stringify(view.error))
      await expectNoBackup(destination, 'slow', view.backup)
      expectCleanHost(stack.home, view.id)
      await eventually('its sender ends', async () =>
        (await plain.sql('SELECT count(*) FROM pg_stat_replication')) === '0' ? true : undefined,
      )
      assert.equal(await plain.sql('SELECT count(*) FROM pg_replication_slots'), '0')
    })
  }

  for (const program of ['tar -x', 'postgres -D']) {
    test(`the worker is killed in a restore while "${program}" runs: one copy, whole`, async () => {
      const [backup] = await stack.backups('slow')
      const name = `killed-${program.split(' ')[0]}`
      const operation = await restore(backup?.id ?? '', 'plain', name)
      const target = join(ground, name)
      await processOf(`${target}.holdfast-`, program)
      await worker.kill9()
      worker = stack.startWorker()
      await succeeded(operation)
      assert.deepEqual(processesWith(`${target}.holdfast-`), [])
      assert.ok(existsSync(join(target, 'global/pg_control')))
      assert.deepEqual(
        (await readdir(ground)).filter(entry => entry.startsWith(`${name}.`)),
        [],
      )
    })
  }
})
