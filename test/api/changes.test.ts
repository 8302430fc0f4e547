/** Connections and destinations that are changed: it must still be the same server or place, and secrets go nowhere else. */
import assert from 'node:assert/strict'
import { copyFile, symlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { openCatalog } from '../../catalog/open.ts'
import { insertOperation } from '../../catalog/operations.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import type { ConnectionCheckView, ConnectionView, DestinationView, Problem } from '../../model/views.ts'
import { operation } from '../catalog/support.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { startTestApi, type TestApi } from './support.ts'

const password = 'kanarienvogel-9c2b'

describe('changes', () => {
  let t: TestApi
  let postgres: TestPostgres
  let store: Versitygw
  let other: Versitygw
  before(async () => {
    t = await startTestApi()
    postgres = await startPostgres({ auth: 'scram', password })
    store = await startVersitygw({ credentials: { accessKeyId: 'one', secretAccessKey: 'secret-of-one' } })
    other = await startVersitygw({ credentials: { accessKeyId: 'one', secretAccessKey: 'secret-of-one' } })
  })
  after(async () => {
    await t?.stop()
    await postgres?.stop()
    await store?.stop()
    await other?.stop()
  })

  test('another address of the same server is taken, another server only when that is meant', async () => {
    const path = await t.addSqlite('notes')
    const seen = await t.call<ConnectionView>('GET', '/v1/connections/notes')
    const tag = seen.headers.get('etag') ?? ''
    const link = join(t.home, 'link.db')
    await symlink(path, link)
    const change = (body: object, headers: Record<string, string> = {}) =>
      t.call<ConnectionView & Problem>('PATCH', '/v1/connections/notes', body, headers)
    const same = await change({ url: link }, { 'if-match': tag })
    assert.deepEqual([same.status, same.body.serverIdentity], [200, seen.body.serverIdentity])
    assert.equal(same.body.address, `sqlite:${link}`)
    assert.equal((await change({ url: path }, { 'if-match': tag })).body.code, 'request.changed')

    const copy = join(t.home, 'copy.db')
    await copyFile(path, copy)
    const refused = await change({ url: copy })
    assert.deepEqual([refused.status, refused.body.code], [409, 'database.changed'])
    assert.equal((await change({ url: join(t.home, 'none.db') })).body.code, 'database.missing')
    assert.equal((await change({ url: 'postgres://u@h/d' })).body.errors?.[0]?.path, 'url')
    assert.equal((await change({ name: 'other' })).body.errors?.[0]?.path, 'name')
    assert.equal(
      (await t.call<ConnectionView>('GET', '/v1/connections/notes')).body.address,
      `sqlite:${link}`,
    )
    const meant = await change({ url: copy, acceptNewServer: true })
    assert.equal(meant.status, 200)
    assert.notEqual(meant.body.serverIdentity, seen.body.serverIdentity)
  })

  test('stored secrets are never sent to another address', async () => {
    const url = new URL(postgres.url())
    url.password = ''
    await t.call('POST', '/v1/connections', { name: 'pg', url: url.href, secrets: { password } })
    const change = (body: object) => t.call<ConnectionView & Problem>('PATCH', '/v1/connections/pg', body)
    // Somebody who listens for what comes.
    let asked = 0
    const trap = createServer(socket => {
      asked += 1
      socket.destroy()
    })
    await new Promise<void>(resolve => trap.listen(0, '127.0.0.1', resolve))
    const address = trap.address() as { port: number }
    const evil = `postgres://${url.username}@127.0.0.1:${address.port}/postgres`
    const refused = await change({ url: evil })
    assert.deepEqual([refused.status, refused.body.errors?.[0]?.path], [422, 'secrets.password'])
    assert.equal(asked, 0, 'nobody was asked')
    trap.close()

    assert.equal((await change({ secrets: { password: 'wrong' } })).body.code, 'database.authentication')
    await postgres.sql(`ALTER ROLE ${url.username} PASSWORD 'another one'`)
    const failed = async () => {
      const { body } = await t.call<ConnectionCheckView>('POST', '/v1/connections/pg/check')
      return body.checks.flatMap(({ code }) => (code?.startsWith('database.') ? [code] : []))
    }
    assert.deepEqual(await failed(), ['database.authentication'])
    const mended = await change({ secrets: { password: 'another one' } })
    assert.deepEqual([mended.status, mended.body.secrets], [200, ['password']])
    assert.deepEqual(await failed(), [])
    assert.equal(
      (await change({ secrets: { passphrase: 'x' } })).body.errors?.[0]?.path,
      'secrets.passphrase',
    )
    assert.ok(!t.log().includes(password) && !t.log().includes('another one'))
  })

  test('a destination keeps its place: credentials may change, what lies there may not', async () => {
    const one = { accessKeyId: 'one', secretAccessKey: 'secret-of-one' }
    const added = await t.call('POST', '/v1/destinations', {
      name: 'vault',
      uri: `s3://${store.bucket}/prod`,
      endpoint: store.endpoint,
      region: store.region,
      pathStyle: true,
      ...one,
    })
    assert.equal(added.status, 201)
    const change = (body: object) =>
      t.call<DestinationView & Problem>('PATCH', '/v1/destinations/vault', body)
    assert.match(
      (await change({ secretAccessKey: 'wrong' })).body.code,
      /^destination\.(credentials|denied)$/,
    )
    assert.equal((await change(one)).status, 200)
    const optioned = await change({ storageClass: 'STANDARD_IA', tags: { team: 'db' } })
    assert.deepEqual(optioned.body.options, { storageClass: 'STANDARD_IA', tags: { team: 'db' } })
    assert.deepEqual((await change({ tags: null })).body.options, { storageClass: 'STANDARD_IA' })
    assert.deepEqual((await change({ storageClass: 'no-such' })).body.errors?.[0]?.path, 'storageClass')
    assert.deepEqual((await change({ storageClass: null })).body.options, {})
    assert.equal((await change({ sasToken: 'x' })).body.errors?.[0]?.path, 'sasToken')
    const bare = await change({ endpoint: other.endpoint })
    assert.deepEqual(bare.body.errors?.map(field => field.path).sort(), ['accessKeyId', 'secretAccessKey'])
    const elsewhere = await change({ endpoint: other.endpoint, ...one })
    assert.deepEqual([elsewhere.status, elsewhere.body.errors?.[0]?.path], [422, 'endpoint'])
    assert.equal((await change({ uri: 's3://bucket/other' })).body.errors?.[0]?.path, 'uri')
    const alias = store.endpoint.replace('127.0.0.1', 'localhost')
    const renamed = await change({ endpoint: alias, ...one })
    assert.deepEqual([renamed.status, renamed.body.endpoint], [200, alias])
    assert.equal((await t.call('POST', '/v1/destinations/vault/check')).status, 200)
  })

  test('under a running operation only secrets change', async () => {
    const path = await t.addSqlite('busy')
    await t.restart(async () => {
      const { key } = await ensureSecretKey(t.settings)
      const catalog = await openCatalog({ url: t.settings.catalogUrl, secretKey: key })
      const row = operation('op-busy1', {
        connection: 'busy',
        destination: 'vault',
        runId: 'run',
        state: 'running',
      })
      await insertOperation(catalog, row, null)
      await catalog.close()
    })
    const link = join(t.home, 'busy-link.db')
    await symlink(path, link)
    assert.equal((await t.refused('PATCH', '/v1/connections/busy', { url: link })).code, 'request.in-use')
    assert.equal((await t.call('PATCH', '/v1/connections/busy', {})).status, 200)
    const one = { accessKeyId: 'one', secretAccessKey: 'secret-of-one' }
    assert.equal((await t.call('PATCH', '/v1/destinations/vault', one)).status, 200)
    const moved = await t.refused('PATCH', '/v1/destinations/vault', { endpoint: store.endpoint, ...one })
    assert.equal(moved.code, 'request.in-use')
    const optioned = await t.refused('PATCH', '/v1/destinations/vault', { maxParts: 1000 })
    assert.equal(optioned.code, 'request.in-use')
  })

  test('lists come in pages, and by engine and kind', async () => {
    const names = async (path: string) => {
      const { body } = await t.call<{ items: { name: string }[]; nextCursor: string | null }>('GET', path)
      return { names: body.items.map(item => item.name), next: body.nextCursor }
    }
    const first = await names('/v1/connections?limit=2')
    assert.deepEqual(first.names, ['busy', 'notes'])
    assert.deepEqual(await names(`/v1/connections?limit=2&cursor=${first.next}`), {
      names: ['pg'],
      next: null,
    })
    assert.deepEqual((await names('/v1/connections?engine=postgresql')).names, ['pg'])
    assert.deepEqual((await names('/v1/destinations?kind=local')).names, [])
    assert.deepEqual((await names('/v1/destinations?kind=s3')).names, ['vault'])
    assert.equal((await t.refused('GET', '/v1/keys?limit=0')).code, 'request.invalid')
  })
})
