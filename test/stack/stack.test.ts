/** docker-compose.yml, run: its commands, settings, secrets, users, volumes and health checks, on real servers. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { OperationView } from '../../model/views.ts'
import { eventually } from '../cli/run.ts'
import { type ComposeModel, composeModel } from '../servers/compose-model.ts'
import { type Containers, openContainers } from './containers.ts'
import { standInImages } from './images.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
/** Temporal's page is not in the Go module proxy's server; everything else runs. */
const services = ['postgres', 'temporal', 'temporal-namespace', 'store', 'api', 'worker']

describe('the stack of docker-compose.yml', () => {
  let directory: string
  let model: ComposeModel
  let stack: Containers
  let secrets: Record<string, string>
  let removeImages: () => Promise<void> = async () => {}

  const holdfast = async (...args: string[]): Promise<string> =>
    (await stack.get('api').exec(['holdfast', ...args])).stdout
  const json = async <T>(...args: string[]): Promise<T> => JSON.parse(await holdfast(...args, '--json')) as T
  const operation = (id: string) => json<OperationView>('operation', 'show', id)
  const succeeded = (id: string) =>
    eventually(
      `operation ${id} ends`,
      async () => {
        const view = await operation(id)
        if (['queued', 'running'].includes(view.state)) return undefined
        assert.equal(view.state, 'succeeded', JSON.stringify(view))
        return view
      },
      240,
    )
  const sql = async (text: string, name = 'crm'): Promise<string> => {
    const { stdout } = await stack
      .get('postgres')
      .exec([
        'psql',
        '-X',
        '-A',
        '-t',
        '-q',
        '-v',
        'ON_ERROR_STOP=1',
        '-U',
        'postgres',
        '-d',
        name,
        '-c',
        text,
      ])
    return stdout.trim()
  }

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'holdfast-stack-'))
    await chmod(directory, 0o755)
    model = await composeModel()
    const given = join(directory, 'secrets')
    await run('sh', [join(root, 'deploy/make-secrets.sh'), given])
    secrets = Object.fromEntries(
      await Promise.all(
        (await readdir(given)).map(async name => [name, (await readFile(join(given, name), 'utf8')).trim()]),
      ),
    )
    const made = await standInImages(join(directory, 'image'))
    removeImages = made.remove
    await mkdir(join(directory, 'run'))
    stack = await openContainers({
      model,
      images: made.images,
      directory: join(directory, 'run'),
      secrets: given,
    })
  })
  after(async () => {
    await stack?.close()
    await removeImages()
    await rm(directory, { recursive: true, force: true })
  })

  test('everything comes up in the order it waits for, and gets healthy', async () => {
    await stack.up(services)
    for (const name of ['postgres', 'temporal', 'store', 'api', 'worker']) {
      assert.ok(stack.get(name).isRunning(), name)
    }
    const ready = await stack.get('worker').exec(['wget', '-q', '-O', '-', 'http://api:7460/readyz'])
    assert.deepEqual(JSON.parse(ready.stdout), { status: 'ok', catalog: true, temporal: true })
  })

  test('what is done once may be done again', async () => {
    for (const name of ['temporal-schema', 'temporal-namespace', 'store-bucket']) {
      await stack.start(name)
      await stack.ready(name)
    }
  })

  test('Temporal and catalog see their own databases only', async () => {
    const tables = await sql(
      'SELECT count(*) FROM information_schema.tables WHERE table_schema = $$public$$',
      'holdfast',
    )
    assert.ok(Number(tables) > 5, 'the catalog is in PostgreSQL')
    assert.equal(
      await sql("SELECT has_database_privilege('holdfast', 'temporal', 'CONNECT')", 'postgres'),
      'f',
    )
    assert.equal(
      await sql("SELECT has_database_privilege('temporal', 'holdfast', 'CONNECT')", 'postgres'),
      'f',
    )
    assert.equal(
      await sql(
        "SELECT bool_or(rolsuper OR rolcreatedb) FROM pg_roles WHERE rolname IN ('temporal', 'holdfast')",
        'postgres',
      ),
      'f',
    )
  })

  test('a backup goes on when Temporal is killed in its middle, and comes back as it was', async () => {
    await sql('CREATE DATABASE crm', 'postgres')
    await sql('CREATE TABLE people AS SELECT n AS id, md5(n::text) AS mail FROM generate_series(1, 50000) n')
    const people = await sql('SELECT count(*), sum(hashtext(mail)) FROM people')
    await holdfast('keys', 'new', 'default')
    await holdfast(
      ...['destination', 'add', 'vault', 's3://backups/prod', '--endpoint', 'http://store:7070'],
      ...['--region', 'us-east-1', '--path-style', '--credentials-file', '/run/secrets/store_credentials'],
    )
    const passwordFile = '/tmp/crm-password'
    await stack
      .get('api')
      .exec(['sh', '-c', `umask 077 && cat >${passwordFile}`], { input: secrets.postgres_password ?? '' })
    await holdfast(
      'connection',
      'add',
      'crm',
      'postgres://postgres@postgres:5432/crm',
      '--secret-file',
      passwordFile,
    )

    // The dump waits for this lock, and with it the world stands still in the middle of the step.
    const holder = stack
      .get('postgres')
      .exec([
        'psql',
        '-X',
        '-q',
        '-U',
        'postgres',
        'dbname=crm application_name=holder',
        '-c',
        'BEGIN',
        '-c',
        'LOCK people',
        '-c',
        'SELECT pg_sleep(3600)',
      ])
      .catch(() => undefined)
    const sessions = (where: string) =>
      sql(`SELECT count(*) FROM pg_stat_activity WHERE ${where}`, 'postgres')
    await eventually('the lock is held', async () =>
      (await sessions("application_name = 'holder' AND wait_event = 'PgSleep'")) === '1' ? true : undefined,
    )
    const started = await json<OperationView>('backup', 'crm', '--to', 'vault', '--no-wait')
    const waiting = "datname = 'crm' AND query LIKE 'LOCK TABLE%' AND wait_event_type = 'Lock'"
    await eventually(
      'the dump waits',
      async () => ((await sessions(waiting)) === '1' ? true : undefined),
      120,
    )

    await stack.get('temporal').kill9()
    await stack.start('temporal')
    await stack.ready('temporal')
    await sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'",
      'postgres',
    )
    await holder
    await succeeded(started.id)

    await holdfast('backups', 'verify', 'crm:latest', '--level', 'checksum')
    await holdfast('restore', 'crm:latest', '--target', 'crm', '--database', 'crm_copy')
    assert.equal(await sql('SELECT count(*), sum(hashtext(mail)) FROM people', 'crm_copy'), people)
  })

  test('ends in order, each within its time, and goes on from its volumes', async () => {
    assert.deepEqual(await stack.down(), [], 'had to be killed')
    await stack.up(services)
    const items = await json<{ name: string; readOnly: boolean }[]>('destination', 'list')
    assert.deepEqual(
      items.map(one => [one.name, one.readOnly]),
      [['vault', false]],
      'new containers are no new installation',
    )
    await holdfast('backup', 'crm', '--to', 'vault')
    const backups = await json<unknown[]>('backups', 'list', '--connection', 'crm')
    assert.equal(backups.length, 2)
  })

  test('no secret is in a command line, an environment that compose sets, or a log', async () => {
    const values = Object.entries(secrets).filter(([name]) => name !== 'store_credentials')
    const seen: string[] = []
    for (const name of services.filter(one => stack.get(one).isRunning())) {
      const { stdout } = await stack.get(name).exec(['sh', '-c', 'cat /proc/[0-9]*/cmdline'])
      seen.push(stdout, await readFile(stack.get(name).log, 'utf8'))
    }
    for (const name of ['temporal-schema', 'temporal-namespace', 'store-bucket']) {
      seen.push(await readFile(join(directory, 'run', `${name}.log`), 'utf8'))
    }
    assert.ok(seen.join('').length > 1000)
    for (const [name, value] of values)
      assert.ok(!seen.some(text => text.includes(value)), `${name} was seen`)
  })
})
