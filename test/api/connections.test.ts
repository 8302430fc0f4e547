/** Connections, destinations and keys: real databases and directories, hostile ones too. */
import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { ConnectionView, DestinationView, KeyView } from '../../model/views.ts'
import { startTestApi, type TestApi } from './support.ts'

const canary = 'kanarienvogel-2b9d41'

describe('connections, destinations and keys', () => {
  let t: TestApi
  before(async () => {
    t = await startTestApi()
  })
  after(() => t.stop())

  test('a connection is probed, shown, checked and removed', async () => {
    const path = await t.addSqlite('notes')
    const { body } = await t.call<ConnectionView>('GET', '/v1/connections/notes')
    assert.equal(body.engine, 'sqlite')
    assert.ok(body.serverIdentity.endsWith('/notes.db'), body.serverIdentity)
    assert.match(body.serverVersion, /^3\./)
    assert.equal(
      (await t.refused('POST', '/v1/connections', { name: 'notes', url: path })).code,
      'request.exists',
    )
    for (const check of ['precheck', 'check']) {
      const { status, body: found } = await t.call<{ checks: { id: string; answer: string }[] }>(
        'POST',
        `/v1/connections/notes/${check}`,
      )
      assert.equal(status, 200)
      assert.deepEqual(
        found.checks.find(({ id }) => id === 'identity'),
        {
          id: 'identity',
          title: 'Same server',
          answer: 'pass',
          detail: 'It is the server that was added.',
        },
      )
    }
    assert.equal((await t.call('DELETE', '/v1/connections/notes')).status, 204)
    assert.equal((await t.refused('GET', '/v1/connections/notes')).status, 404)
    assert.equal((await t.refused('DELETE', '/v1/connections/notes')).status, 404)
    assert.deepEqual(
      (await readdir(t.settings.tempDir, { recursive: true })).filter(name => /probe-/.test(name)),
      [],
    )
  })

  test('what cannot be reached is refused with its reason, and not remembered', async () => {
    const missing = await t.refused('POST', '/v1/connections', { name: 'gone', url: join(t.home, 'none.db') })
    assert.equal(missing.code, 'database.missing')
    const closed = await t.refused('POST', '/v1/connections', {
      name: 'gone',
      url: `postgres://backup:${canary}@127.0.0.1:1/shop`,
    })
    assert.equal(closed.code, 'database.unreachable')
    assert.ok(!JSON.stringify(closed).includes(canary))
    assert.equal((await t.refused('GET', '/v1/connections/gone')).status, 404)
  })

  test('addresses that smuggle options or commands are refused in the field', async () => {
    const urls = [
      'postgres://u@h/db?host=/tmp/evil',
      'postgres://u@h/db?passfile=/etc/shadow',
      'postgres://u@h/db?sslkey=/etc/shadow&options=-c%20log_statement%3Dall',
      'postgres://u@h/db%20host=evil',
      'http://example.com/db',
      'file://../etc/passwd',
      'relative.db',
      '-rf',
      'sqlite:relative.db',
      '/tmp/a.db\u0000b',
    ]
    for (const url of urls) {
      const refused = await t.refused('POST', '/v1/connections', { name: 'evil', url })
      assert.match(refused.code, /^(request\.invalid|database\.)/, url)
      if (refused.code === 'request.invalid') assert.ok((refused.errors?.[0]?.path ?? '') !== '', url)
    }
    const unknown = await t.refused('POST', '/v1/connections', {
      name: 'evil',
      url: join(t.home, 'x.db'),
      secrets: { constructor: 'x' },
    })
    assert.equal(unknown.errors?.[0]?.path, 'secrets.constructor')
  })

  test('a destination is written to, claimed, checked and removed', async () => {
    const path = await t.addDestination('disk')
    const { body } = await t.call<DestinationView>('GET', '/v1/destinations/disk')
    assert.equal(body.uri, `file://${path}`)
    assert.equal(body.readOnly, false)
    assert.deepEqual((await readdir(path)).filter(name => !name.startsWith('.')).sort(), [
      'epoch-1.json',
      'installation.json',
    ])
    const checked = await t.call<{ ok: boolean }>('POST', '/v1/destinations/disk/check')
    assert.deepEqual([checked.status, checked.body.ok], [200, true])
    assert.equal((await t.call('DELETE', '/v1/destinations/disk')).status, 204)
    // The same prefix again: it is still ours.
    await t.addDestination('disk')
    const again = await t.call<DestinationView>('GET', '/v1/destinations/disk')
    assert.equal(again.body.readOnly, false)
  })

  test('destinations that make no sense are refused in the field', async () => {
    const cases: [Record<string, unknown>, string, string][] = [
      [{ uri: 'relative' }, 'request.invalid', 'uri'],
      [{ uri: '/tmp/../etc' }, 'request.invalid', 'uri'],
      [{ uri: 'ftp://host/dir' }, 'request.invalid', 'uri'],
      [{ uri: `s3://key:${canary}@bucket/x` }, 'request.invalid', 'uri'],
      [{ uri: 's3://bucket/x', endpoint: `http://u:${canary}@h` }, 'request.invalid', 'endpoint'],
      [{ uri: 's3://bucket/x', endpoint: 'file:///etc' }, 'request.invalid', 'endpoint'],
      [{ uri: '/tmp', accessKeyId: canary }, 'request.invalid', 'accessKeyId'],
      [{ uri: join(t.home, 'missing') }, 'destination.missing', ''],
    ]
    for (const [input, code, field] of cases) {
      const refused = await t.refused('POST', '/v1/destinations', { name: 'odd', ...input })
      assert.equal(refused.code, code, JSON.stringify(input))
      assert.equal(refused.errors?.[0]?.path ?? '', field, JSON.stringify(input))
      assert.ok(!JSON.stringify(refused).includes(canary), JSON.stringify(refused))
    }
  })

  test('keys: a file of our own, a public key, and nothing private in answers', async () => {
    const { status, body } = await t.call<KeyView>('POST', '/v1/keys', { name: 'default' })
    assert.deepEqual([status, body.kind], [201, 'key-file'])
    const file = join(t.home, 'keys', 'default.json')
    assert.equal((await stat(file)).mode & 0o777, 0o600)
    const { privateKey } = JSON.parse(await readFile(file, 'utf8')) as { privateKey: { d: string } }
    const { generateKeyPairSync } = await import('node:crypto')
    const pair = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const pem = pair.publicKey.export({ type: 'spki', format: 'pem' })
    const added = await t.call<KeyView>('POST', '/v1/keys', { name: 'escrow', publicKey: pem })
    assert.deepEqual([added.status, added.body.kind], [201, 'public'])
    const list = await t.call<{ items: KeyView[] }>('GET', '/v1/keys')
    assert.deepEqual(
      list.body.items.map(key => key.name),
      ['default', 'escrow'],
    )
    assert.ok(!JSON.stringify(list.body).includes(privateKey.d))
    assert.equal((await t.refused('POST', '/v1/keys', { name: 'default' })).code, 'request.exists')
    const secret = pair.privateKey.export({ type: 'pkcs8', format: 'pem' })
    assert.equal(
      (await t.refused('POST', '/v1/keys', { name: 'bad', publicKey: secret })).code,
      'key.invalid',
    )
    assert.equal(
      (await t.refused('POST', '/v1/keys', { name: 'bad', publicKey: 'nonsense' })).code,
      'key.invalid',
    )
  })

  test('keys: one that a passphrase locks is opened for a while', async () => {
    const passphrase = 'correct horse battery staple'
    const made = await t.call<KeyView>('POST', '/v1/keys', { name: 'vault', passphrase })
    assert.deepEqual([made.status, made.body.kind, made.body.openUntil], [201, 'locked', null])
    const unlock = '/v1/keys/vault/unlock'
    assert.equal(
      (await t.refused('POST', unlock, { passphrase: 'incorrect horse' })).code,
      'key.passphrase-wrong',
    )
    assert.equal((await t.refused('POST', '/v1/keys/default/unlock', { passphrase })).code, 'key.missing')
    assert.equal((await t.refused('POST', unlock, { passphrase, minutes: 100_000 })).code, 'request.invalid')
    assert.equal(
      (await t.refused('POST', '/v1/keys', { name: 'weak', passphrase: 'short' })).code,
      'request.invalid',
    )
    const both = { name: 'both', passphrase, publicKey: 'x' }
    assert.equal((await t.refused('POST', '/v1/keys', both)).code, 'request.invalid')
    const opened = await t.call<KeyView>('POST', unlock, { passphrase, minutes: 5 })
    assert.equal(opened.status, 200)
    const until = Date.parse(opened.body.openUntil ?? '') - Date.now()
    assert.ok(until > 0 && until <= 300_000, opened.body.openUntil ?? '')
    const openNow = async () =>
      (await t.call<{ items: KeyView[] }>('GET', '/v1/keys')).body.items.find(key => key.name === 'vault')
        ?.openUntil
    assert.equal(await openNow(), opened.body.openUntil)
    for (const _ of ['now', 'and again']) {
      const locked = await t.call<KeyView>('POST', '/v1/keys/vault/lock', {})
      assert.deepEqual([locked.status, locked.body.openUntil, await openNow()], [200, null, null])
    }
  })

  test('a canary is in no log, no answer and no file of the home in the clear', async () => {
    await mkdir(join(t.home, 'canary'), { recursive: true })
    await t.call('POST', '/v1/connections', { name: 'c1', url: `postgres://u:${canary}@127.0.0.1:1/x` })
    await t.call('POST', '/v1/connections', {
      name: 'c2',
      url: 'postgres://u@127.0.0.1:1/x',
      secrets: { password: canary },
    })
    await t.call('POST', `/v1/connections?password=${canary}`, { name: canary.toUpperCase() })
    await t.call('POST', '/v1/connections', `{"url":"postgres://u:${canary}@h/x"`)
    assert.ok(!t.log().includes(canary), 'in the log')
    for (const name of await readdir(t.home, { recursive: true })) {
      const path = join(t.home, name)
      if (!(await stat(path)).isFile()) continue
      assert.ok(!(await readFile(path, 'latin1')).includes(canary), `in ${name}`)
    }
  })
})
