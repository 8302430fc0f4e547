/**
 * One backup into two stores in one pass of the tool: the worker is killed in its middle, or one store dies. In the end each
 * store has the same backup, byte for byte, and nothing beside it.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { BackupView, OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import { openLocalDestination } from '../../storage/local/index.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectOneBackup, objectsOf } from './inspect.ts'
import { directory, eventually, type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

describe('kill -9 and dying stores while a backup goes to two', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let cloud: Destination
  let cellar: Destination
  let worker: Process

  before(async () => {
    stack = await startStack({ env: { HOLDFAST_PARK_RETRY_SECONDS: '2' } })
    ;({ store, front, destination: cloud } = await startVault(stack, 'several'))
    const path = await directory(stack, 'cellar')
    await stack.expectOk('POST', '/v1/destinations', { name: 'cellar', uri: path })
    cellar = openLocalDestination(`file://${path}`)
    const source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 60)
    for (const [name, method] of [
      ['staged', 'physical'],
      ['streamed', 'logical'],
    ] as const) {
      await stack.expectOk('POST', '/v1/connections', { name, url: `sqlite:${source}`, method })
    }
    assert.ok(stack.worker)
    worker = stack.worker
  })
  after(async () => {
    await stack?.stop()
    await front?.close()
    await cloud?.close()
    await cellar?.close()
    await store?.stop()
  })

  const isPart = (connection: string, number: number | string) => (method: string, url: string) =>
    method === 'PUT' &&
    url.includes(`/${connection}/`) &&
    new RegExp(`[?&]partNumber=${number}(&|$)`).test(url)
  const begin = (connection: string) => stack.backup({ connection, destinations: ['cellar', 'vault'] })
  const expectEqual = async (connection: string, { id, backup }: OperationView) => {
    await expectOneBackup(cellar, connection, backup)
    await expectOneBackup(cloud, connection, backup)
    const prefix = `${connection}/backups/${backup}/`
    const keys = await objectsOf(cellar, prefix)
    assert.deepEqual(await objectsOf(cloud, prefix), keys)
    for (const key of keys.filter(one => one.endsWith('.json'))) {
      assert.deepEqual(
        Buffer.from((await cloud.read(key)) ?? []),
        Buffer.from((await cellar.read(key)) ?? []),
      )
    }
    for (const from of ['cellar', 'vault']) {
      const verified = await stack.expectOk<{ operation: OperationView }>(
        'POST',
        `/v1/backups/${backup}/verify`,
        { from },
      )
      assert.equal((await stack.ended(verified.operation.id)).state, 'succeeded', from)
    }
    expectCleanHost(stack.home, id)
  }
  const show = (id: string) => stack.expectOk<BackupView>('GET', `/v1/backups/${id}`)

  for (const connection of ['staged', 'streamed']) {
    test(`${connection}: the worker is killed in mid-upload`, async () => {
      const held = front.hold('before', isPart(connection, 4))
      const operation = await begin(connection)
      await held.reached
      await worker.kill9()
      held.cut()
      worker = stack.startWorker()
      const view = await stack.ended(operation.id)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      await expectEqual(connection, view)
    })

    test(`${connection}: one store dies in the middle; the other has it, and it gets it when it is back`, async () => {
      const alive = { yet: true }
      const dead = (_method: string, url: string) => !alive.yet && url.includes(`/${connection}/`)
      front.answer(dead, 503, '<Error><Code>ServiceUnavailable</Code></Error>', 1_000_000)
      const held = front.hold('before', isPart(connection, 3))
      const operation = await begin(connection)
      await held.reached
      alive.yet = false
      held.cut()
      const view = await stack.ended(operation.id, 300)
      assert.equal(view.state, 'partial', JSON.stringify(view.error))
      assert.match(view.error?.detail ?? '', /is at cellar, and not at vault/)
      await expectOneBackup(cellar, connection, view.backup)
      alive.yet = true
      await eventually(
        'the copy is there',
        async () =>
          (await show(view.backup)).copies.every(copy => copy.state === 'committed') ? true : undefined,
        180,
      )
      const { copies } = await show(view.backup)
      const copying = copies.find(copy => copy.destination === 'vault')?.operation
      assert.equal((await stack.ended(copying ?? '')).state, 'succeeded')
      await expectEqual(connection, view)
    })
  }

  test('killed between the two commits: both have it, and it is no partial one', async () => {
    const isManifest = (method: string, url: string) =>
      method === 'PUT' && url.includes('/staged/') && url.includes('manifest.json')
    const held = front.hold('before', isManifest)
    const operation = await begin('staged')
    await held.reached
    await worker.kill9()
    held.cut()
    worker = stack.startWorker()
    const view = await stack.ended(operation.id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    await expectEqual('staged', view)
  })
})
