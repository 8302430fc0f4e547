/** Directories of servers as destinations: what is refused when they are added, and what happens to their hosts. */
import assert from 'node:assert/strict'
import { chmod, chown, mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { sqlite } from '../../engines/sqlite/index.ts'
import { fingerprint } from '../../hosts/ssh/index.ts'
import type { DestinationView } from '../../model/views.ts'
import { sshUserId, startSshd, type TestSshd } from '../servers/sshd.ts'
import { startTestApi, type TestApi } from './support.ts'

describe('directories of servers', () => {
  let t: TestApi
  let server: TestSshd
  let shelf: string
  let away = false
  before(async () => {
    t = await startTestApi()
    server = await startSshd()
    shelf = join(server.home, 'shelf')
    await mkdir(shelf)
    await chown(shelf, sshUserId, sshUserId)
    await t.call('POST', '/v1/hosts', {
      name: 'db1',
      url: `ssh://${server.user}@${server.address}:${server.port}`,
      tempDir: join(server.home, 'staging'),
      secrets: { password: server.password },
    })
  })
  after(async () => {
    await t?.stop()
    if (!away) await server?.stop()
  })
  const uri = (path = shelf, host = 'db1') => `server://${host}${path}`

  test('a host that nobody knows, and one whose key nobody agreed to', async () => {
    const strange = await t.refused('POST', '/v1/destinations', { name: 'a', uri: uri(shelf, 'db2') })
    assert.equal(strange.code, 'request.invalid')
    assert.deepEqual(
      strange.errors?.map(({ path }) => path),
      ['uri'],
    )
    assert.match(JSON.stringify(strange), /db2/)
    const unknown = await t.refused('POST', '/v1/destinations', { name: 'a', uri: uri() })
    assert.equal(unknown.code, 'host.key-unknown')
    const trusted = await t.call('POST', '/v1/hosts/db1/trust', {
      fingerprint: fingerprint(await server.hostKey()),
    })
    assert.equal(trusted.status, 200)
  })

  test('one that is not there, and one that cannot be written', async () => {
    const missing = await t.refused('POST', '/v1/destinations', { name: 'a', uri: uri(`${shelf}/not`) })
    assert.equal(missing.code, 'destination.missing')
    assert.match(missing.hint ?? '', /db1.*mkdir -p -m 700/)
    await chmod(shelf, 0o500)
    const denied = await t.refused('POST', '/v1/destinations', { name: 'a', uri: uri() })
    assert.equal(denied.code, 'destination.denied')
    await chmod(shelf, 0o700)
  })

  test('is added, listed and checked, and keeps its host', async () => {
    const added = await t.call<DestinationView>('POST', '/v1/destinations', {
      name: 'shelf',
      uri: `${uri()}/`,
    })
    assert.equal(added.status, 201, JSON.stringify(added.body))
    assert.deepEqual([added.body.kind, added.body.uri], ['server', uri()])
    assert.ok((await readdir(shelf)).includes('installation.json'))
    const { body } = await t.call<{ items: DestinationView[] }>('GET', '/v1/destinations?kind=server')
    assert.deepEqual(
      body.items.map(({ name }) => name),
      ['shelf'],
    )
    assert.equal((await t.call('POST', '/v1/destinations/shelf/check')).status, 200)
    const kept = await t.refused('DELETE', '/v1/hosts/db1')
    assert.equal(kept.code, 'request.in-use')
    assert.match(kept.detail, /Destination shelf/)
  })

  test('an engine that cannot use it is refused before anything runs', async () => {
    // No engine of today is one.
    const { physical } = sqlite.methods
    assert.ok(physical)
    const { destinations } = physical
    assert.ok(destinations.includes('server'))
    await t.addSqlite('shop')
    Object.assign(physical, { destinations: destinations.filter(kind => kind !== 'server') })
    try {
      for (const dryRun of [false, true]) {
        const refused = await t.refused('POST', '/v1/backups', {
          connection: 'shop',
          destinations: ['shelf'],
          dryRun,
        })
        assert.equal(refused.code, 'request.invalid')
        assert.match(
          JSON.stringify(refused.errors),
          /destinations\.0.*SQLite cannot be backed up to a server/,
        )
      }
    } finally {
      Object.assign(physical, { destinations })
    }
  })

  test('another key than the agreed one stops it; a machine that is away is unreachable', async () => {
    await server.changeHostKey()
    await server.reboot()
    assert.equal((await t.refused('POST', '/v1/destinations/shelf/check')).code, 'host.key-changed')
    const fresh = fingerprint(await server.hostKey())
    await t.call('POST', '/v1/hosts/db1/trust', { fingerprint: fresh })
    assert.equal((await t.call('POST', '/v1/destinations/shelf/check')).status, 200)
    await server.stop()
    away = true
    assert.equal((await t.refused('POST', '/v1/destinations/shelf/check')).code, 'destination.unreachable')
    assert.equal((await t.call('DELETE', '/v1/destinations/shelf')).status, 204)
    assert.equal((await t.call('DELETE', '/v1/hosts/db1')).status, 204)
  })
})
