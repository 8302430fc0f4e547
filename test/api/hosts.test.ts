/** Hosts over SSH: a real sshd; keys are agreed to by somebody, secrets are never shown. */
import assert from 'node:assert/strict'
import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { openCatalog } from '../../catalog/open.ts'
import { insertOperation } from '../../catalog/operations.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import { fingerprint } from '../../hosts/ssh/index.ts'
import type { ConnectionView, HostView, Problem } from '../../model/views.ts'
import { operation } from '../catalog/support.ts'
import { startSshd, type TestSshd } from '../servers/sshd.ts'
import { makeShop } from '../support/shop.ts'
import { startTestApi, type TestApi } from './support.ts'

describe('hosts', () => {
  let t: TestApi
  let server: TestSshd
  before(async () => {
    t = await startTestApi()
    server = await startSshd()
  })
  after(async () => {
    await t?.stop()
    await server?.stop()
  })
  const url = () => `ssh://${server.user}@${server.address}:${server.port}`

  test('a host is remembered; nothing is sent before its key is agreed to', async () => {
    const { password } = server
    const input = { name: 'db', url: url(), tempDir: join(server.home, 'staging'), secrets: { password } }
    const added = await t.call<HostView>('POST', '/v1/hosts', input)
    assert.equal(added.status, 201, JSON.stringify(added.body))
    const key = fingerprint(await server.hostKey())
    assert.deepEqual(added.body.hostKeys, [])
    assert.equal(added.body.shownKey?.fingerprint, key)
    assert.deepEqual(added.body.secrets, ['password'])
    assert.ok(!JSON.stringify(added.body).includes(password))
    assert.equal((await t.refused('POST', '/v1/hosts', input)).code, 'request.exists')

    const path = join(server.home, 'shop.db')
    makeShop(path, { rows: 100 })
    await chmod(path, 0o666)
    const connection = { name: 'shop', url: `sqlite:${path}`, host: 'db' }
    assert.equal((await t.refused('POST', '/v1/connections', connection)).code, 'host.key-unknown')
    const wrong = `SHA256:${'A'.repeat(43)}`
    assert.equal(
      (await t.refused('POST', '/v1/hosts/db/trust', { fingerprint: wrong })).code,
      'host.key-changed',
    )
    const asked = await t.call<HostView>('POST', '/v1/hosts/db/trust', {})
    assert.deepEqual([asked.body.hostKeys, asked.body.shownKey?.fingerprint], [[], key])
    const trusted = await t.call<HostView>('POST', '/v1/hosts/db/trust', { fingerprint: key })
    assert.deepEqual(
      trusted.body.hostKeys.map(one => one.fingerprint),
      [key],
    )

    const { body } = await t.call<{ checks: { id: string; answer: string }[] }>('POST', '/v1/hosts/db/test')
    assert.deepEqual(
      body.checks.map(check => [check.id, check.answer]),
      [
        ['host.login', 'pass'],
        ['host.staging', 'pass'],
        ['host.tools', 'pass'],
        ['host.compressor', 'pass'],
      ],
    )
    const made = await t.call<ConnectionView>('POST', '/v1/connections', connection)
    assert.equal(made.status, 201, JSON.stringify(made.body))
    assert.equal(made.body.host, 'db')
    assert.equal((await t.refused('DELETE', '/v1/hosts/db')).code, 'request.in-use')

    await server.changeHostKey()
    // What is open stays; whoever dials anew is stopped.
    await server.reboot()
    const changed = await t.call<{ checks: { code?: string }[] }>('POST', '/v1/hosts/db/test')
    assert.equal(changed.body.checks[0]?.code, 'host.key-changed')
    const stopped = await t.call<typeof changed.body>('POST', '/v1/connections/shop/check')
    assert.deepEqual(
      stopped.body.checks.map(({ code }) => code),
      ['host.key-changed', 'key.missing'],
    )
    const now = fingerprint(await server.hostKey())
    assert.equal((await t.call('POST', '/v1/hosts/db/trust', { fingerprint: now })).status, 200)
    assert.equal((await t.call('POST', '/v1/connections/shop/check')).status, 200)

    assert.equal((await t.call('DELETE', '/v1/connections/shop')).status, 204)
    assert.equal((await t.call('DELETE', '/v1/hosts/db')).status, 204)
    assert.equal((await t.refused('GET', '/v1/hosts/db')).status, 404)
  })

  test('a key under a passphrase; through another host; keys brought along', async () => {
    const hostKeys = [await server.hostKey()]
    const { protectedKey: privateKey, passphrase } = server
    const common = { url: url(), hostKeys, secrets: { privateKey, passphrase } }
    await t.call('POST', '/v1/hosts', { name: 'near', tempDir: join(server.home, 'near'), ...common })
    const far = { name: 'far', tempDir: join(server.home, 'far'), through: 'near', ...common }
    assert.equal((await t.call('POST', '/v1/hosts', far)).status, 201)
    const { body } = await t.call<{ checks: { answer: string; detail: string }[] }>(
      'POST',
      '/v1/hosts/far/test',
    )
    assert.ok(
      body.checks.every(check => check.answer === 'pass'),
      JSON.stringify(body),
    )
    assert.equal((await t.refused('DELETE', '/v1/hosts/near')).code, 'request.in-use')
    const { body: listed } = await t.call<{ items: HostView[] }>('GET', '/v1/hosts')
    assert.deepEqual(
      listed.items.map(item => item.name),
      ['far', 'near'],
    )
    for (const secret of [passphrase, 'PRIVATE KEY']) assert.ok(!JSON.stringify(listed).includes(secret))
  })

  test('a host is changed: the key stays, a password goes to no machine that shows another one', async () => {
    const { password } = server
    const first = { name: 'moving', url: url(), tempDir: join(server.home, 'moving'), secrets: { password } }
    await t.call('POST', '/v1/hosts', { ...first, hostKeys: [await server.hostKey()] })
    const change = (body: object, headers: Record<string, string> = {}) =>
      t.call<HostView & Problem>('PATCH', '/v1/hosts/moving', body, headers)
    const login = async () => {
      type Checks = { checks: { answer: string; code?: string }[] }
      const { body } = await t.call<Checks>('POST', '/v1/hosts/moving/test')
      return body.checks.find(({ answer }) => answer === 'fail')?.code ?? 'pass'
    }
    const tag = (await t.call('GET', '/v1/hosts/moving')).headers.get('etag') ?? ''
    // Another way to the same machine, which its key proves: the password stays.
    const through = await change({ through: 'near' }, { 'if-match': tag })
    assert.deepEqual(
      [through.status, through.body.through, through.body.secrets],
      [200, 'near', ['password']],
    )
    assert.equal(await login(), 'pass')
    assert.equal((await change({ through: null }, { 'if-match': tag })).body.code, 'request.changed')
    assert.equal((await change({ through: null, tempDir: join(server.home, 'moved') })).status, 200)
    assert.equal(await login(), 'pass')
    assert.equal((await change({ through: 'moving' })).body.code, 'request.invalid')

    const other = await startSshd()
    try {
      const there = `ssh://${other.user}@${other.address}:${other.port}`
      assert.equal((await change({ url: there })).body.errors?.[0]?.path, 'secrets.password')
      const meant = await change({ url: there, secrets: { password: other.password } })
      assert.equal(meant.status, 200, JSON.stringify(meant.body))
      // Nobody has agreed to the key of that machine yet.
      assert.notEqual(meant.body.shownKey?.fingerprint, meant.body.hostKeys[0]?.fingerprint)
      assert.equal(await login(), 'host.key-changed')
      const agreed = await change({ hostKeys: [await other.hostKey()], tempDir: join(other.home, 'staging') })
      assert.equal(agreed.body.hostKeys[0]?.fingerprint, agreed.body.shownKey?.fingerprint)
      assert.equal(await login(), 'pass')
      const { privateKey } = other
      const keyed = await change({ secrets: { privateKey, password: null } })
      assert.deepEqual(keyed.body.secrets, ['privateKey'])
      assert.equal(await login(), 'pass')

      // While something works there, it stays the same machine, and files stay where they are.
      const path = join(other.home, 'shop.db')
      makeShop(path, { rows: 10 })
      await chmod(path, 0o666)
      const made = await t.call('POST', '/v1/connections', {
        name: 'far',
        url: `sqlite:${path}`,
        host: 'moving',
      })
      assert.equal(made.status, 201, JSON.stringify(made.body))
      await t.restart(async () => {
        const { key: secretKey } = await ensureSecretKey(t.settings)
        const catalog = await openCatalog({ url: t.settings.catalogUrl, secretKey })
        const row = operation('op-far1', { connection: 'far', runId: 'run', state: 'running' })
        await insertOperation(catalog, row, null)
        await catalog.close()
      })
      assert.equal((await change({ runAs: 'postgres' })).body.code, 'request.in-use')
      assert.equal((await change({ url: url() })).body.code, 'request.in-use')
      assert.equal((await change({ agent: true, secrets: { privateKey } })).status, 200)
    } finally {
      await other.stop()
    }
    const { body: audit } = await t.call<{ items: unknown[] }>('GET', '/v1/audit')
    assert.ok(JSON.stringify(audit).includes('/v1/hosts/moving'))
    for (const secret of [password, other.password, 'PRIVATE KEY'])
      assert.ok(!JSON.stringify(audit).includes(secret) && !t.log().includes(secret))
    await t.call('POST', '/v1/hosts', { name: 'served', url: 'worker:' })
    assert.equal((await t.refused('PATCH', '/v1/hosts/served', { agent: true })).code, 'host.no-worker')
  })

  test('what cannot be is refused in its field', async () => {
    const refused = async (change: object) =>
      (await t.refused('POST', '/v1/hosts', { name: 'x', url: url(), ...change })).errors?.[0]?.path
    assert.equal(await refused({ name: 'local' }), 'name')
    assert.equal(await refused({ url: 'ssh://host' }), 'url')
    assert.equal(await refused({ url: 'ssh://u:secret@host' }), 'url')
    assert.equal(await refused({ url: 'ssh://%zz@host' }), 'url')
    assert.equal(await refused({ url: 'ssh://-oProxyCommand=x@host;id' }), 'url')
    assert.equal(await refused({ runAs: '-u root' }), 'runAs')
    assert.equal(await refused({ tempDir: 'relative' }), 'tempDir')
    assert.equal(await refused({ hostKeys: ['ssh-ed25519 AAAA'] }), 'hostKeys.0')
    const unknown = await t.refused('POST', '/v1/connections', { name: 'c', url: '/tmp/x.db', host: 'none' })
    assert.equal(unknown.errors?.[0]?.path, 'host')
  })
})
