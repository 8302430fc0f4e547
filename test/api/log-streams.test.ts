/** What the API takes and says of servers whose log is streamed; the streaming itself is test/system/log-stream.test.ts. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { LogStreamView } from '../../model/log-stream.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startTestApi, type TestApi } from './support.ts'

const path = '/v1/connections/shop-1/log-stream'

describe('log streams', () => {
  let api: TestApi
  let server: TestPostgres

  before(async () => {
    ;[server, api] = await Promise.all([startPostgres({ version: 15 }), startTestApi()])
    const added = await api.call('POST', '/v1/connections', { name: 'shop-1', url: server.url() })
    assert.equal(added.status, 201, JSON.stringify(added.body))
    await api.call('POST', '/v1/keys', { name: 'default' })
    await api.addDestination('vault')
    await api.addDestination('other')
    await api.addSqlite('notes')
  })
  after(async () => {
    await api?.stop()
    await server?.stop()
  })

  test('is refused for what has no such log, for destinations that are not there, and for odd names', async () => {
    const code = async (method: string, at: string, body?: unknown) =>
      (await api.refused(method, at, body)).code
    assert.equal(await code('GET', path), 'request.not-found')
    assert.equal(await code('POST', `${path}/stop`, {}), 'request.not-found')
    assert.equal(await code('POST', '/v1/connections/notes/log-stream', {}), 'wal.not-postgresql')
    assert.equal(await code('POST', path, {}), 'request.invalid')
    assert.equal(await code('POST', path, { destinations: ['nowhere'] }), 'request.invalid')
    assert.equal(await code('POST', path, { destinations: ['vault'], slot: 'Slot;' }), 'request.invalid')
    assert.equal(await code('POST', path, { destinations: ['vault'], spoolLimitBytes: 1 }), 'request.invalid')
    assert.deepEqual((await api.call<{ items: [] }>('GET', '/v1/log-streams')).body.items, [])
  })

  test('is on record whether Temporal answers or not, changes what is said, and holds what it needs', async () => {
    const made = await api.call<LogStreamView>('POST', path, { destinations: ['vault'] })
    assert.equal(made.status, 200, JSON.stringify(made.body))
    const { slot, wanted, recipients, state, workflowId } = made.body
    assert.deepEqual(
      [slot, wanted, recipients, state, workflowId],
      ['holdfast_shop_1', 'running', ['default'], null, 'logs/shop-1'],
    )
    const spoolLimitBytes = 2 ** 30
    const changed = await api.call<LogStreamView>('POST', path, { spoolLimitBytes })
    assert.deepEqual([changed.body.spoolLimitBytes, changed.body.destinations], [spoolLimitBytes, ['vault']])
    const listed = await api.call<{ items: LogStreamView[] }>('GET', '/v1/log-streams')
    assert.deepEqual(listed.body.items, [changed.body])
    // The former one would keep the log of the server for ever.
    assert.equal((await api.refused('POST', path, { slot: 'another' })).code, 'request.in-use')
    assert.equal((await api.refused('DELETE', '/v1/connections/shop-1')).code, 'request.in-use')
    assert.equal((await api.refused('DELETE', '/v1/destinations/vault')).code, 'request.in-use')
  })

  test('is to be stopped, and the slot is kept unless somebody says so', async () => {
    const stopping = await api.call<LogStreamView>('POST', `${path}/stop`, {})
    assert.deepEqual([stopping.status, stopping.body.wanted], [202, 'stopping'])
    assert.equal((await api.call<LogStreamView>('POST', path, {})).body.wanted, 'running')
    assert.equal((await api.call<LogStreamView>('POST', `${path}/stop`, { slot: 'drop' })).status, 202)
    assert.equal((await api.call<LogStreamView>('GET', path)).body.wanted, 'stopping')
  })
})
