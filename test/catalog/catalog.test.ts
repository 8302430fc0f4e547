import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Kysely } from 'kysely'
import { connectionSecrets, insertConnection } from '../../catalog/connections.ts'
import { insertDestination, readDestination } from '../../catalog/destinations.ts'
import { rememberEpoch, rememberedEpoch } from '../../catalog/epochs.ts'
import { migrate, migrations } from '../../catalog/migrations/index.ts'
import { openCatalog, openDialect } from '../../catalog/open.ts'
import { placeForCatalog } from '../support/catalogs.ts'
import { canary, shop, vault } from './rows.ts'
import { testKey, withCatalog } from './support.ts'

test('a secret moved to another row or field does not open', () =>
  withCatalog(async ({ catalog }) => {
    await insertConnection(catalog, shop('shop'), { password: canary })
    await insertConnection(catalog, shop('other'), { password: 'another' })
    const { nonce, ciphertext } = await catalog.db
      .selectFrom('secrets')
      .selectAll()
      .where('owner', '=', 'connection/shop')
      .executeTakeFirstOrThrow()
    await catalog.db
      .updateTable('secrets')
      .set({ nonce, ciphertext })
      .where('owner', '=', 'connection/other')
      .execute()
    await assert.rejects(connectionSecrets(catalog, 'other'), { code: 'catalog.secret-key' })
    await catalog.db
      .updateTable('secrets')
      .set({ field: 'passphrase' })
      .where('owner', '=', 'connection/shop')
      .execute()
    await assert.rejects(connectionSecrets(catalog, 'shop'), { code: 'catalog.secret-key' })
  }))

test('another secret key is refused when the catalog is opened', () =>
  withCatalog(async ({ catalog, url }) => {
    await catalog.close()
    await assert.rejects(openCatalog({ url, secretKey: 'not the key of before' }), {
      code: 'catalog.secret-key',
    })
  }))

test('epochs never go back', () =>
  withCatalog(async ({ catalog }) => {
    await insertDestination(catalog, { ...vault, readOnly: true, encryptTo: null }, {}, null)
    assert.equal(await rememberedEpoch(catalog, 'vault'), null)
    await rememberEpoch(catalog, 'vault', 3)
    await rememberEpoch(catalog, 'vault', 2)
    assert.equal(await rememberedEpoch(catalog, 'vault'), 3)
    assert.equal((await readDestination(catalog, 'vault')).readOnly, false)
    await assert.rejects(rememberEpoch(catalog, 'nowhere', 1), { code: 'request.not-found' })
  }))

test('migrations run once, each in one transaction, and a newer schema is refused', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-migrate-'))
  const place = await placeForCatalog(directory)
  try {
    const { db, migration, close } = await openDialect({ url: place.url })
    const newest = migrations.at(-1)?.version ?? 0
    assert.deepEqual(
      await migrate(migration),
      migrations.map(step => step.version),
    )
    assert.deepEqual(await migrate(migration), [])
    const broken = {
      version: newest + 1,
      async up(next: Kysely<unknown>) {
        await next.schema.createTable('half').addColumn('a', 'text').execute()
        throw new Error('in the middle')
      },
    }
    await assert.rejects(migrate(migration, [...migrations, broken]), /in the middle/)
    const tables = (await db.introspection.getTables()).map(table => table.name)
    assert.ok(!tables.includes('half'), 'half a migration stayed')
    const whole = {
      version: newest + 1,
      async up(next: Kysely<unknown>) {
        await next.schema.createTable('half').addColumn('a', 'text').execute()
      },
    }
    assert.deepEqual(await migrate(migration, [...migrations, whole]), [newest + 1])
    await close()
    await assert.rejects(openCatalog({ url: place.url, secretKey: testKey }), {
      code: 'catalog.newer',
    })
  } finally {
    await place.remove()
    await rm(directory, { recursive: true, force: true })
  }
})

test('schedules and what became of their due times survive being made anew', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-migrate-'))
  const place = await placeForCatalog(directory)
  try {
    const before = await openDialect({ url: place.url })
    await migrate(
      before.migration,
      migrations.filter(step => step.version < 17),
    )
    await before.db
      .insertInto('connections')
      .values({
        name: 'shop',
        engine: 'sqlite',
        method: 'physical',
        settings: '{}',
        address: '',
        host: 'local',
        server_identity: 'x',
        server_version: '',
        two_person: 0,
        request_key: null,
        created_at: '2026-11-21T00:00:00.000Z',
      })
      .execute()
    await before.db
      .insertInto('destinations')
      .values({
        name: 'vault',
        kind: 'local',
        uri: 'file:///srv',
        settings: '{}',
        read_only: 0,
        failover: null,
        off_site: null,
        encrypt_to: null,
        request_key: null,
        created_at: '2026-11-21T00:00:00.000Z',
      })
      .execute()
    const schedule = {
      id: 's',
      name: 'nightly',
      kind: 'backup',
      connection: 'shop',
      destination: 'vault',
      options: '{}',
      spec: '{}',
      jitter_seconds: 1,
      overlap: 'skip',
      catch_up_seconds: 2,
      start_deadline_seconds: 3,
      start_at: null,
      end_at: null,
      paused: 0,
      note: 'a note',
      revision: 4,
      checked_until: '2026-11-21T00:00:00.000Z',
      carried: null,
      drift: null,
      request_key: null,
      created_at: '2026-11-21T00:00:00.000Z',
      updated_at: '2026-11-21T00:00:00.000Z',
    }
    const run = {
      schedule_id: 's',
      due_at: '2026-11-21T02:30:00.000Z',
      operation_id: 'op-1',
      state: 'missed',
      taken_at: null,
      deadline_at: null,
      reason: 'overlap',
      detail: 'why',
      holder: null,
      triggered_by: null,
    }
    await before.db.insertInto('schedules').values(schedule).execute()
    await before.db.insertInto('schedule_runs').values(run).execute()
    assert.deepEqual(
      await migrate(
        before.migration,
        migrations.filter(step => step.version <= 17),
      ),
      [17],
    )
    assert.deepEqual(
      { ...(await before.db.selectFrom('schedules').selectAll().executeTakeFirst()) },
      schedule,
    )
    assert.deepEqual({ ...(await before.db.selectFrom('schedule_runs').selectAll().executeTakeFirst()) }, run)
    await migrate(before.migration)
    const { destination, ...others } = schedule
    assert.deepEqual({ ...(await before.db.selectFrom('schedules').selectAll().executeTakeFirst()) }, others)
    assert.deepEqual(
      { ...(await before.db.selectFrom('schedule_destinations').selectAll().executeTakeFirst()) },
      { schedule_id: 's', destination, position: 0 },
    )
    await assert.rejects(before.db.deleteFrom('destinations').execute())
    // What goes with a schedule still does, and a connection in use stays.
    await assert.rejects(before.db.deleteFrom('connections').execute())
    await before.db.deleteFrom('schedules').execute()
    assert.equal((await before.db.selectFrom('schedule_runs').selectAll().execute()).length, 0)
    assert.equal((await before.db.selectFrom('schedule_destinations').selectAll().execute()).length, 0)
    await before.close()
  } finally {
    await place.remove()
    await rm(directory, { recursive: true, force: true })
  }
})
