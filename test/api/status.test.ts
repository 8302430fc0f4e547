/** A store that does not answer must not make the others look as if they did not. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { openCatalog } from '../../catalog/open.ts'
import { insertOperation } from '../../catalog/operations.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import type { StatusView } from '../../model/schemas.ts'
import { operation } from '../catalog/support.ts'
import { type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { s3Input } from '../system/stack.ts'
import { attemptOf, commit, newBackupId, opened } from './backups.ts'
import { startTestApi, type TestApi } from './support.ts'

describe('status while a store is silent', () => {
  let api: TestApi
  let store: Versitygw
  let front: Interceptor
  const backupId = newBackupId()

  before(async () => {
    store = await startVersitygw()
    front = await startInterceptor(store.endpoint)
    api = await startTestApi()
    await api.addSqlite('shop')
    await api.addDestination('disk')
    const added = await api.call('POST', '/v1/destinations', s3Input(store, 'vault', 'silent', front.url))
    assert.equal(added.status, 201, JSON.stringify(added.body))
    const names = { operationId: 'op-status000001', backupId, connection: 'shop', destination: 'disk' }
    await api.restart(async () => {
      const secretKey = (await ensureSecretKey(api.settings)).key
      const catalog = await openCatalog({ url: api.settings.catalogUrl, secretKey })
      const row = operation(names.operationId, { backupId, state: 'running', runId: 'r' })
      await insertOperation(catalog, row, null)
      await catalog.close()
    })
    const to = await opened(api, 'disk')
    await commit(api, to, names, await attemptOf(api, to, names))
    await to.close()
    assert.equal((await api.call('POST', '/v1/catalog/rebuild', {})).status, 200)
  })
  after(async () => {
    await api.stop()
    await front.close()
    await store.stop()
  })

  const shop = async () => {
    const { status, body } = await api.call<StatusView>('GET', '/v1/status')
    assert.equal(status, 200)
    const database = body.databases.find(one => one.connection === 'shop')
    assert.equal(database?.latestBackup?.id, backupId)
    return {
      seen: database.latestBackup.seen,
      away: body.destinations.filter(one => !one.reachable).map(one => one.name),
    }
  }

  test('it is called away, and what lies elsewhere is seen', async () => {
    assert.deepEqual(await shop(), { seen: true, away: [] })
    const held = front.hold('before', (_method, url) => url.includes('installation.json'))
    assert.deepEqual(await shop(), { seen: true, away: ['vault'] })
    held.cut()
    assert.deepEqual(await shop(), { seen: true, away: [] })
  })
})
