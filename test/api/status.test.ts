/** What the status screen is told of stores that are silent, of operations that wait for somebody, and of schedules. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Catalog, openCatalog } from '../../catalog/open.ts'
import { insertOperation, updateOperation } from '../../catalog/operations.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import type { OperationRecord } from '../../model/records.ts'
import type { StatusView } from '../../model/views.ts'
import { operation } from '../catalog/support.ts'
import { type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { s3Input } from '../system/stack.ts'
import { attemptOf, commit, newBackupId, opened } from './backups.ts'
import { startTestApi, type TestApi } from './support.ts'

describe('status', () => {
  let api: TestApi
  let store: Versitygw
  let front: Interceptor
  const backupId = newBackupId()

  const direct = (work: (catalog: Catalog) => Promise<void>) =>
    api.restart(async () => {
      const secretKey = (await ensureSecretKey(api.settings)).key
      const catalog = await openCatalog({ url: api.settings.catalogUrl, secretKey })
      await work(catalog)
      await catalog.close()
    })
  const enter = (...rows: OperationRecord[]) =>
    direct(async catalog => {
      for (const row of rows) await insertOperation(catalog, row, null)
    })
  const settle = (...ids: string[]) =>
    direct(async catalog => {
      for (const id of ids) await updateOperation(catalog, id, { state: 'succeeded' })
    })

  before(async () => {
    store = await startVersitygw()
    front = await startInterceptor(store.endpoint)
    api = await startTestApi()
    await api.addSqlite('shop')
    await api.addDestination('disk')
    const added = await api.call('POST', '/v1/destinations', s3Input(store, 'vault', 'silent', front.url))
    assert.equal(added.status, 201, JSON.stringify(added.body))
    const names = { operationId: 'op-status000001', backupId, connection: 'shop', destination: 'disk' }
    await enter(operation(names.operationId, { backupId, state: 'running', runId: 'r' }))
    const to = await opened(api, 'disk')
    await commit(api, to, names, await attemptOf(api, to, names))
    await to.close()
    assert.equal((await api.call('POST', '/v1/catalog/rebuild', {})).status, 200)
    await settle(names.operationId)
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

  const ofShop = async () => {
    const { body } = await api.call<StatusView>('GET', '/v1/status')
    const found = body.databases.find(one => one.connection === 'shop')
    assert.ok(found)
    return { ...found, codes: found.problems.filter(one => one.level !== 'note').map(one => one.code) }
  }

  test('what its copies lack is said, and makes no database unwell', async () => {
    const { copies, level } = await ofShop()
    assert.equal(level, 'healthy')
    assert.equal(copies?.count, 2)
    assert.deepEqual(
      copies.missing.map(({ rule }) => rule),
      ['copies', 'media', 'off-site', 'immutable'],
    )
    assert.equal(copies.missing[1]?.command, `holdfast backups copy ${backupId} --to vault`)
    assert.equal(copies.missing[2]?.command, 'holdfast destination change disk --off-site')
  })

  test('what is parked or waits for approval is said with the command that takes it on', async () => {
    const error = { code: 'destination.full', detail: 'No room is left.', hint: 'Make room.' } as const
    await enter(
      operation('op-parked000001', { state: 'parked', error, runId: 'r', workflowId: 'w1' }),
      operation('op-waiting00001', {
        state: 'awaiting-approval',
        kind: 'restore',
        runId: 'r',
        workflowId: 'w2',
      }),
    )
    const found = await ofShop()
    assert.equal(found.level, 'warning')
    assert.deepEqual(found.codes.toSorted(), ['destination.full', 'operation.awaiting-approval'])
    const commands = found.problems.map(one => one.command)
    assert.ok(commands.includes('holdfast operation resume op-parked000001'))
    assert.ok(commands.includes('holdfast approve op-waiting00001'))
    await settle('op-parked000001', 'op-waiting00001')
    assert.deepEqual((await ofShop()).codes, [])
  })

  test('a schedule: what comes next; paused, it is said with its note', async () => {
    const spec = { at: ['02:30'], timeZone: 'Europe/Berlin' }
    await api.call('POST', '/v1/keys', { name: 'default' })
    const body = { name: 'nightly', connection: 'shop', destinations: ['disk'], spec }
    const made = await api.call('POST', '/v1/schedules', body)
    assert.equal(made.status, 201, JSON.stringify(made.body))
    const found = await ofShop()
    assert.deepEqual(found.codes, [])
    assert.deepEqual(
      found.schedules.map(one => [one.name, one.paused]),
      [['nightly', false]],
    )
    assert.match(found.schedules[0]?.next ?? '', /T0[01]:30:00\.000Z$/)
    await api.call('POST', '/v1/schedules/nightly/pause', { note: 'moving house' })
    const paused = await ofShop()
    assert.deepEqual(paused.codes, ['schedule.paused'])
    assert.match(paused.problems[0]?.detail ?? '', /moving house/)
    assert.equal(paused.schedules[0]?.next, null)
  })

  test('a silent store is called away, and what lies elsewhere is seen', async () => {
    assert.deepEqual(await shop(), { seen: true, away: [] })
    const held = front.hold('before', (_method, url) => url.includes('installation.json'))
    assert.deepEqual(await shop(), { seen: true, away: ['vault'] })
    held.cut()
    assert.deepEqual(await shop(), { seen: true, away: [] })
  })
})
