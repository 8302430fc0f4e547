/**
 * A worker that lives on the database server. Nobody else reaches what is there: PostgreSQL answers in a network of its own,
 * and the SQLite file is another user's. The worker holds the token of its host, and no other.
 */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { RestorePointView } from '../../model/recovery-views.ts'
import type { ConnectionView, HostView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { addPerson, approve, askFor, awaiting } from '../support/people.ts'
import { createDatabase, makePostgresSample } from '../support/postgres-sample.ts'
import { makeShop } from '../support/shop.ts'
import { eventually, type Process, type Stack, s3Input, startStack } from './stack.ts'
import { startWorkerHost, type WorkerHost } from './worker-host.ts'

describe('a host with a worker of its own', () => {
  let there: WorkerHost
  let stack: Stack
  let store: Versitygw
  let postgres: TestPostgres
  let sqlite = ''
  let port = 0
  let worker: Process
  const tokens: string[] = []
  const reach: Record<string, string> = {}

  const newToken = async () => {
    const { token } = await stack.expectOk<{ token: string }>('POST', '/v1/hosts/db1/token', {})
    tokens.push(token)
    return token
  }
  const begin = (staging = 'staging') =>
    there.start('db1', tokens.at(-1) ?? '', { ...reach, HOLDFAST_TEMP_DIR: join(there.home, staging) })
  const shown = () => stack.expectOk<HostView>('GET', '/v1/hosts/db1')
  const polling = () =>
    eventually('the worker asks for steps', async () =>
      ((await shown()).worker?.polling ?? 0) > 0 ? true : undefined,
    )

  before(async () => {
    there = await startWorkerHost()
    stack = await startStack({ env: { HOLDFAST_API_HOSTS: there.network.gateway } })
    await there.of(stack)
    store = await startVersitygw()
    postgres = await startPostgres()
    reach.HOLDFAST_URL = await there.expose(stack.workerApi.url)
    reach.HOLDFAST_TEMPORAL_ADDRESS = (await there.expose(`http://${stack.temporal.address}`)).slice(7)
    const endpoint = await there.expose(store.endpoint)
    await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'there', endpoint))
    await createDatabase(postgres.url(), 'shop')
    await makePostgresSample(postgres.url('shop'), { rows: 2000, oddities: true })
    port = await there.offer(postgres)
    await stack.expectOk('POST', '/v1/hosts', { name: 'db1', url: 'worker:' })
    await newToken()
  })

  after(async () => {
    await there?.stop()
    await stack?.stop()
    await store?.stop()
    await postgres?.stop()
  })

  const connectionInput = () => ({
    name: 'pg',
    url: `postgres://postgres:canary-of-db1@127.0.0.1:${port}/shop`,
    host: 'db1',
  })

  test('a connection there cannot be made while nobody answers for the host', async () => {
    assert.deepEqual((await shown()).worker?.polling, 0)
    const { status, body } = await stack.refused('POST', '/v1/connections', connectionInput())
    assert.equal(status, 503)
    assert.equal(body.code, 'host.no-worker')
    assert.match(body.hint, /holdfast worker --host db1/)
  })

  test('its worker answers what only it can', async () => {
    // Nothing listens there for the machine of the API and of the other worker.
    await assert.rejects(
      new Promise((resolve, reject) => connect(port, '127.0.0.1', () => resolve(true)).once('error', reject)),
      { code: 'ECONNREFUSED' },
    )
    worker = await begin()
    await polling()
    const { checks } = await stack.expectOk<{ checks: { id: string; answer: string }[] }>(
      'POST',
      '/v1/hosts/db1/test',
    )
    assert.deepEqual(
      checks.filter(({ answer }) => answer === 'fail'),
      [],
    )
    await stack.expectOk('POST', '/v1/connections', connectionInput())
    sqlite = join(there.home, 'notes.db')
    makeShop(sqlite, { rows: 2000 })
    for (const method of ['physical', 'logical']) {
      const input = { name: `notes-${method}`, url: `sqlite:${sqlite}`, host: 'db1', method }
      const made = await stack.expectOk<ConnectionView>('POST', '/v1/connections', input)
      assert.equal(made.host, 'db1')
    }
    await stack.expectOk('POST', '/v1/connections/pg/check')
    const points = '/v1/connections/pg/restore-points'
    const made = await stack.expectOk<RestorePointView>('POST', points, { name: 'before-42' })
    assert.ok(
      (await readFile(postgres.logFile, 'utf8')).includes(`"${made.serverName}" created at ${made.lsn}`),
    )
  })

  const expectCleanHost = async () => {
    for (const name of ['jobs', 'data']) {
      assert.deepEqual(await readdir(join(there.home, 'staging', name)).catch(() => []), [], name)
    }
  }
  const succeeded = async (id: string) => {
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify([view.error, view.phases]))
    return view
  }
  const backup = async (connection: string, format: string) =>
    (await stack.backup({ connection, destinations: ['vault'], format })).id
  const thereAndBack = async (connection: string, format: string, database: string) => {
    const made = await succeeded(await backup(connection, format))
    const target = { connection, database }
    await succeeded((await stack.restore({ backup: made.backup, target })).id)
    await expectCleanHost()
  }

  for (const format of ['custom', 'directory']) {
    test(`PostgreSQL, ${format}`, async () => {
      await thereAndBack('pg', format, `back-${format}`)
      assert.deepEqual(
        await digestPostgres(postgres.url(`back-${format}`)),
        await digestPostgres(postgres.url('shop')),
      )
    })
  }

  for (const [method, format] of [
    ['physical', 'copy'],
    ['logical', 'dump'],
  ] as const) {
    test(`SQLite, ${format}`, async () => {
      const target = join(there.home, `back ${format}.db`)
      await thereAndBack(`notes-${method}`, format, target)
      assert.deepEqual(digestSqlite(target), digestSqlite(sqlite))
    })
  }

  test('a restore over what is there, and what it kept is removed there', async () => {
    const anna = await addPerson(stack, 'anna', 'approver')
    const { body } = await askFor(anna, {
      backup: 'pg:latest',
      target: { connection: 'pg', database: 'back-custom' },
      overwriteExisting: true,
      keepOldSeconds: 1,
    })
    const view = await awaiting(stack, body.operation.id)
    assert.equal(view.state, 'awaiting-approval', JSON.stringify(view.error))
    await approve(stack, anna, view.id)
    await succeeded(view.id)
    await eventually('what was kept is dropped', async () =>
      (await stack.operation(view.id)).kept?.state === 'dropped' ? true : undefined,
    )
  })

  test('parked while no worker is there; goes on when it is told so', async () => {
    await worker.terminate()
    const id = await backup('pg', 'directory')
    const parked = await stack.parked(id)
    assert.equal(parked.error?.code, 'host.no-worker')
    assert.match(parked.error?.detail ?? '', /No worker on host db1/)
    assert.match(parked.error?.hint ?? '', /holdfast worker --host db1/)
    worker = await begin()
    await polling()
    await stack.resume(id)
    await succeeded(id)
    await expectCleanHost()
  })

  test('cancelled while no worker is there, nothing waits for one', async () => {
    await worker.terminate()
    const made = await stack.restore({ backup: 'pg:latest', target: { connection: 'pg', database: 'never' } })
    assert.equal((await stack.parked(made.id)).error?.code, 'host.no-worker')
    await stack.expectOk('POST', `/v1/operations/${made.id}/cancel`, {})
    assert.equal((await stack.ended(made.id)).state, 'cancelled')
    worker = await begin()
    await polling()
  })

  for (const format of ['custom', 'directory']) {
    test(`its worker is killed twice in the middle, ${format}`, async () => {
      const recorded = () => stack.workerApi.hold('after', (_method, url) => url.endsWith('/recordAttempt'))
      let held = recorded()
      const id = await backup('pg', format)
      for (const _time of [1, 2]) {
        await held.reached
        await worker.kill9()
        held.cut()
        held = recorded()
        worker = await begin()
      }
      held.release()
      await succeeded(id)
      await expectCleanHost()
    })
  }

  test('of two workers there each takes what the other leaves', async () => {
    const other = await begin('other-staging')
    const held = stack.workerApi.hold('after', (_method, url) => url.endsWith('/recordAttempt'))
    const id = await backup('pg', 'custom')
    await held.reached
    await worker.kill9()
    held.release()
    await succeeded(id)
    worker = await begin()
    await other.terminate()
    await polling()
  })

  test('a token that is taken away in the middle stops its operation until there is another one', async () => {
    const held = stack.workerApi.hold('before', (_method, url) => url.endsWith('/recordAttempt'))
    const id = await backup('pg', 'custom')
    await held.reached
    await stack.expectOk('DELETE', '/v1/hosts/db1/token')
    held.release()
    const parked = await stack.parked(id)
    assert.equal(parked.error?.code, 'request.unauthenticated')
    await worker.kill9()
    await newToken()
    worker = await begin()
    await polling()
    await stack.resume(id)
    await succeeded(id)
  })

  test('goes on by itself when a worker is there', async () => {
    await stack.api.terminate()
    await stack.restartApi({ HOLDFAST_PARK_RETRY_SECONDS: '2' })
    await worker.terminate()
    const id = await backup('pg', 'custom')
    await stack.parked(id)
    worker = await begin()
    await succeeded(id)
  })

  test('no token of the host, and no secret of what is there, is anywhere in the open', async () => {
    await worker.terminate()
    const wanted = [...tokens, 'canary-of-db1']
    const found: string[] = []
    for (const entry of await readdir(stack.directory, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name)
      if (!entry.isFile() || /^token-\d+$/.test(entry.name)) continue
      const bytes = await readFile(path)
      for (const secret of wanted) if (bytes.includes(secret)) found.push(path)
    }
    assert.deepEqual(found, [])
  })
})
