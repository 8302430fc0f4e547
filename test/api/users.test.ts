/** Users, tokens and sessions by HTTP: logins, cookies, other sites, escalation. */
import assert from 'node:assert/strict'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type {
  AuditView,
  SessionMade,
  SessionView,
  TokenMade,
  TokenView,
  UserView,
} from '../../model/access.ts'
import type { Problem } from '../../model/views.ts'
import { startTestApi, type TestApi } from './support.ts'

const password = 'kanarienvogel-51ad password'
const tokens: string[] = []

describe('users, tokens and sessions', () => {
  let t: TestApi
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
  const newToken = async (input: object, headers: Record<string, string> = {}) => {
    const answer = await t.call<TokenMade>('POST', '/v1/tokens', input, headers)
    if (answer.body.token) tokens.push(answer.body.token)
    return answer
  }
  /** No bearer token: what a browser sends. */
  const login = async (user: string, given: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${t.api.url}/v1/sessions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ user, password: given }),
    })
    const cookie = response.headers.getSetCookie()[0] ?? ''
    const [name = '', secret = ''] = (cookie.split(';')[0] ?? '').split('=')
    if (secret !== '') tokens.push(secret)
    const body = (await response.json()) as SessionMade & Problem
    return { status: response.status, body, cookie, headers: { cookie: `${name}=${secret}` }, response }
  }
  const browse = (method: string, path: string, headers: Record<string, string>, body?: unknown) =>
    fetch(`${t.api.url}${path}`, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })

  before(async () => {
    t = await startTestApi()
    for (const [name, role] of [
      ['ada', 'admin'],
      ['grace', 'admin'],
      ['olga', 'operator'],
      ['vera', 'viewer'],
    ] as const) {
      const made = await t.call<UserView>('POST', '/v1/users', { name, role, password })
      assert.deepEqual([made.status, made.body.role, made.body.hasPassword], [201, role, true])
    }
  })
  after(() => t.stop())

  test('users: added, listed in pages, changed with their ETag, and the last admin stays', async () => {
    assert.equal(
      (await t.refused('POST', '/v1/users', { name: 'ada', role: 'viewer' })).code,
      'request.exists',
    )
    const short = await t.refused('POST', '/v1/users', { name: 'short', role: 'viewer', password: 'short' })
    assert.equal(short.errors?.[0]?.path, 'password')
    const names: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const query: string = cursor === '' ? '' : `&cursor=${cursor}`
      const { body } = await t.call<{ items: UserView[]; nextCursor: string | null }>(
        'GET',
        `/v1/users?limit=3${query}`,
      )
      names.push(...body.items.map(user => user.name))
      cursor = body.nextCursor
    }
    assert.deepEqual(names, ['ada', 'grace', 'olga', 'vera'])
    const seen = (await t.call('GET', '/v1/users/olga')).headers.get('etag') ?? ''
    const changed = await t.call<UserView>(
      'PATCH',
      '/v1/users/olga',
      { role: 'approver' },
      { 'if-match': seen },
    )
    assert.deepEqual([changed.status, changed.body.role], [200, 'approver'])
    const late = await t.call<Problem>('PATCH', '/v1/users/olga', { role: 'admin' }, { 'if-match': seen })
    assert.deepEqual([late.status, late.body.code], [412, 'request.changed'])
    const now = changed.headers.get('etag') ?? ''
    assert.equal(
      (await t.call('PATCH', '/v1/users/olga', { role: 'operator' }, { 'if-match': now })).status,
      200,
    )
    assert.equal((await t.call('PATCH', '/v1/users/grace', { disabled: true })).status, 200)
    assert.equal((await t.refused('PATCH', '/v1/users/ada', { role: 'viewer' })).code, 'user.last-admin')
    assert.equal((await t.call('PATCH', '/v1/users/grace', { disabled: false })).status, 200)
    assert.equal((await t.refused('PATCH', '/v1/users/nobody', { role: 'viewer' })).status, 404)
  })

  test('a login gives a cookie that scripts and other sites cannot use, and changes need the token beside it', async () => {
    const session = await login('olga', password)
    assert.equal(session.status, 201)
    assert.match(
      session.cookie,
      /^holdfast_session=hf_session_[\w-]{43}; Max-Age=43200; Path=\/; HttpOnly; SameSite=Strict$/,
    )
    const csrf = { 'x-csrf-token': session.body.csrfToken }
    const me = (await (await browse('GET', '/v1/me', session.headers)).json()) as {
      csrfToken: string
      role: string
    }
    assert.deepEqual([me.csrfToken, me.role], [session.body.csrfToken, 'operator'])
    const ask = async (headers: Record<string, string>) =>
      (await browse('POST', '/v1/connections/none/check', { ...session.headers, ...headers }, {})).status
    assert.equal(await ask({}), 403, 'a cookie alone')
    assert.equal(await ask({ 'x-csrf-token': `${session.body.csrfToken.slice(0, -1)}_` }), 403)
    assert.equal(await ask({ ...csrf, 'sec-fetch-site': 'cross-site' }), 403)
    assert.equal(await ask({ ...csrf, 'sec-fetch-site': 'same-site' }), 403)
    assert.equal(await ask({ ...csrf, origin: 'https://evil.example' }), 403)
    assert.equal(await ask({ ...csrf, origin: 'null' }), 403)
    assert.equal(await ask(csrf), 404)
    assert.equal(await ask({ ...csrf, 'sec-fetch-site': 'same-origin', origin: t.api.url }), 404)
    // Another session's token does not fit, and logging in from another site does not work.
    const other = await login('olga', password)
    assert.equal(await ask({ 'x-csrf-token': other.body.csrfToken }), 403)
    assert.equal((await login('olga', password, { 'sec-fetch-site': 'cross-site' })).status, 403)
    const form = await fetch(`${t.api.url}/v1/sessions`, {
      method: 'POST',
      headers: { 'content-type': 'text/plain' },
      body: JSON.stringify({ user: 'olga', password }),
    })
    assert.equal(form.status, 415)
    assert.equal(form.headers.get('access-control-allow-origin'), null)

    const list = (await (await browse('GET', '/v1/sessions', session.headers)).json()) as {
      items: SessionView[]
    }
    assert.deepEqual(list.items.map(item => [item.user, item.current]).sort(), [
      ['olga', false],
      ['olga', true],
    ])
    assert.equal(
      (await browse('DELETE', `/v1/sessions/${other.body.id}`, { ...session.headers, ...csrf })).status,
      204,
    )
    assert.equal((await browse('GET', '/v1/me', other.headers)).status, 401)
    const out = await browse('DELETE', '/v1/sessions/current', { ...session.headers, ...csrf })
    assert.equal(out.status, 204)
    assert.match(out.headers.getSetCookie()[0] ?? '', /^holdfast_session=; Max-Age=0/)
    assert.equal((await browse('GET', '/v1/me', session.headers)).status, 401)
  })

  test('a proxy that we trust says where clients are and that they use TLS; others cannot', async () => {
    const forwarded = { 'x-forwarded-for': '10.6.6.6, 192.0.2.7', 'x-forwarded-proto': 'https' }
    assert.doesNotMatch((await login('vera', password, forwarded)).cookie, /Secure/)
    const behind = await startTestApi({ env: { HOLDFAST_API_TRUSTED_PROXIES: '127.0.0.0/8, 10.6.0.0/16' } })
    try {
      await behind.call('POST', '/v1/users', { name: 'vera', role: 'viewer', password })
      const answer = await fetch(`${behind.api.url}/v1/sessions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...forwarded },
        body: JSON.stringify({ user: 'vera', password }),
      })
      const cookie = answer.headers.getSetCookie()[0] ?? ''
      assert.match(cookie, /^__Host-holdfast_session=.*; Path=\/; HttpOnly; Secure; SameSite=Strict$/)
      const me = (headers: Record<string, string>) => fetch(`${behind.api.url}/v1/me`, { headers })
      const [pair = ''] = cookie.split(';')
      assert.equal((await me({ cookie: pair, ...forwarded })).status, 200)
      assert.equal((await me({ cookie: pair })).status, 401, 'never over a plain connection')
      assert.equal((await me({ cookie: pair.replace('__Host-', ''), ...forwarded })).status, 401)
      const { body } = await behind.call<{ items: SessionView[] }>('GET', '/v1/sessions')
      // The nearest that is no proxy of ours; what stands before it the client may have made up.
      assert.deepEqual(
        body.items.map(item => item.address),
        ['192.0.2.7'],
      )
    } finally {
      await behind.stop()
    }
  })

  test('wrong passwords: the same answer for every reason, slower and slower', async ({ mock }) => {
    // Hashing takes longer than a pause where others work, too: time passes when the test says so.
    mock.timers.enable({ apis: ['Date'], now: Date.now() })
    const wrong = await login('vera', 'wrong')
    assert.deepEqual([wrong.status, wrong.body.code], [401, 'request.password'])
    const nobody = await login('nobody-here', password)
    assert.deepEqual(nobody.body, wrong.body)
    await t.call('PATCH', '/v1/users/vera', { disabled: true })
    assert.deepEqual((await login('vera', password)).body, wrong.body)
    await t.call('PATCH', '/v1/users/vera', { disabled: false })
    let limited = wrong
    for (let n = 0; n < 10 && limited.status === 401; n++) limited = await login('vera', `guess ${n}`)
    assert.deepEqual([limited.status, limited.body.code], [429, 'request.rate-limited'])
    assert.equal(limited.response.headers.get('retry-after'), '1')
    assert.equal((await login('vera', password)).status, 429, 'not even the right one')
    mock.timers.tick(1000)
    assert.equal((await login('vera', 'guess again')).status, 401)
    assert.equal((await login('vera', password)).response.headers.get('retry-after'), '2')
    assert.equal((await login('olga', password)).status, 201, 'others are not held up')
    mock.timers.tick(2000)
    assert.equal((await login('vera', password)).status, 201, 'a pause ends by itself')
    // Tokens know no limit.
    const made = await newToken({ name: 'vera-cron', user: 'vera', role: 'viewer' })
    assert.equal((await t.call('GET', '/v1/me', undefined, bearer(made.body.token))).status, 200)
  })

  test("passwords: one's own with the current one, others' as admin; sessions end", async () => {
    const [mine, elsewhere] = [await login('olga', password), await login('olga', password)]
    const headers = { ...mine.headers, 'x-csrf-token': mine.body.csrfToken }
    const put = async (user: string, body: object) =>
      (await browse('PUT', `/v1/users/${user}/password`, headers, body)).status
    const next = `${password} next`
    assert.equal(await put('olga', { password: next }), 422)
    assert.equal(await put('olga', { password: next, currentPassword: 'wrong' }), 401)
    assert.equal(await put('ada', { password: next }), 403)
    assert.equal(await put('olga', { password: next, currentPassword: password }), 204)
    assert.equal((await browse('GET', '/v1/me', mine.headers)).status, 200)
    assert.equal((await browse('GET', '/v1/me', elsewhere.headers)).status, 401)
    assert.equal((await t.call('PUT', '/v1/users/olga/password', { password })).status, 204)
    assert.equal((await browse('GET', '/v1/me', mine.headers)).status, 401)
    assert.equal((await login('olga', password)).status, 201)
  })

  test('tokens: shown once, never more than their maker, revoked at once', async () => {
    const olga = await newToken({ name: 'olga-laptop', user: 'olga', role: 'operator' })
    assert.equal(olga.status, 201)
    const as = bearer(olga.body.token)
    const refusals: [object, number][] = [
      [{ name: 'x', role: 'admin' }, 403],
      [{ name: 'x', role: 'approver' }, 403],
      [{ name: 'x', user: 'ada', role: 'viewer' }, 403],
      [{ name: 'x', user: null }, 403],
      [{ name: 'x', expiresAt: '2020-01-01T00:00:00Z' }, 422],
      [{ name: 'x', scopes: ['everything'] }, 422],
      [{ name: 'olga-laptop' }, 409],
    ]
    for (const [input, status] of refusals) {
      assert.equal((await newToken(input, as)).status, status, JSON.stringify(input))
    }
    assert.equal(
      (await t.refused('POST', '/v1/tokens', { name: 'y', user: 'vera', role: 'admin' })).status,
      422,
    )
    const limited = await newToken({ name: 'olga-cron', scopes: ['backups:write', 'tokens:write'] }, as)
    assert.equal((await newToken({ name: 'z' }, bearer(limited.body.token))).status, 403)
    // One that ends makes none that lives longer.
    const soon = new Date(Date.now() + 3_600_000).toISOString()
    const short = await newToken({ name: 'olga-short', expiresAt: soon }, as)
    assert.equal((await newToken({ name: 'z' }, bearer(short.body.token))).status, 422)
    assert.equal(
      (await newToken({ name: 'olga-shorter', expiresAt: soon }, bearer(short.body.token))).status,
      201,
    )
    // A lost answer is not given again: the name is taken.
    const key = { 'idempotency-key': 'token' }
    assert.equal((await newToken({ name: 'keyed' }, key)).status, 201)
    assert.equal((await newToken({ name: 'keyed' }, key)).status, 409)

    const list = await t.call<{ items: TokenView[] }>('GET', '/v1/tokens', undefined, as)
    assert.ok(list.body.items.every(token => token.user === 'olga'))
    const all = await t.call<{ items: TokenView[] }>('GET', '/v1/tokens')
    const home = all.body.items.find(token => token.name === 'home')
    assert.ok(home !== undefined && home.lastUsedAt !== null)
    assert.equal((await t.call('DELETE', `/v1/tokens/${home.id}`, undefined, as)).status, 404)
    assert.equal((await t.refused('DELETE', `/v1/tokens/${home.id}`)).code, 'request.in-use')
    // A user who is demoted takes their tokens along.
    await t.call('PATCH', '/v1/users/olga', { role: 'viewer' })
    assert.equal((await t.call('POST', '/v1/sweep', { dryRun: true }, as)).status, 403)
    await t.call('PATCH', '/v1/users/olga', { role: 'operator' })
    assert.equal((await t.call('DELETE', `/v1/tokens/${olga.body.id}`, undefined, as)).status, 204)
    assert.equal((await t.call('GET', '/v1/me', undefined, as)).status, 401)
  })

  test('the audit tells all of it, and no password or token is anywhere', async () => {
    const { body } = await t.call<{ items: AuditView[] }>('GET', '/v1/audit?limit=200')
    const told = body.items.map(row =>
      `${row.actor} ${row.action} ${row.outcome} ${row.detail.user ?? ''}`.trim(),
    )
    for (const line of [
      'token:home POST /v1/users done',
      'olga POST /v1/sessions done olga',
      'nobody POST /v1/sessions refused vera',
      'olga PUT /v1/users/{name}/password done',
      'olga POST /v1/tokens refused',
      'olga DELETE /v1/tokens/{id} done',
    ]) {
      assert.ok(told.includes(line), `${line}\n${told.join('\n')}`)
    }
    assert.ok(!JSON.stringify(body).includes('nobody-here'), 'a name that nobody has')
    const filtered = await t.call<{ items: AuditView[] }>(
      'GET',
      '/v1/audit?actor=olga&outcome=refused&limit=2',
    )
    assert.equal(filtered.body.items.length, 2)
    assert.ok(filtered.body.items.every(row => row.actor === 'olga' && row.outcome === 'refused'))
    const check = await t.call<{ rows: number; brokenAt: number | null }>('GET', '/v1/audit/check')
    assert.ok(check.body.rows >= body.items.length)
    assert.equal(check.body.brokenAt, null)
    // Who has become admin just now cannot remove how.
    const yesterday = new Date(Date.now() - 86_400_000).toISOString()
    const refused = await t.refused('POST', '/v1/audit/prune', { before: yesterday })
    assert.deepEqual([refused.code, refused.errors?.[0]?.path], ['request.invalid', 'before'])
    const longAgo = { before: '2020-01-01T00:00:00Z', reason: 'kept for years' }
    assert.deepEqual((await t.call('POST', '/v1/audit/prune', longAgo)).body, { rows: 0, prunedTo: 0 })

    const secrets = [password, ...tokens]
    assert.ok(tokens.length > 10)
    const leaks = (text: string) => secrets.filter(secret => text.includes(secret))
    assert.deepEqual(leaks(JSON.stringify(body)), [])
    assert.deepEqual(leaks(t.log()), [])
    for (const name of await readdir(t.home, { recursive: true })) {
      const path = join(t.home, name)
      if (!(await stat(path)).isFile()) continue
      assert.deepEqual(leaks(await readFile(path, 'latin1')), [], name)
    }
  })
})
