/** Whom the CLI talks to: flags, environment, profiles, this machine's own; and https with a private authority. */
import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { type createServer, request } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { settingsOf } from '../../cli/context.ts'
import { clientSettings } from '../../cli/whom.ts'
import { startTestApi, type TestApi } from '../api/support.ts'
import { makeCertificate } from '../servers/certificate.ts'
import { holdfast } from './run.ts'

describe('profiles', () => {
  let folder = ''
  let api: TestApi
  let env: Record<string, string> = {}
  const config = () => join(folder, 'config/holdfast/config.json')
  const cli = (args: string[], extra: Record<string, string> = {}, input = '') =>
    holdfast(args, { cwd: folder, env: { ...env, ...extra }, input })
  const write = async (text: string, mode = 0o600) => {
    await writeFile(config(), text)
    await chmod(config(), mode)
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-profile-'))
    await mkdir(join(folder, 'home'))
    api = await startTestApi()
    env = { XDG_CONFIG_HOME: join(folder, 'config'), HOLDFAST_HOME: join(folder, 'home') }
    await writeFile(join(folder, 'token'), `${api.token}\n`, { mode: 0o600 })
  })
  after(async () => {
    await api.stop()
    await rm(folder, { recursive: true, force: true })
  })

  test('are added for their owner only, listed without tokens, used, removed', async () => {
    const url = ['--url', api.api.url]
    const added = await cli(['profile', 'add', 'by-file', ...url, '--token-file', 'token'])
    assert.equal(added.code, 0, added.stderr)
    assert.equal((await stat(config())).mode & 0o777, 0o600)
    assert.equal((await stat(join(folder, 'config/holdfast'))).mode & 0o777, 0o700)
    assert.equal((await cli(['profile', 'add', 'by-env', ...url, '--token-env', 'MY_TOKEN'])).code, 0)
    const command = `cat '${join(folder, 'token')}'`
    assert.equal((await cli(['profile', 'add', 'by-command', ...url, '--token-command', command])).code, 0)
    const prompted = await cli(
      ['profile', 'add', 'by-prompt', ...url, '--token-prompt'],
      {},
      `${api.token}\n`,
    )
    assert.equal(prompted.code, 0, prompted.stderr)
    const twice = await cli(['profile', 'add', 'by-env', ...url])
    assert.equal(twice.code, 5)
    assert.match(twice.stderr, /^error request\.exists/)

    const listed = await cli(['profile', 'list'])
    assert.match(listed.stdout, /by-prompt .* in the config file/)
    assert.match(listed.stdout, /by-env .* environment MY_TOKEN/)
    for (const { stdout, stderr } of [added, prompted, listed])
      assert.ok(!`${stdout}${stderr}`.includes(api.token))

    for (const name of ['by-file', 'by-env', 'by-command', 'by-prompt']) {
      const asked = await cli(['connection', 'list', '--json', '--profile', name], { MY_TOKEN: api.token })
      assert.equal(asked.code, 0, `${name}: ${asked.stderr}`)
      assert.deepEqual(JSON.parse(asked.stdout), [])
    }
    assert.equal((await cli(['connection', 'list'], { HOLDFAST_PROFILE: 'by-file' })).code, 0)
    assert.equal((await cli(['profile', 'use', 'nobody'])).code, 2)
    assert.equal((await cli(['profile', 'use', 'by-file'])).code, 0)
    assert.equal((await cli(['connection', 'list'])).code, 0)
    assert.equal((await cli(['profile', 'remove', 'by-file'])).code, 0)
    assert.equal((await cli(['connection', 'list', '--url', 'http://127.0.0.1:9'])).code, 8)
  })

  test('a token that cannot be had is said, and is in no message', async () => {
    const missing = await cli(['connection', 'list', '--profile', 'by-env'])
    assert.equal(missing.code, 2)
    assert.match(missing.stderr, /^error settings\.invalid: .*MY_TOKEN.* not set/)
    await cli(['profile', 'add', 'broken', '--url', api.api.url, '--token-command', 'echo canary-81; exit 3'])
    const broken = await cli(['connection', 'list', '--profile', 'broken'])
    assert.equal(broken.code, 2)
    assert.match(broken.stderr, /it ended with 3/)
    assert.equal(broken.stderr.match(/canary-81/g)?.length, 1, 'only in the command itself')
    const unknown = await cli(['connection', 'list', '--profile', 'none'])
    assert.equal(unknown.code, 2)
    assert.match(unknown.stderr, /no profile "none".*\nhint: There are: .*by-env/)
  })

  test('a config file that others could read or write is refused', async () => {
    const before = await readFile(config(), 'utf8')
    for (const [mode, why] of [
      [0o644, /holds the token of profile "by-prompt" and can be read by others/],
      [0o620, /can be written by others/],
    ] as const) {
      await write(before, mode)
      const { code, stderr } = await cli(['profile', 'list'])
      assert.equal(code, 2)
      assert.match(stderr, why)
      assert.match(stderr, /hint: .*chmod 600/)
    }
    await write('{"token": "canary-82"', 0o600)
    const spoilt = await cli(['profile', 'list'])
    assert.match(spoilt.stderr, /^error settings\.invalid: .* is not JSON/)
    assert.ok(!spoilt.stderr.includes('canary-82'))
    await write(before)
  })

  test('flags go before the environment, that before the profile, that before what is here', async () => {
    const profiles = {
      one: { url: 'http://one', token: { env: 'TOKEN_ONE' }, ca: '/ca/one' },
      two: { url: 'http://two', output: 'json' },
    }
    await write(JSON.stringify({ current: 'one', profiles }))
    await writeFile(join(folder, 'home/api.token'), 'of-home\n')
    const ask = (options: Parameters<typeof clientSettings>[0], extra: Record<string, string> = {}) => {
      const full = { ...env, TOKEN_ONE: 'of-one', ...extra }
      const { settings, token, json } = clientSettings(options, full, settingsOf(options.home, full))
      return [settings.url, token.read(), settings.ca, json]
    }
    assert.deepEqual(ask({}), ['http://one', 'of-one', '/ca/one', false])
    assert.deepEqual(ask({ profile: 'two' }), ['http://two', undefined, undefined, true])
    assert.deepEqual(ask({ profile: 'two', json: false }), ['http://two', undefined, undefined, false])
    assert.deepEqual(ask({}, { HOLDFAST_PROFILE: 'two' }), ['http://two', undefined, undefined, true])
    // The environment goes before a profile that was not asked for here and now…
    assert.deepEqual(
      ask({}, { HOLDFAST_URL: 'http://env', HOLDFAST_TOKEN: 'of-env', HOLDFAST_CA: '/ca/env' }),
      ['http://env', 'of-env', '/ca/env', false],
    )
    // … and after one that was.
    const everything = { HOLDFAST_URL: 'http://env', HOLDFAST_TOKEN: 'of-env', HOLDFAST_CA: '/ca/env' }
    assert.deepEqual(ask({ profile: 'one' }, everything), ['http://one', 'of-one', '/ca/one', false])
    assert.deepEqual(ask({ profile: 'one', url: 'http://flag', ca: '/ca/flag' }), [
      'http://flag',
      'of-home',
      '/ca/flag',
      false,
    ])
    // A profile's token and certificates are for its address only.
    assert.deepEqual(ask({}, { HOLDFAST_URL: 'http://env' }), ['http://env', 'of-home', undefined, false])
    assert.deepEqual(ask({ profile: 'two' }, { HOLDFAST_TOKEN: 'of-env' })[1], 'of-env')
    // Asking for this machine's own.
    assert.deepEqual(ask({ home: join(folder, 'home') }), [
      'http://127.0.0.1:7460',
      'of-home',
      undefined,
      false,
    ])
  })

  test('https with an authority of one’s own: by flag, by environment, by profile; refused without', async () => {
    const files = makeCertificate(folder, 'api', 'IP:127.0.0.1')
    const forward: Parameters<typeof createServer>[1] = (incoming, outgoing) => {
      const to = request(`${api.api.url}${incoming.url}`, {
        headers: incoming.headers,
        method: incoming.method ?? 'GET',
      })
      to.on('response', answer => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(outgoing)
      })
      incoming.pipe(to)
    }
    const [key, cert] = await Promise.all([readFile(files.key), readFile(files.cert)])
    const server = createTlsServer({ key, cert }, forward)
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    try {
      const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
      const list = ['connection', 'list', '--json']
      const token = { HOLDFAST_TOKEN: api.token }
      const refused = await cli([...list, '--url', url], token)
      assert.equal(refused.code, 8)
      assert.match(refused.stderr, /error api\.unreachable: .*certificate.*\nhint: .*--ca FILE/)
      const byFlag = await cli([...list, '--url', url, '--ca', 'ca.pem'], token)
      assert.equal(byFlag.code, 0, byFlag.stderr)
      const ca = join(folder, 'ca.pem')
      assert.equal((await cli(list, { ...token, HOLDFAST_URL: url, HOLDFAST_CA: ca })).code, 0)
      await cli(['profile', 'add', 'tls', '--url', url, '--ca', 'ca.pem', '--token-file', 'token'])
      assert.equal((await cli([...list, '--profile', 'tls'])).code, 0)
      const none = await cli([...list, '--url', url, '--ca', 'names'], token)
      assert.equal(none.code, 2)
      assert.match(none.stderr, /^error settings\.invalid: The certificates/)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })
})
