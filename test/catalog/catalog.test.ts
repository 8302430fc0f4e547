import assert from 'node:assert/strict'
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Kysely } from 'kysely'
import { connectionSecrets, insertConnection, readConnection } from '../../catalog/connections.ts'
import { insertDestination, readDestination } from '../../catalog/destinations.ts'
import { rememberEpoch, rememberedEpoch } from '../../catalog/epochs.ts'
import { installationKeys, writerIdentity } from '../../catalog/installation.ts'
import { migrate, migrations } from '../../catalog/migrations/index.ts'
import { openCatalog } from '../../catalog/open.ts'
import type { CatalogTables } from '../../catalog/schema.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import { openSqlite } from '../../catalog/sqlite.ts'
import { ensureToken, tokenIsValid } from '../../catalog/tokens.ts'
import { testKey, withCatalog } from './support.ts'

const canary = 'kanarienvogel-7f3a9c'

const shop = (name: string) => ({
  name,
  engine: 'postgresql' as const,
  method: 'logical' as const,
  settings: { host: 'db.example' },
  secretFields: ['password'],
  host: 'local',
  serverIdentity: 'postgresql:1',
  serverVersion: '15.18',
  createdAt: new Date().toISOString(),
  address: 'db.example/shop',
  requestKey: null,
})

const vault = {
  name: 'vault',
  kind: 'local' as const,
  uri: 'file:///srv/backups',
  settings: {},
  secretFields: [],
  createdAt: new Date().toISOString(),
  readOnly: false,
  requestKey: null,
}

test('secrets are nowhere in the files, and open again with the key', () =>
  withCatalog(async ({ catalog, directory, reopen }) => {
    await insertConnection(catalog, shop('shop'), { password: canary })
    const keys = await installationKeys(catalog)
    for (const file of await readdir(directory)) {
      const bytes = await readFile(join(directory, file), 'latin1')
      assert.ok(!bytes.includes(canary), `${file} holds the password`)
      assert.ok(!bytes.includes(keys.signingKey.d ?? '-'), `${file} holds the signing key`)
      assert.equal((await stat(join(directory, file))).mode & 0o077, 0, `${file} can be read by others`)
    }
    const again = await reopen()
    assert.deepEqual(await connectionSecrets(again, 'shop'), { password: canary })
    assert.deepEqual(await installationKeys(again), keys)
    assert.deepEqual((await readConnection(again, 'shop')).secretFields, ['password'])
  }))

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
  withCatalog(async ({ catalog, path }) => {
    await catalog.close()
    await assert.rejects(openCatalog({ url: `sqlite:${path}`, secretKey: 'not the key of before' }), {
      code: 'catalog.secret-key',
    })
  }))

test('the secret key is made once, 0600, and never anew beside a catalog', async () => {
  const home = await mkdtemp(join(tmpdir(), 'holdfast-key-'))
  try {
    const settings = {
      secretKey: undefined,
      secretKeyFile: join(home, 'secret.key'),
      catalogUrl: `sqlite:${join(home, 'catalog.sqlite')}`,
    }
    const [one, two] = await Promise.all([ensureSecretKey(settings), ensureSecretKey(settings)])
    assert.equal(one.key, two.key)
    assert.deepEqual([one.made, two.made].filter(Boolean), [settings.secretKeyFile])
    assert.equal((await stat(settings.secretKeyFile)).mode & 0o777, 0o600)
    assert.deepEqual(await readdir(home), ['secret.key'])
    assert.deepEqual(await ensureSecretKey(settings), { key: one.key, made: undefined })

    await (await openCatalog({ url: settings.catalogUrl, secretKey: one.key })).close()
    await rm(settings.secretKeyFile)
    await assert.rejects(ensureSecretKey(settings), { code: 'catalog.secret-key' })
    await writeFile(settings.secretKeyFile, 'short\n')
    await assert.rejects(ensureSecretKey(settings), { code: 'settings.invalid' })
  } finally {
    await rm(home, { recursive: true, force: true })
  }
})

test('one process owns the file', () =>
  withCatalog(async ({ path }) => {
    await assert.rejects(openCatalog({ url: `sqlite:${path}`, secretKey: testKey, ownSeconds: 0.3 }), {
      code: 'catalog.busy',
    })
  }))

test('a copied or moved catalog is another instance; the same place is the same one', () =>
  withCatalog(async ({ catalog, directory, path, reopen }) => {
    const before = await writerIdentity(catalog)
    const same = await reopen()
    assert.equal(same.newInstance, false)
    assert.deepEqual(await writerIdentity(same), before)
    await same.close()

    const copy = join(directory, 'copy.sqlite')
    await cp(path, copy)
    const copied = await reopen({ path: copy })
    assert.equal(copied.newInstance, true)
    const after = await writerIdentity(copied)
    assert.equal(after.installationId, before.installationId)
    assert.notEqual(after.instanceId, before.instanceId)
    assert.deepEqual(await writerIdentity(await reopen({ path: copy })), after)

    const elsewhere = await reopen({ machine: 'another machine' })
    assert.equal(elsewhere.newInstance, true)
  }))

test('migrations run once, each in one transaction, and a newer schema is refused', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-migrate-'))
  const path = join(directory, 'catalog.sqlite')
  try {
    const { dialect, close } = await openSqlite(path, 1)
    const db = new Kysely<CatalogTables>({ dialect })
    const newest = migrations.at(-1)?.version ?? 0
    assert.deepEqual(
      await migrate(db),
      migrations.map(step => step.version),
    )
    assert.deepEqual(await migrate(db), [])
    const broken = {
      version: newest + 1,
      async up(next: Kysely<unknown>) {
        await next.schema.createTable('half').addColumn('a', 'text').execute()
        throw new Error('in the middle')
      },
    }
    await assert.rejects(migrate(db, [...migrations, broken]), /in the middle/)
    const tables = (await db.introspection.getTables()).map(table => table.name)
    assert.ok(!tables.includes('half'), 'half a migration stayed')
    const whole = {
      version: newest + 1,
      async up(next: Kysely<unknown>) {
        await next.schema.createTable('half').addColumn('a', 'text').execute()
      },
    }
    assert.deepEqual(await migrate(db, [...migrations, whole]), [newest + 1])
    await db.destroy()
    close()
    await assert.rejects(openCatalog({ url: `sqlite:${path}`, secretKey: testKey }), {
      code: 'catalog.newer',
    })
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})

test('a row that was written survives the loss of everything but the file and its log', () =>
  withCatalog(async ({ catalog, directory, path }) => {
    await insertDestination(catalog, vault, {}, null)
    await insertConnection(catalog, shop('shop'), { password: canary })
    // What a power cut leaves: the bytes on disk at this moment, without a clean close.
    const copy = join(directory, 'after-power-cut.sqlite')
    await cp(path, copy)
    await cp(`${path}-wal`, `${copy}-wal`)
    const again = await openCatalog({ url: `sqlite:${copy}`, secretKey: testKey })
    assert.equal((await readConnection(again, 'shop')).address, 'db.example/shop')
    assert.equal((await readDestination(again, 'vault')).uri, vault.uri)
    await again.close()
    const raw = new DatabaseSync(copy)
    assert.deepEqual({ ...raw.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' })
    raw.close()
  }))

test('epochs never go back', () =>
  withCatalog(async ({ catalog }) => {
    await insertDestination(catalog, { ...vault, readOnly: true }, {}, null)
    assert.equal(await rememberedEpoch(catalog, 'vault'), null)
    await rememberEpoch(catalog, 'vault', 3)
    await rememberEpoch(catalog, 'vault', 2)
    assert.equal(await rememberedEpoch(catalog, 'vault'), 3)
    assert.equal((await readDestination(catalog, 'vault')).readOnly, false)
    await assert.rejects(rememberEpoch(catalog, 'nowhere', 1), { code: 'request.not-found' })
  }))

test('tokens: only their digest is kept; a removed file means a new token', () =>
  withCatalog(async ({ catalog, directory }) => {
    const path = join(directory, 'api.token')
    assert.deepEqual(await ensureToken(catalog, 'api', path), { made: true })
    assert.deepEqual(await ensureToken(catalog, 'api', path), { made: false })
    const token = (await readFile(path, 'utf8')).trim()
    assert.equal((await stat(path)).mode & 0o777, 0o600)
    assert.equal(await tokenIsValid(catalog, 'api', token), true)
    assert.equal(await tokenIsValid(catalog, 'worker', token), false)
    assert.equal(await tokenIsValid(catalog, 'api', `${token}x`), false)
    assert.equal(await tokenIsValid(catalog, 'api', ''), false)
    const rows = await catalog.db.selectFrom('tokens').selectAll().execute()
    assert.ok(!JSON.stringify(rows).includes(token))
    await rm(path)
    await ensureToken(catalog, 'api', path)
    assert.equal(await tokenIsValid(catalog, 'api', token), false)
  }))
