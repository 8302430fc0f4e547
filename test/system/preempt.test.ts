/** A restore that may not wait: the backup that holds its server is ended, cleaned up, and the restore is the next. */
import assert from 'node:assert/strict'
import { copyFile, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { AuditView } from '../../model/access.ts'
import type { OperationView, Problem } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import type { Held, Interceptor } from '../servers/interceptor.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { addPerson, approve, askFor, awaiting, planOf } from '../support/people.ts'
import { makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectNoBackup } from './inspect.ts'
import { eventually, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

describe('pre-emption', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let destination: Destination
  let made = ''
  let count = 0

  before(async () => {
    stack = await startStack()
    ;({ store, front, destination } = await startVault(stack, 'preempt'))
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

  test('one that replaces something ends the backup once it is approved, and is the next', async () => {
    const anna = await addPerson(stack, 'anna', 'approver')
    const live = join(stack.directory, 'shop.db')
    const target = { connection: 'shop', database: live }
    const { operation, held } = await running()
    const { body } = await askFor(anna, { backup: made, target, preempt: true })
    const { id } = body.operation
    assert.equal((await awaiting(stack, id)).state, 'awaiting-approval')
    assert.equal((await planOf(stack, id)).preempts, true)
    // Nobody has said yes: also who has a worker's token ends nothing for it.
    const token = (await readFile(join(stack.home, 'worker.token'), 'utf8')).trim()
    const unasked = await fetch(`${stack.apiUrl}/internal/v1/makeWay`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ args: [id] }),
    })
    assert.equal(((await unasked.json()) as Problem).code, 'approval.not-wanted')
    assert.equal((await stack.operation(operation.id)).state, 'running')

    const leaving = front.hold(
      'before',
      (method, url) => method === 'PUT' && url.includes(operation.backup) && url.includes('deleted.json'),
    )
    assert.equal((await approve(stack, anna, id)).status, 202)
    await eventually('the backup is told to end', async () =>
      (await stack.operation(operation.id)).state === 'cancelling' ? true : undefined,
    )
    held.release()
    await leaving.reached
    assert.equal((await stack.operation(id)).state, 'queued')
    // The holder is still the backup; who comes now is told who is next.
    const third = await stack.refused('POST', '/v1/backups', { connection: 'shop', destinations: ['vault'] })
    assert.equal(third.body.code, 'operation.conflict')
    assert.equal(third.body.holder?.operation, id)
    // The worker that waits for it dies, and the API.
    await stack.api.kill9()
    assert.ok(stack.worker)
    await stack.worker.kill9()
    stack.startWorker()
    await stack.restartApi()
    leaving.release()
    const restored = await stack.ended(id)
    assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))
    assert.equal(restored.kept?.state, 'kept')
    await expectPreempted(operation, restored)
    const rows = await stack.expectOk<{ items: AuditView[] }>('GET', '/v1/audit?action=pre-empt')
    assert.deepEqual(rows.items[0]?.object, operation.id)
    assert.equal(rows.items[0]?.detail.restore, id)
  })

  test('approved without being asked to pre-empt, it waits for the backup; paused, it does not begin', async () => {
    const ben = await addPerson(stack, 'ben', 'approver')
    const target = { connection: 'shop', database: join(stack.directory, 'shop.db') }
    const { operation, held } = await running()
    const { body } = await askFor(ben, { backup: made, target })
    const { id } = body.operation
    await awaiting(stack, id)
    assert.equal((await approve(stack, ben, id)).status, 202)
    await eventually('it waits for the server', async () =>
      (await stack.operation(id)).state === 'queued' ? true : undefined,
    )
    await stack.pause(id)
    held.release()
    assert.equal((await stack.ended(operation.id)).state, 'succeeded')
    await eventually('it is paused', async () =>
      (await stack.operation(id)).state === 'paused' ? true : undefined,
    )
    assert.deepEqual((await stack.operation(id)).phases.at(-1)?.phase, 'queue')
    await stack.resume(id)
    const restored = await stack.ended(id)
    assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))
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
