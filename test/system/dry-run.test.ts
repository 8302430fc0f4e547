/** A dry run asks everything and changes nothing: servers, files and store are compared before and after. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { ConnectionCheckView, OperationView, PlanView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { holdfast } from '../cli/run.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost, objectsOf, uploadsOf } from './inspect.ts'
import { dumpWaits, lockTable } from './sessions.ts'
import { type Stack, s3Input, startStack } from './stack.ts'

const password = 'kq7-Vm2-xt'

describe('dry run', () => {
  let stack: Stack
  let store: Versitygw
  let destination: Destination
  let postgres: TestPostgres
  let folder = ''

  before(async () => {
    stack = await startStack()
    store = await startVersitygw()
    destination = await openDestination(store.destinationRecord('dry'), store.secrets)
    await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'dry'))
    folder = join(stack.directory, 'databases')
    await mkdir(folder)
    makeRandomSqlite(join(folder, 'source.db'), 4)
    await copyFile(join(folder, 'source.db'), join(folder, 'dumped.db'))
    for (const [name, file, method] of [
      ['copied', 'source.db', 'physical'],
      ['dumped', 'dumped.db', 'logical'],
    ] as const) {
      await stack.expectOk('POST', '/v1/connections', {
        name,
        url: `sqlite:${join(folder, file)}`,
        method,
      })
    }
    postgres = await startPostgres({ auth: 'scram', password })
    // It writes whenever it likes.
    await postgres.sql('ALTER SYSTEM SET autovacuum = off')
    await postgres.sql('SELECT pg_reload_conf()')
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 4)
    await postgres.sql('VACUUM ANALYZE', 'shop')
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
  })

  after(async () => {
    await stack?.stop()
    await postgres?.stop()
    await destination?.close()
    await store?.stop()
  })

  const server = async () => ({
    databases: await postgres.sql('SELECT oid, datname, datdba, datacl FROM pg_database ORDER BY 1'),
    roles: await postgres.sql('SELECT oid, rolname, rolpassword FROM pg_authid ORDER BY 1'),
    slots: await postgres.sql('SELECT * FROM pg_replication_slots'),
    objects: await postgres.sql('SELECT count(*), max(oid) FROM pg_class', 'shop'),
    rows: await postgres.sql(
      'SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables ORDER BY 1',
      'shop',
    ),
    transactions: await postgres.sql('SELECT pg_snapshot_xmax(pg_current_snapshot())'),
  })
  const files = () =>
    readdirSync(folder)
      .sort()
      .map(name => {
        const path = join(folder, name)
        const { ino, mtimeMs, size } = statSync(path)
        return [name, ino, mtimeMs, size, createHash('sha256').update(readFileSync(path)).digest('hex')]
      })
  const world = async () => ({
    server: await server(),
    files: files(),
    objects: await objectsOf(destination),
    uploads: await uploadsOf(destination),
    staging: readdirSync(join(stack.home, 'staging', 'data')),
    backups: await Promise.all(['copied', 'dumped', 'pg'].map(name => stack.backups(name))),
  })

  /** Runs it, and compares everything with before. */
  const dryRun = async (path: string, body: Record<string, unknown>): Promise<OperationView> => {
    const earlier = await world()
    const { operation } = await stack.expectOk<{ operation: OperationView }>('POST', path, {
      ...body,
      dryRun: true,
    })
    assert.equal(operation.dryRun, true)
    const view = await stack.ended(operation.id)
    assert.deepEqual(await world(), earlier)
    expectCleanHost(stack.home, operation.id)
    return view
  }
  const planOf = (id: string) => stack.expectOk<PlanView>('GET', `/v1/operations/${id}/plan`)

  test('the precheck of a connection: one table, and nothing is changed', async () => {
    for (const [name, engine] of [
      ['copied', 'sqlite'],
      ['dumped', 'sqlite'],
      ['pg', 'postgresql'],
    ] as const) {
      const earlier = await world()
      const { checks } = await stack.expectOk<ConnectionCheckView>(
        'POST',
        `/v1/connections/${name}/precheck`,
        { destinations: ['vault'] },
      )
      assert.deepEqual(await world(), earlier)
      assert.deepEqual(
        checks.filter(({ answer }) => answer !== 'pass'),
        [],
      )
      const groups = new Set(checks.map(({ id }) => id.split(/[.-]/)[0]))
      // Room for what is staged; of formats that are.
      groups.delete('staging')
      assert.deepEqual(
        [...groups].sort(),
        ['database', 'destination', 'host', 'identity', 'keys', 'tool', engine].sort(),
      )
    }
    const shown = await holdfast(['connection', 'check', 'pg', '--to', 'vault'], {
      cwd: stack.directory,
      env: { HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token, HOLDFAST_HOME: stack.home },
    })
    assert.equal(shown.code, 0, shown.stdout)
    for (const line of [
      /^pass +The database answers: .*version \d/m,
      /^pass +Enough locks|^pass +.*lock/m,
      /^pass +Destination "vault" takes and gives back objects: s3:/m,
      /^pass +Encryption keys are at hand/m,
    ]) {
      assert.match(shown.stdout, line)
    }
  })

  test('of a backup: checks, commands and size, as the real one has them', async () => {
    for (const [connection, format] of [
      ['copied', 'copy'],
      ['dumped', 'dump'],
      ['pg', 'custom'],
      ['pg', 'directory'],
    ] as const) {
      const asked = { connection, destinations: ['vault'], format }
      const view = await dryRun('/v1/backups', asked)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      assert.ok(view.checks.length > 3)
      const plan = await planOf(view.id)
      assert.match(plan.digest, /^[0-9a-f]{64}$/)
      assert.ok(plan.sizeBytes > 1e6)
      assert.ok(!JSON.stringify(plan).includes(password))
      const real = await stack.ended((await stack.backup(asked)).id)
      assert.equal(real.state, 'succeeded', JSON.stringify(real.error))
      assert.deepEqual(real.commands, view.commands)
      assert.deepEqual((await planOf(real.id)).steps, plan.steps)
      assert.deepEqual(
        real.checks.map(check => check.id),
        view.checks.map(check => check.id),
      )
      const again = await planOf((await dryRun('/v1/backups', asked)).id)
      assert.ok((again.expected?.storedBytes ?? 0) > 0, 'it knows how the last one went')
    }
  })

  test('of a restore: the target is looked at, and nothing comes into being', async () => {
    for (const [connection, database] of [
      ['copied', join(folder, 'never.db')],
      ['pg', 'never'],
    ] as const) {
      const backup = `${connection}:latest`
      const view = await dryRun('/v1/restores', { backup, target: { connection, database } })
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      const plan = await planOf(view.id)
      assert.ok(plan.steps.length > 1)
      assert.deepEqual(plan.destroys, [])
    }
    const taken = await dryRun('/v1/restores', {
      backup: 'pg:latest',
      target: { connection: 'pg', database: 'shop' },
    })
    assert.equal(taken.state, 'failed')
    assert.equal(taken.error?.code, 'restore.target-exists')
  })

  test('takes no lock: it runs beside the backup that holds it', async () => {
    const lock = await lockTable(postgres.url('shop'), 'blobs')
    const holder = await stack.backup({ connection: 'pg', destinations: ['vault'] })
    await dumpWaits(postgres, holder.id)
    const { operation } = await stack.expectOk<{ operation: OperationView }>('POST', '/v1/backups', {
      connection: 'pg',
      destinations: ['vault'],
      dryRun: true,
      unattended: true,
    })
    const view = await stack.ended(operation.id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.equal((await stack.operation(holder.id)).state, 'running')
    await lock.release()
    assert.equal((await stack.ended(holder.id)).state, 'succeeded')
  })

  test('what would stop it is said, and it ends, also unattended', async () => {
    await postgres.kill9()
    try {
      for (const unattended of [false, true]) {
        const view = await stack.ended(
          (await stack.backup({ connection: 'pg', destinations: ['vault'], dryRun: true, unattended })).id,
        )
        assert.equal(view.state, 'failed')
        assert.equal(view.error?.code, 'database.unreachable')
      }
    } finally {
      await postgres.restart()
    }
  })

  test('on the command line: exit code, commands, nothing secret', async () => {
    const cli = (...args: string[]) =>
      holdfast(args, { env: { ...stack.env, HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token } })
    const good = await cli('backup', 'pg', '--to', 'vault', '--dry-run')
    assert.equal(good.code, 0, good.stdout + good.stderr)
    assert.match(good.stdout, /\$ pg_dump -Fc/)
    assert.match(good.stdout, /it would begin/)
    assert.ok(!good.stdout.includes(password))
    const json = await cli(
      'restore',
      'pg:latest',
      '--target',
      'pg',
      '--database',
      'shop',
      '--dry-run',
      '--json',
    )
    assert.equal(json.code, 3)
    const last = json.stdout.trim().split('\n').at(-1) ?? ''
    assert.equal(JSON.parse(last).kind, 'restore')
  })
})
