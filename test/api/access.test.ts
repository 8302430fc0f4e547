/** Roles, scopes and the audit, over every route there is. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { OpenAPIHono } from '@hono/zod-openapi'
import type { ApiEnv } from '../../api/context.ts'
import { neededRoles } from '../../api/roles.ts'
import { listAudit } from '../../catalog/audit.ts'
import { openCatalog } from '../../catalog/open.ts'
import { createToken } from '../../catalog/tokens.ts'
import { type Role, roleIncludes, roles } from '../../model/types.ts'
import type { Problem } from '../../model/views.ts'
import { startTestApi, type TestApi } from './support.ts'

interface Route {
  method: string
  path: string
  role: Role | 'none'
  subject: string
}

/** As the API describes itself. */
async function routesOf(t: TestApi): Promise<Route[]> {
  const { body } = await t.call<{
    paths: Record<string, Record<string, { 'x-role'?: Role | 'none'; tags: string[] }>>
  }>('GET', '/openapi.json')
  return Object.entries(body.paths)
    .filter(([path]) => path.startsWith('/v1/'))
    .flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, route]) => {
        assert.ok(route['x-role'], `${method} ${path} says no role`)
        return { method: method.toUpperCase(), path, role: route['x-role'], subject: route.tags[0] ?? '' }
      }),
    )
}

/** Valid as a path, and nothing is there. */
const filled = (path: string) =>
  path.replace(/\{(\w+)\}/g, (_, name: string) => (name === 'name' ? 'nothing-there' : 'no_such.thing'))

describe('access', () => {
  let t: TestApi
  const tokens = new Map<string, string>()
  const as = (who: string) => ({ authorization: `Bearer ${tokens.get(who)}` })

  before(async () => {
    t = await startTestApi()
    await t.restart(async () => {
      // As the first start would have it, with a token of each role beside.
      const { readFile } = await import('node:fs/promises')
      const secretKey = (await readFile(t.settings.secretKeyFile, 'utf8')).trim()
      const catalog = await openCatalog({ url: t.settings.catalogUrl, secretKey })
      const make = async (
        name: string,
        role: Role,
        scopes: string[] | null = null,
        expiresAt: string | null = null,
      ) => {
        const made = await createToken(catalog, {
          name,
          user: null,
          role,
          scopes,
          connections: null,
          expiresAt,
        })
        tokens.set(name, made.token)
      }
      for (const role of roles) await make(role, role)
      await make('limited', 'admin', ['backups:write', 'operations:read'])
      await make('reader', 'admin', ['read'])
      await make('expired', 'admin', null, new Date(Date.now() - 1000).toISOString())
      await catalog.close()
    })
  })
  after(() => t.stop())

  test('every route refuses every role below its own, before it looks at anything else', async () => {
    const routes = await routesOf(t)
    assert.ok(routes.length > 20)
    for (const { method, path, role } of routes) {
      if (role === 'none') continue
      for (const one of roles) {
        const answer = await t.call<Problem | undefined>(method, filled(path), undefined, as(one))
        if (roleIncludes(one, role)) {
          // What is somebody else's may still be refused, further in.
          const refused = answer.body?.detail?.startsWith(`${method} ${path} needs the role`)
          assert.notEqual(refused, true, `${one} may ask ${method} ${path}`)
          // No Temporal runs here, which is all that may still be missing.
          const away = answer.body?.code === 'temporal.unreachable'
          assert.ok(answer.status < 500 || away, `${method} ${path}: ${answer.status}`)
        } else {
          assert.equal(answer.status, 403, `${one} may not ask ${method} ${path}`)
          assert.equal(answer.body?.code, 'request.forbidden')
        }
      }
    }
    // Viewers change nothing but what is their own; open is nothing but the login.
    const changes = (role: string) =>
      routes
        .filter(route => route.method !== 'GET' && route.role === role)
        .map(({ method, path }) => `${method} ${path}`)
    assert.deepEqual(changes('viewer').sort(), [
      'DELETE /v1/sessions/{id}',
      'DELETE /v1/tokens/{id}',
      'POST /v1/tokens',
      'PUT /v1/users/{name}/password',
    ])
    assert.deepEqual(changes('none'), ['POST /v1/sessions'])
    assert.deepEqual(
      routes.filter(route => route.method === 'GET' && route.role === 'none'),
      [],
    )
  })

  test('a limited token does what its scopes say and nothing else, whatever its role', async () => {
    for (const { method, path, subject, role } of await routesOf(t)) {
      if (role === 'none') continue
      const read = method === 'GET'
      const limited = await t.call<Problem | undefined>(method, filled(path), undefined, as('limited'))
      const may = subject === 'backups' || (subject === 'operations' && read)
      assert.equal(limited.status === 403, !may, `${method} ${path}: ${limited.status}`)
      const reader = await t.call<Problem | undefined>(method, filled(path), undefined, as('reader'))
      assert.equal(reader.status === 403, !read, `${method} ${path}: ${reader.status}`)
    }
  })

  test('a token after its time is as unknown as one that was never made', async () => {
    for (const who of ['expired', 'never']) {
      assert.equal((await t.call('GET', '/v1/connections', undefined, as(who))).status, 401)
    }
  })

  test('a route that does not say who may ask keeps the API from starting', () => {
    const app = new OpenAPIHono<ApiEnv>()
    app.openAPIRegistry.registerPath({ method: 'post', path: '/v1/open', tags: ['open'], responses: {} })
    assert.throws(() => neededRoles(app), /POST \/v1\/open does not say who may ask/)
  })

  test('every change and every refusal has its row, and the rows hold together', async () => {
    const t = await startTestApi()
    try {
      await t.addSqlite('shop')
      await t.refused('POST', '/v1/connections', { name: 'shop', url: '/tmp/x.db' })
      await t.refused('POST', '/v1/connections', { name: 'hunter2', password: 'hunter2' })
      await t.call('POST', '/v1/connections/shop/check')
      await t.call('GET', '/v1/connections/none')
      await t.call('DELETE', '/v1/connections/shop')
      await t.call('GET', '/v1/connections', undefined, { authorization: 'Bearer hunter2hunter2' })
      for (let n = 0; n < 30; n++) {
        await t.call('POST', '/v1/backups', {}, { authorization: `Bearer hunter2-${n}` })
      }
      await t.call('POST', '/v1/nothing', {})
      await t.restart(async () => {
        const { readFile } = await import('node:fs/promises')
        const secretKey = (await readFile(t.settings.secretKeyFile, 'utf8')).trim()
        const catalog = await openCatalog({ url: t.settings.catalogUrl, secretKey })
        const rows = (await listAudit(catalog, {}, undefined, 200)).reverse()
        await catalog.close()
        const told = rows.map(row => [row.actor, row.action, row.object, row.outcome, row.detail.code])
        const home = 'token:home'
        assert.deepEqual(told.slice(0, 7), [
          [home, 'POST /v1/connections', '/v1/connections', 'done', undefined],
          [home, 'POST /v1/connections', '/v1/connections', 'refused', 'request.exists'],
          [home, 'POST /v1/connections', '/v1/connections', 'refused', 'request.invalid'],
          [home, 'POST /v1/connections/{name}/check', '/v1/connections/shop/check', 'done', undefined],
          [home, 'DELETE /v1/connections/{name}', '/v1/connections/shop', 'done', undefined],
          ['nobody', 'GET /v1/connections', '/v1/connections', 'refused', 'request.unauthenticated'],
          ['nobody', 'POST /v1/backups', '/v1/backups', 'refused', 'request.unauthenticated'],
        ])
        assert.equal(rows[0]?.detail.name, 'shop')
        assert.equal(rows[0]?.address, '127.0.0.1')
        // Of thirty-one strangers ten have their own row, the others one together.
        const strangers = rows.filter(row => row.actor === 'nobody')
        assert.equal(strangers.length, 11)
        assert.equal(strangers.at(-1)?.detail.times, 21)
        assert.ok(told.some(([, action]) => action === 'POST (unknown address)'))
        assert.ok(!JSON.stringify(rows).includes('hunter2'))
      })
    } finally {
      await t.stop()
    }
  })

  test("one's Idempotency-Key is not another's", async () => {
    const key = { 'idempotency-key': 'nightly' }
    const first = await t.call('POST', '/v1/keys', { name: 'mine' }, { ...key, ...as('admin') })
    assert.equal(first.status, 201)
    const replayed = await t.call('POST', '/v1/keys', { name: 'mine' }, { ...key, ...as('admin') })
    assert.equal(replayed.headers.get('idempotency-replayed'), 'true')
    assert.equal(
      (await t.call('POST', '/v1/keys', { name: 'mine' }, { ...key, ...as('viewer') })).status,
      403,
    )
    const other = await t.call<Problem>('POST', '/v1/keys', { name: 'mine' }, key)
    assert.deepEqual([other.status, other.body.code], [409, 'request.exists'])
  })
})
