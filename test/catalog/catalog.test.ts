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
