/** A restore that may not wait: the backup that holds its server is ended, cleaned up, and the restore is the next. */
import assert from 'node:assert/strict'
import { copyFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/schemas.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { type Held, type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectNoBackup } from './inspect.ts'
import { eventually, type Stack, s3Input, startStack } from './stack.ts'

describe('pre-emption', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let destination: Destination
  let made = ''
  let count = 0

  before(async () => {
    stack = await startStack()
    store = await startVersitygw()
    front = await startInterceptor(store.endpoint)
    destination = await openDestination(store.destinationRecord('preempt'), store.secrets)
    await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'preempt', front.url))
    const source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 20)
    await copyFile(source, join(stack.directory, 'shop.db'))
    await stack.expectOk('POST', '/v1/connections', {
      name: 'shop',
      url: `sqlite:${join(stack.directory, 'shop.db')}`,
    })
    const first = await stack.ended((await backup()).id)
    assert.equal(first.state, 'succeeded', JSON.stringify(first.error))
    made = first.backup
  })

  after(async () => {
    await stack?.stop()
    await front?.close()
    await destination?.close()
    await store?.stop()
  })

  const backup = () => stack.backup({ connection: 'shop', destinations: ['vault'] })
  /** A backup whose second part is on its way, for as long as we like. */
  const running = async (): Promise<{ operation: OperationView; held: Held }> => {
    const held = front.hold(
      'before',
      (method, url) => method === 'PUT' && url.includes('/shop/') && url.includes('partNumber=2&'),
    )
    const operation = await backup()
    await held.reached
    return { operation, held }
  }
  const asked = (extra: Record<string, unknown> = { preempt: true }) => {
    count += 1
    const database = join(stack.directory, `back-${count}.db`)
    return { database, body: { backup: made, target: { connection: 'shop', database }, ...extra } }
  }
  const expectRestored = async (id: string, database: string) => {
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.ok((await stat(database)).size > 15e6)
  }
  const expectPreempted = async (operation: OperationView, restore: OperationView) => {
    const view = await stack.ended(operation.id)
    assert.equal(view.state, 'cancelled')
    assert.equal(view.error?.detail, `Pre-empted by restore ${restore.id}, which needs the server.`)
    expectCleanHost(stack.home, operation.id)
    await expectNoBackup(destination, 'shop', operation.backup)
  }

  test('a backup that runs, one that is parked, one that is paused; without being asked, none', async () => {
    const first = await running()
    const plain = asked({})
    const refused = await stack.refused('POST', '/v1/restores', plain.body)
    assert.equal(refused.body.code, 'operation.conflict')
    assert.equal(refused.body.holder?.operation, first.operation.id)
    const replacing = asked({ preempt: true, overwriteExisting: true, reason: 'test' })
    assert.equal((await stack.refused('POST', '/v1/restores', replacing.body)).status, 422)
    const { body, database } = asked()
    const restore = await stack.restore(body)
    first.held.release()
    await expectRestored(restore.id, database)
    await expectPreempted(first.operation, restore)

    let broken = true
    front.answer(
      (method, url) => broken && method === 'PUT' && url.includes('/shop/') && url.includes('partNumber=1&'),
      403,
      '<Error><Code>AccessDenied</Code></Error>',
      Number.POSITIVE_INFINITY,
    )
    const parked = await backup()
    await stack.parked(parked.id)
    const second = asked()
    const after = await stack.restore(second.body)
    await expectRestored(after.id, second.database)
    await expectPreempted(parked, after)
    broken = false

    const third = await running()
    await stack.pause(third.operation.id)
    await eventually('the wish is known', async () =>
      (await stack.operation(third.operation.id)).pauseWanted ? true : undefined,
    )
    third.held.release()
    await eventually('it is paused', async () =>
      (await stack.operation(third.operation.id)).state === 'paused' ? true : undefined,
    )
    const last = asked()
    const over = await stack.restore(last.body)
    await expectRestored(over.id, last.database)
    await expectPreempted(third.operation, over)
  })

  test('nobody slips in between, and whoever tries is told who is next', async () => {
    const { operation, held } = await running()
    // The backup is slow to leave: its tombstone is on its way.
    const leaving = front.hold(
      'before',
      (method, url) => method === 'PUT' && url.includes(operation.backup) && url.includes('deleted.json'),
    )
    const { body, database } = asked()
    const restore = await stack.restore(body)
    assert.equal(restore.state, 'queued')
    held.release()
    await leaving.reached
    const third = await stack.refused('POST', '/v1/backups', { connection: 'shop', destinations: ['vault'] })
    assert.equal(third.body.code, 'operation.conflict')
    assert.equal(third.body.holder?.operation, restore.id)
    leaving.release()
    const tries: number[] = []
    for (;;) {
      const answer = await stack.call('POST', '/v1/backups', { connection: 'shop', destinations: ['vault'] })
      tries.push(answer.status)
      if ((await stack.operation(restore.id)).runId !== null) break
    }
    assert.ok(
      tries.every(status => status === 409),
      tries.join(' '),
    )
    await expectRestored(restore.id, database)
    await expectPreempted(operation, restore)
  })

  test('the API is killed while the backup leaves: the next one goes on', async () => {
    const { operation, held } = await running()
    const leaving = front.hold(
      'before',
      (method, url) => method === 'PUT' && url.includes(operation.backup) && url.includes('deleted.json'),
    )
    const { body, database } = asked()
    const restore = await stack.restore(body)
    held.release()
    await leaving.reached
    await stack.api.kill9()
    leaving.release()
    await stack.restartApi()
    await expectRestored(restore.id, database)
    assert.equal((await stack.ended(operation.id)).state, 'cancelled')
  })

  test('a restore is not ended for another one; one that waits can be cancelled', async () => {
    const held = front.hold('midway', (method, url) => method === 'GET' && url.includes('.zst'))
    const holder = asked({})
    const first = await stack.restore(holder.body)
    await held.reached
    const refused = await stack.restore(asked().body)
    const view = await stack.ended(refused.id)
    assert.equal(view.state, 'failed')
    assert.equal(view.error?.code, 'operation.conflict')
    held.release()
    await expectRestored(first.id, holder.database)

    const { operation, held: part } = await running()
    const leaving = front.hold(
      'before',
      (method, url) => method === 'PUT' && url.includes(operation.backup) && url.includes('deleted.json'),
    )
    const waiting = await stack.restore(asked().body)
    part.release()
    await leaving.reached
    await stack.expectOk('POST', `/v1/operations/${waiting.id}/cancel`)
    assert.equal((await stack.ended(waiting.id)).state, 'cancelled')
    leaving.release()
    assert.equal((await stack.ended(operation.id)).state, 'cancelled')
    const next = await backup()
    assert.equal((await stack.ended(next.id)).state, 'succeeded')
  })
})
