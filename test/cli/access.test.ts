/** Users, tokens, logins and the audit, typed as people do. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { AuditView, TokenView } from '../../model/access.ts'
import { startTestApi, type TestApi } from '../api/support.ts'
import { holdfast } from './run.ts'

const password = 'kanarienvogel-77e0 password'

describe('users, tokens and logins', () => {
  let folder = ''
  let api: TestApi
  const said: string[] = []
  const cli = async (args: string[], input = '', extra: Record<string, string> = {}) => {
    const env = { HOLDFAST_URL: api.api.url, HOLDFAST_TOKEN: api.token, XDG_CONFIG_HOME: folder, ...extra }
    const ended = await holdfast(args, { cwd: folder, env, input })
    said.push(ended.stdout, ended.stderr)
    return ended
  }
  const ok = async (args: string[], input = '', extra: Record<string, string> = {}) => {
    const ended = await cli(args, input, extra)
    assert.equal(ended.code, 0, `${args.join(' ')}: ${ended.stderr}`)
    return ended.stdout
  }
  /** By the profile alone. */
  const mine = { HOLDFAST_URL: '', HOLDFAST_TOKEN: '', HOLDFAST_PROFILE: 'lab' }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-access-'))
    await writeFile(join(folder, 'password'), `${password}\n`, { mode: 0o600 })
    api = await startTestApi()
  })
  after(async () => {
    await api.stop()
    await rm(folder, { recursive: true, force: true })
  })

  test('a user is added, given another role, kept out and let in again', async () => {
    assert.match(
      await ok(['user', 'add', 'ada', '--role', 'viewer', '--secret-file', 'password']),
      /^ada: viewer\n/,
    )
    assert.match(await ok(['user', 'add', 'cron', '--role', 'operator']), /no password/)
    assert.match(await ok(['user', 'role', 'ada', 'operator']), /^ada: operator\n/)
    assert.match(await ok(['user', 'disable', 'ada']), /disabled/)
    assert.match(await ok(['user', 'list']), /ada +operator +yes +disabled/)
    assert.match(await ok(['user', 'enable', 'ada']), /^ada: operator\n/)
    const unknown = await cli(['user', 'role', 'nobody', 'viewer'])
    assert.deepEqual([unknown.code, /request\.not-found/.test(unknown.stderr)], [4, true])
  })

  test('a login puts a token that ends into the profile; a logout revokes it', async () => {
    const nowhere = await cli(['login', 'ada', '--secret-file', 'password'])
    assert.equal(nowhere.code, 2)
    await ok(['profile', 'add', 'lab', '--url', api.api.url])
    const wrong = await cli(['login', 'ada'], 'wrong\n', mine)
    assert.deepEqual([wrong.code, /error request\.password/.test(wrong.stderr)], [3, true])
    assert.match(
      await ok(['login', 'ada', '--days', '1'], `${password}\n`, mine),
      /^lab: you are ada, operator, until /,
    )
    assert.deepEqual(await ok(['connection', 'list', '--json'], '', mine), '[]\n')
    const [own] = JSON.parse(await ok(['token', 'list', '--json'], '', mine)) as TokenView[]
    assert.match(own?.name ?? '', /^login-ada-/)
    assert.ok(Date.parse(own?.expiresAt ?? '') < Date.now() + 86_400_000)
    assert.equal((await cli(['user', 'list'], '', mine)).code, 3)
    // One's own password: the current one first.
    const next = `${password} next`
    const change = await ok(['user', 'password', 'ada'], `${password}\n${next}\n`, mine)
    assert.match(change, /The password of ada is changed/)
    assert.equal((await cli(['user', 'password', 'ada'], `${password}\n${next}\n`, mine)).code, 3)
    const config = join(folder, 'holdfast/config.json')
    const token = /hf_api_[\w-]+/.exec(await readFile(config, 'utf8'))?.[0] ?? ''
    assert.notEqual(token, '')
    assert.match(await ok(['logout'], '', mine), /logged out/)
    assert.doesNotMatch(await readFile(config, 'utf8'), /hf_api/)
    assert.equal((await cli(['connection', 'list'], '', { ...mine, HOLDFAST_TOKEN: token })).code, 3)
    assert.deepEqual(
      JSON.parse(await ok(['token', 'list', '--json'])).filter((one: TokenView) => one.user === 'ada'),
      [],
    )
  })

  test('a token is printed alone, does what its scope says, and is revoked by name', async () => {
    const token = (
      await ok(['token', 'new', 'nightly', '--role', 'operator', '--scope', 'backups:write', '--nobody'])
    ).trim()
    assert.match(token, /^hf_api_[\w-]{43}$/)
    const as = { HOLDFAST_TOKEN: token }
    await ok(['backups', 'list'], '', as)
    const refused = await cli(['connection', 'list'], '', as)
    assert.deepEqual([refused.code, /needs the scope connections:read/.test(refused.stderr)], [3, true])
    assert.match(await ok(['token', 'list']), /nightly +– +operator +backups:write +all +never/)
    assert.match(await ok(['token', 'revoke', 'nightly']), /revoked/)
    assert.equal((await cli(['backups', 'list'], '', as)).code, 3)
    assert.equal((await cli(['token', 'revoke', 'nightly'])).code, 4)
    assert.equal((await cli(['token', 'new', 'x', '--days', 'many'])).code, 2)
  })

  test('the audit tells who did it, and that it is whole', async () => {
    const rows = JSON.parse(
      await ok(['audit', 'list', '--json', '--actor', 'ada', '--limit', '200']),
    ) as AuditView[]
    assert.ok(rows.some(row => row.action === 'POST /v1/sessions' && row.outcome === 'done'))
    assert.match(await ok(['audit', 'list', '--outcome', 'refused']), /request\.forbidden/)
    assert.match(await ok(['audit', 'check']), /rows, all as they were written/)
    assert.ok(!said.join('').includes(password), 'no password was printed')
    assert.ok(!JSON.stringify(rows).includes(password))
    assert.ok(!api.log().includes(password))
  })
})
