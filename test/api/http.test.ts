/** What every request passes: tokens, methods, sizes, JSON, headers. No Temporal is there. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { request } from 'node:http'
import { after, before, describe, test } from 'node:test'
import type { Problem } from '../../model/views.ts'
import { startTestApi, type TestApi } from './support.ts'

describe('HTTP', () => {
  let t: TestApi
  before(async () => {
    t = await startTestApi()
  })
  after(() => t.stop())

  test('health and the description are open, everything else needs the token', async () => {
    const open = await fetch(`${t.api.url}/healthz`)
    assert.deepEqual(await open.json(), { status: 'ok' })
    assert.equal((await fetch(`${t.api.url}/openapi.json`)).status, 200)
    for (const header of ['', 'Bearer', 'Bearer x', `Basic ${t.token}`, `Bearer ${t.workerToken}`]) {
      const answer = await fetch(`${t.api.url}/v1/connections`, { headers: { authorization: header } })
      assert.equal(answer.status, 401, header)
      assert.equal(answer.headers.get('content-type'), 'application/problem+json')
      assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer/)
      assert.equal(((await answer.json()) as Problem).code, 'request.unauthenticated')
    }
    assert.equal((await t.call('GET', '/v1/connections')).status, 200)
    assert.equal((await t.call('POST', '/internal/v1/writer', { args: [] })).status, 401)
  })

  test('without Temporal it is alive but not ready, and starts nothing', async () => {
    const answer = await t.call<{ temporal: boolean; catalog: boolean }>('GET', '/readyz')
    assert.equal(answer.status, 503)
    assert.deepEqual(answer.body, { status: 'not ready', catalog: true, temporal: false })
    await t.addSqlite('still')
    await t.addDestination('there')
    const refused = await t.refused('POST', '/v1/backups', { connection: 'still', encryptTo: [] })
    assert.equal(refused.code, 'temporal.unreachable')
    assert.deepEqual((await t.call<{ items: unknown[] }>('GET', '/v1/operations')).body.items, [])
  })

  test('unknown addresses, other methods', async () => {
    const missing = await t.refused('GET', '/v1/nothing')
    assert.deepEqual([missing.status, missing.code], [404, 'request.not-found'])
    const answer = await t.call<Problem>('PUT', '/v1/connections/shop', {})
    assert.equal(answer.status, 405)
    assert.equal(answer.headers.get('allow'), 'GET, DELETE, PATCH')
    assert.equal((await fetch(`${t.api.url}/healthz`, { method: 'POST' })).status, 405)
  })

  test('security headers on answers and on refusals', async () => {
    for (const path of ['/healthz', '/v1/connections', '/nothing']) {
      const { headers } = await fetch(`${t.api.url}${path}`)
      assert.equal(headers.get('x-content-type-options'), 'nosniff')
      assert.equal(headers.get('cache-control'), 'no-store')
      assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'/)
    }
  })

  test('bodies that are not one JSON object', async () => {
    const cases: [string, Record<string, string>, number][] = [
      ['{"name":', {}, 400],
      ['{"name":"a"} x', {}, 400],
      ['[]', {}, 422],
      ['null', {}, 422],
      ['"text"', {}, 422],
      ['{}', { 'content-type': 'text/plain' }, 415],
      ['name=a', { 'content-type': 'application/x-www-form-urlencoded' }, 415],
    ]
    for (const [body, headers, status] of cases) {
      const answer = await t.call<Problem>('POST', '/v1/keys', body, headers)
      assert.equal(answer.status, status, body)
      assert.equal(answer.body.code, 'request.invalid')
    }
  })

  test('fields that are there twice, and prototypes', async () => {
    const twice = await t.refused(
      'POST',
      '/v1/restores',
      '{"backup":"a:latest","target":{"connection":"a","connection":"b"}}',
    )
    assert.deepEqual(twice.errors, [{ path: 'target.connection', message: 'this field is there twice' }])
    const escaped = await t.refused('POST', '/v1/keys', '{"name":"a","na\\u006de":"b"}')
    assert.deepEqual(escaped.errors, [{ path: 'name', message: 'this field is there twice' }])
    const prototype = await t.refused(
      'POST',
      '/v1/backups',
      '{"connection":"a","labels":{"__proto__":{"admin":true}}}',
    )
    assert.deepEqual(prototype.errors, [{ path: 'labels.__proto__', message: 'this name is not allowed' }])
    assert.equal(({} as Record<string, unknown>).admin, undefined)
    const fine = await t.refused(
      'POST',
      '/v1/backups',
      '{"connection":"a","labels":{"a":"{\\"a\\":1,\\"a\\":2}"}}',
    )
    assert.equal(fine.code, 'request.not-found')
    const deep = `${'{"a":'.repeat(200)}1${'}'.repeat(200)}`
    assert.equal((await t.refused('POST', '/v1/keys', deep)).code, 'request.invalid')
  })

  test('bodies over a mebibyte, with and without a length', async () => {
    const big = JSON.stringify({ name: 'x'.repeat(1024 * 1024) })
    const announced = await t.refused('POST', '/v1/keys', big)
    assert.deepEqual([announced.status, announced.code], [413, 'request.too-large'])
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const url = new URL('/v1/keys', t.api.url)
      const sent = request(url, {
        method: 'POST',
        headers: { authorization: `Bearer ${t.token}`, 'content-type': 'application/json' },
      })
      sent.once('response', response => {
        response.resume()
        resolve(response.statusCode)
      })
      sent.once('error', reject)
      // Without a length: chunked.
      for (let part = 0; part < 40; part++) sent.write('x'.repeat(32 * 1024))
      sent.end()
    })
    assert.equal(status, 413)
  })

  test('wrong types, unknown fields and unknown filters are named', async () => {
    const wrong = await t.refused('POST', '/v1/backups', {
      connection: 7,
      destinations: 'vault',
      jobs: '4',
      overwrite: true,
    })
    assert.deepEqual(wrong.errors?.map(field => field.path).sort(), [
      'connection',
      'destinations',
      'jobs',
      'overwrite',
    ])
    const nested = await t.refused('POST', '/v1/restores', {
      backup: 'a:latest',
      target: { connection: 'a', database: 'b', host: 'c' },
      replace: true,
    })
    assert.deepEqual(nested.errors?.map(field => field.path).sort(), ['replace', 'target.host'])
    for (const query of [
      'states=running',
      'state=lost',
      'cursor=nonsense',
      'limit=0',
      'limit=9999',
      'kind=a&kind=b',
    ]) {
      assert.equal((await t.refused('GET', `/v1/operations?${query}`)).code, 'request.invalid', query)
    }
  })

  test('names that are paths, options, commands', async () => {
    const names = [
      '..',
      '../up',
      'a/b',
      '-rf',
      '--help',
      '$(id)',
      '`id`',
      'a;b',
      'a b',
      'a\nb',
      '',
      'A',
      'ä',
      'x'.repeat(64),
      'constructor ',
    ]
    for (const name of names) {
      for (const [path, body] of [
        ['/v1/connections', { name, url: '/tmp/none.db' }],
        ['/v1/destinations', { name, uri: '/tmp' }],
        ['/v1/keys', { name }],
        ['/v1/backups', { connection: name }],
      ] as const) {
        const refused = await t.refused('POST', path, body)
        assert.equal(refused.code, 'request.invalid', `${path} ${name}`)
        assert.match(refused.errors?.[0]?.path ?? '', /^(name|connection)$/)
      }
    }
    for (const path of [
      '/v1/connections/..%2f..',
      '/v1/backups/..%2fetc',
      '/v1/operations/op-%24(id)',
      '/v1/destinations/-x/check',
    ]) {
      const method = path.endsWith('check') ? 'POST' : 'GET'
      assert.equal((await t.refused(method, path)).status, 422, path)
    }
  })

  test('every route is described, with its refusals', async () => {
    const document = (await (await fetch(`${t.api.url}/openapi.json`)).json()) as {
      openapi: string
      paths: Record<string, Record<string, { responses: Record<string, unknown>; summary?: string }>>
    }
    assert.equal(document.openapi, '3.1.0')
    const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, route]) => ({ path, method, route })),
    )
    assert.ok(routes.length >= 20)
    for (const { path, method, route } of routes) {
      assert.ok(route.summary, `${method} ${path} has no summary`)
      if (path.startsWith('/v1/')) assert.ok(route.responses.default, `${method} ${path} has no problem`)
    }
  })

  test('/docs shows every route, without a script and with nothing from elsewhere', async () => {
    const answer = await fetch(`${t.api.url}/docs`)
    assert.equal(answer.headers.get('content-type'), 'text/html; charset=utf-8')
    const page = await answer.text()
    const { paths } = (await (await fetch(`${t.api.url}/openapi.json`)).json()) as { paths: object }
    for (const path of Object.keys(paths)) assert.ok(page.includes(`<code>${path}</code>`), path)
    assert.doesNotMatch(page, /<script|<link|<img|@import|url\(|https?:|javascript:| on[a-z]+=/i)
    // The one style is allowed by its hash, and nothing else is.
    const style = /<style>([\s\S]*)<\/style>/.exec(page)?.[1] ?? ''
    const hash = createHash('sha256').update(style).digest('base64')
    assert.equal(
      answer.headers.get('content-security-policy'),
      `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    )
  })
})
