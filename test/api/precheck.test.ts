/** Prechecks of a connection: one table, whatever is wrong. What is right is in test/system/dry-run. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { watch } from 'node:fs'
import { chown, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fingerprint } from '../../hosts/ssh/index.ts'
import type { ConnectionCheckView } from '../../model/views.ts'
import { startPostgres } from '../servers/postgres.ts'
import { sshUserId, startSshd } from '../servers/sshd.ts'
import { makeShop } from '../support/shop.ts'
import { startTestApi, type TestApi } from './support.ts'

const password = 'kanarienvogel-precheck'

describe('prechecks of a connection', () => {
  let t: TestApi
  before(async () => {
    t = await startTestApi()
    await t.addSqlite('notes')
  })
  after(() => t?.stop())

  const ask = async (name: string, body?: object) => {
    const { status, body: answer } = await t.call<ConnectionCheckView>(
      'POST',
      `/v1/connections/${name}/precheck`,
      body,
    )
    assert.equal(status, 200, JSON.stringify(answer) + t.log().split('\n').slice(-6).join('\n'))
    return answer
  }
  const rows = ({ checks }: ConnectionCheckView, answer: string) =>
    checks.filter(one => one.answer === answer).map(({ id, code }) => (code ? `${id}: ${code}` : id))

  test('keys that are missing, a destination that cannot be written or is on the same disk', async () => {
    assert.deepEqual(rows(await ask('notes'), 'fail'), ['keys: key.missing'])
    await t.call('POST', '/v1/keys', { name: 'main' })
    const path = await t.addDestination('disk')
    const close = await ask('notes')
    assert.deepEqual(rows(close, 'fail'), [])
    assert.deepEqual(rows(close, 'warn'), ['destination-disk'])
    assert.match(JSON.stringify(close.checks), new RegExp(`on the file system of ${t.home}`))
    await rename(path, `${path}.away`)
    assert.deepEqual(rows(await ask('notes'), 'fail'), ['destination-disk: destination.missing'])
    await rename(`${path}.away`, path)
    const unknown = await t.refused('POST', '/v1/connections/notes/precheck', { destinations: ['none'] })
    assert.equal(unknown.errors?.[0]?.path, 'destinations.0')
    const format = await t.refused('POST', '/v1/connections/notes/precheck', { format: 'tape' })
    assert.equal(format.errors?.[0]?.path, 'format')
  })

  test('staging is written to once, and its room asked for', async () => {
    const seen = new Set<string>()
    const watcher = watch(t.settings.tempDir, (_event, name) => seen.add(name ?? ''))
    try {
      const { checks } = await ask('notes')
      // The programs here cross no link.
      assert.deepEqual(
        checks.map(({ id }) => id).filter(id => id.startsWith('host.') || id === 'staging'),
        ['host.login', 'host.staging', 'host.tools', 'staging'],
      )
      const last = 'the-last-to-be-seen'
      await writeFile(join(t.settings.tempDir, last), '')
      while (!seen.has(last)) await once(watcher, 'change')
      await rm(join(t.settings.tempDir, last))
      const probes = [...seen].filter(name => name.startsWith('.precheck-') && !name.endsWith('.tmp'))
      assert.equal(probes.length, 1, [...seen].join())
    } finally {
      watcher.close()
    }
  })

  test('a database that is gone, or is another one now', async () => {
    const file = join(t.home, 'notes.db')
    await rename(file, `${file}.away`)
    const gone = await ask('notes')
    assert.deepEqual([gone.database, rows(gone, 'fail')], [null, ['database.connect: database.missing']])
    await rename(`${file}.away`, file)
    assert.equal((await ask('notes')).database, file)
  })

  test('staging that cannot be written', async () => {
    // Root may write anywhere; a file in its way may not be passed by anybody.
    const staging = t.settings.tempDir
    await rename(staging, `${staging}.away`)
    await writeFile(staging, '')
    try {
      const answer = await ask('notes')
      assert.equal(answer.database, null)
      assert.match(rows(answer, 'fail').join(), /^host\.staging: staging\./)
    } finally {
      await rm(staging)
      await rename(`${staging}.away`, staging)
    }
  })

  test('a PostgreSQL server: locks that are too few, a password that is wrong, a server that is down', async () => {
    const postgres = await startPostgres({
      auth: 'scram',
      password,
      config: 'max_locks_per_transaction = 10\nmax_connections = 10\nautovacuum = off',
    })
    try {
      const url = new URL(postgres.url())
      const added = await t.call('POST', '/v1/connections', { name: 'pg', url: url.href })
      assert.equal(added.status, 201, JSON.stringify(added.body))
      await postgres.sql(
        "do $$ begin for i in 1..150 loop execute format('create table t%s (i int)', i); end loop; end $$",
      )
      const few = await ask('pg')
      assert.match(JSON.stringify(few.checks), /max_locks_per_transaction/)
      await postgres.sql("alter role postgres password 'another one'")
      const wrong = await ask('pg')
      assert.deepEqual(rows(wrong, 'fail'), ['database.connect: database.authentication'])
      assert.doesNotMatch(JSON.stringify(wrong) + t.log(), new RegExp(password))
      await postgres.kill9()
      assert.deepEqual(rows(await ask('pg'), 'fail'), ['database.connect: database.unreachable'])
    } finally {
      await postgres.stop()
    }
  })

  test('a host whose key is another one now, until it is agreed to', async () => {
    const server = await startSshd()
    try {
      const file = join(server.home, 'shop.db')
      makeShop(file, { rows: 100 })
      await chown(file, sshUserId, sshUserId)
      await t.call('POST', '/v1/hosts', {
        name: 'db1',
        url: `ssh://${server.user}@${server.address}:${server.port}`,
        tempDir: join(server.home, 'staging'),
        hostKeys: [await server.hostKey()],
        secrets: { password: server.password },
      })
      const added = await t.call('POST', '/v1/connections', {
        name: 'far',
        url: `sqlite:${file}`,
        host: 'db1',
      })
      assert.equal(added.status, 201, JSON.stringify(added.body))
      assert.deepEqual(rows(await ask('far'), 'fail'), [])
      await server.changeHostKey()
      // A connection that is there already stays.
      await server.reboot()
      assert.deepEqual(rows(await ask('far'), 'fail'), ['host.login: host.key-changed'])
      await t.call('POST', '/v1/hosts/db1/trust', { fingerprint: fingerprint(await server.hostKey()) })
      assert.deepEqual(rows(await ask('far'), 'fail'), [])
    } finally {
      await server.stop()
    }
  })
})
