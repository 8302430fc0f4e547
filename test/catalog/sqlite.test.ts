/** What holds of a catalog in a file only. */
import assert from 'node:assert/strict'
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { connectionSecrets, insertConnection, readConnection } from '../../catalog/connections.ts'
import { insertDestination, readDestination } from '../../catalog/destinations.ts'
import { installationKeys, writerIdentity } from '../../catalog/installation.ts'
import { openCatalog } from '../../catalog/open.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import { catalogPath } from '../../catalog/sqlite.ts'
import { canary, shop, vault } from './rows.ts'
import { testKey, withCatalog } from './support.ts'

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
  withCatalog(async ({ url }) => {
    await assert.rejects(openCatalog({ url, secretKey: testKey, ownSeconds: 0.3 }), {
      code: 'catalog.busy',
    })
  }))

test('a copied or moved catalog is another instance; the same place is the same one', () =>
  withCatalog(async ({ catalog, directory, url, reopen }) => {
    const path = catalogPath(url)
    const before = await writerIdentity(catalog)
    const same = await reopen()
    assert.equal(same.newInstance, false)
    assert.deepEqual(await writerIdentity(same), before)
    await same.close()

    const copy = join(directory, 'copy.sqlite')
    await cp(path, copy)
    const copied = await reopen({ url: `sqlite:${copy}` })
    assert.equal(copied.newInstance, true)
    const after = await writerIdentity(copied)
    assert.equal(after.installationId, before.installationId)
    assert.notEqual(after.instanceId, before.instanceId)
    assert.deepEqual(await writerIdentity(await reopen({ url: `sqlite:${copy}` })), after)

    const elsewhere = await reopen({ machine: 'another machine' })
    assert.equal(elsewhere.newInstance, true)
  }))

test('a row that was written survives the loss of everything but the file and its log', () =>
  withCatalog(async ({ catalog, directory, url }) => {
    const path = catalogPath(url)
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
