/** Tokens that are limited to connections: of any other one they see and do nothing, by whatever route. */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { TokenMade } from '../../model/access.ts'
import type { OperationView, Problem } from '../../model/views.ts'
import { addPerson, askFor, awaiting, type Person } from '../support/people.ts'
import { startWorkedApi, type WorkedApi } from './worked.ts'

interface Described {
  paths: Record<string, Record<string, { 'x-role'?: string }>>
}

describe('tokens that are limited to connections', () => {
  let stack: WorkedApi
  let anna: Person
  /** Of an admin: no role may help. */
  let limited = ''
  let hiddenPath = ''
  const ids = { backup: '', mine: '', operation: '', waiting: '', running: '', drill: '' }

  const call = <T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    stack.call<T>(method, path, body, { authorization: `Bearer ${limited}`, ...headers })

  before(async () => {
    stack = await startWorkedApi()
    const vault = join(stack.directory, 'vault')
    mkdirSync(vault)
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: vault })
    await stack.api.addSqlite('mine')
    hiddenPath = await stack.api.addSqlite('hidden')
    anna = await addPerson(stack, 'anna', 'approver')
    for (const connection of ['mine', 'hidden']) {
      const { id } = await stack.backup({ connection, destinations: ['vault'] })
      const view = await stack.ended(id)
      assert.equal(view.state, 'succeeded')
      await stack.expectOk('POST', '/v1/schedules', {
        name: `${connection}-nightly`,
        connection,
        spec: { cron: '0 2 * * *', timeZone: 'UTC' },
      })
      if (connection === 'mine') ids.mine = view.backup
      else [ids.backup, ids.operation] = [view.backup, id]
    }
    const rehearsed = await stack.expectOk<{ operation: OperationView }>('POST', '/v1/drills', {
      backup: ids.backup,
      quick: true,
    })
    ids.drill = rehearsed.operation.id
    assert.equal((await stack.ended(ids.drill)).state, 'succeeded')
    const target = { connection: 'hidden', database: hiddenPath }
    const { body } = await askFor(anna, { backup: ids.backup, target })
    ids.waiting = body.operation.id
    assert.equal((await awaiting(stack, ids.waiting)).state, 'awaiting-approval')
    const made = await stack.expectOk<TokenMade>('POST', '/v1/tokens', {
      name: 'narrow',
      role: 'admin',
      connections: ['mine'],
    })
    assert.deepEqual(made.connections, ['mine'])
    limited = made.token
  })
  after(() => stack?.stop())

  /** Everything that tells of the connection. */
  const words = () => ['hidden', ids.backup, ids.operation, ids.waiting, ids.drill]
  const beside = (name: string) => ({ connection: name, database: join(stack.directory, 'beside.db') })
  /** What only a body names. A new route that needs one is missing here, and fails. */
  const bodies = (): Record<string, unknown[]> => ({
    'POST /v1/backups': [
      { connection: 'hidden', destinations: ['vault'] },
      { connection: 'hidden', dryRun: true },
    ],
    'POST /v1/restores': [
      { backup: ids.backup, target: beside('mine') },
      { backup: 'hidden:latest', target: beside('mine') },
      { backup: ids.mine, target: beside('hidden') },
      { backup: ids.mine, target: { connection: 'mine', database: hiddenPath } },
      { backup: ids.backup, target: beside('mine'), dryRun: true },
    ],
    'POST /v1/drills': [
      { backup: ids.backup },
      { backup: 'hidden:latest', target: 'mine' },
      { backup: ids.mine, target: 'hidden' },
    ],
    'POST /v1/pitr': [
      { connection: 'hidden', to: { kind: 'latest' }, target: { directory: '/srv/mine' } },
      {
        connection: 'mine',
        to: { kind: 'latest' },
        target: { connection: 'hidden', directory: '/srv/mine' },
      },
      {
        connection: 'mine',
        to: { kind: 'latest' },
        target: { directory: '/srv/mine' },
        only: { database: 'shop', into: { connection: 'hidden', database: 'shop' } },
      },
    ],
    'POST /v1/schedules': [
      {
        name: 'sly',
        kind: 'drill',
        connection: 'mine',
        options: { target: 'hidden' },
        spec: { cron: '0 2 * * *', timeZone: 'UTC' },
      },
      { name: 'sly', connection: 'hidden', spec: { cron: '0 2 * * *', timeZone: 'UTC' } },
    ],
  })
  /** Of whoever may see everything. An answer may be a stream that does not end. */
  const statusForAll = async (path: string): Promise<number> => {
    const headers = { authorization: `Bearer ${stack.api.token}` }
    const answer = await fetch(`${stack.api.api.url}${path}`, { headers })
    await answer.body?.cancel()
    return answer.status
  }
  const addresses = (path: string): string[] => {
    const to = (...values: string[]) => values.map(value => path.replace(/\{\w+\}/, value))
    if (path.startsWith('/v1/operations/')) return to(ids.operation, ids.waiting)
    if (path.startsWith('/v1/drills/')) return to(ids.drill)
    if (path.startsWith('/v1/backups/')) return to(ids.backup)
    if (path.startsWith('/v1/schedules/')) return to('hidden-nightly')
    if (path.startsWith('/v1/connections/')) return to('hidden')
    if (path.startsWith('/v1/destinations/')) return to('vault')
    if (path.startsWith('/v1/hosts/')) return to('box')
    if (path.startsWith('/v1/keys/')) return to('default')
    if (path.startsWith('/v1/bandwidth/')) return ['/v1/bandwidth/destination/vault']
    if (path.startsWith('/v1/users/')) return to('anna')
    if (path.startsWith('/v1/tokens/')) return to('tok-ABCDEFGH')
    if (path.startsWith('/v1/sessions/')) return to('ses-ABCDEFGH')
    assert.ok(!path.includes('{'), `this test does not know what ${path} names`)
    return [path]
  }

  test('every route there is: what is hidden is not there, or the route is not for such a token', async () => {
    const { body: described } = await stack.call<Described>('GET', '/openapi.json')
    let asked = 0
    for (const [path, methods] of Object.entries(described.paths)) {
      if (!path.startsWith('/v1/')) continue
      for (const [verb, route] of Object.entries(methods)) {
        if (route['x-role'] === 'none') continue
        const method = verb.toUpperCase()
        for (const address of addresses(path)) {
          for (const body of method === 'GET' ? [undefined] : (bodies()[`${method} ${path}`] ?? [{}])) {
            const answer = await call<Problem>(method, address, body)
            asked += 1
            const what = `${method} ${address} ${JSON.stringify(body)}: ${answer.status} ${JSON.stringify(answer.body)}`
            if (method === 'GET' && answer.status === 200) {
              for (const word of words()) assert.ok(!JSON.stringify(answer.body).includes(word), what)
            } else assert.ok([403, 404].includes(answer.status), what)
            // The reason must be that, and not some other mistake of this test.
            if (method === 'GET' && answer.status === 404)
              assert.notEqual(await statusForAll(address), 404, what)
          }
        }
      }
    }
    assert.ok(asked > 60, `${asked} requests`)
    // Nothing of it was done.
    assert.equal((await stack.operation(ids.waiting)).state, 'awaiting-approval')
    const { items } = await stack.expectOk<{ items: OperationView[] }>('GET', '/v1/operations')
    assert.equal(items.length, 4)
  })

  test('what is named and hidden is answered as what is not there', async () => {
    for (const [hidden, none] of [
      ['/v1/connections/hidden', '/v1/connections/none'],
      [`/v1/operations/${ids.operation}`, '/v1/operations/op-none12345678'],
      ['/v1/schedules/hidden-nightly', '/v1/schedules/none'],
    ] as const) {
      const answers = await Promise.all([hidden, none].map(path => call<Problem>('GET', path)))
      const [one, other] = answers.map(({ status, body }) => [status, body.code, body.title, body.hint])
      assert.deepEqual(one, other)
    }
  })

  test('what is its own it sees and does', async () => {
    const lists = ['/v1/connections', '/v1/operations', '/v1/backups', '/v1/schedules']
    for (const path of lists) {
      const { body } = await call<{ items: unknown[] }>('GET', path)
      assert.equal(body.items.length, 1, path)
    }
    const hidden = await call<{ items: unknown[] }>('GET', '/v1/operations?connection=hidden')
    assert.deepEqual(hidden.body.items, [])
    const status = await call<{ databases: { connection: string }[] }>('GET', '/v1/status')
    assert.deepEqual(
      status.body.databases.map(one => one.connection),
      ['mine'],
    )
    const me = await call<{ connections: string[] }>('GET', '/v1/me')
    assert.deepEqual(me.body.connections, ['mine'])
    const begun = await call<{ operation: OperationView }>('POST', '/v1/backups', {
      connection: 'mine',
      destinations: ['vault'],
    })
    assert.equal((await stack.ended(begun.body.operation.id)).state, 'succeeded')
    assert.equal((await call('GET', `/v1/operations/${begun.body.operation.id}/plan`)).status, 200)
    const back = await call<{ operation: OperationView }>('POST', '/v1/restores', {
      backup: 'mine:latest',
      target: { connection: 'mine', database: join(stack.directory, 'back.db') },
    })
    assert.equal((await stack.ended(back.body.operation.id)).state, 'succeeded')
    assert.equal((await call('POST', '/v1/schedules/mine-nightly/pause', {})).status, 200)
  })

  test('an answer that another token got is not repeated to it', async () => {
    const headers = { 'idempotency-key': 'the-same' }
    const body = { connection: 'hidden', destinations: ['vault'] }
    const { token } = await stack.expectOk<TokenMade>('POST', '/v1/tokens', {
      name: 'annas-narrow',
      user: 'anna',
      role: 'operator',
      connections: ['mine'],
    })
    const wide = await stack.call<{ operation: OperationView }>('POST', '/v1/backups', body, {
      authorization: `Bearer ${anna.token}`,
      ...headers,
    })
    assert.equal(wide.status, 202)
    const narrow = await stack.call('POST', '/v1/backups', body, {
      authorization: `Bearer ${token}`,
      ...headers,
    })
    assert.equal(narrow.status, 404)
    await stack.ended(wide.body.operation.id)
  })

  test('it is limited to what is there, and pre-empts nobody else on its server', async () => {
    const unknown = await stack.refused('POST', '/v1/tokens', { name: 'typo', connections: ['mien'] })
    assert.equal(unknown.errors?.[0]?.path, 'connections.0')
    await stack.expectOk('POST', '/v1/connections', { name: 'twin', url: join(stack.home, 'mine.db') })
    const asked = { backup: ids.mine, target: beside('mine'), preempt: true }
    assert.equal((await call<Problem>('POST', '/v1/restores', asked)).status, 403)
    await stack.expectOk('DELETE', '/v1/connections/twin')
    const alone = await call<{ operation: OperationView }>('POST', '/v1/restores', asked)
    assert.equal(alone.status, 202, JSON.stringify(alone.body))
    assert.equal((await stack.ended(alone.body.operation.id)).state, 'succeeded')
  })
})
