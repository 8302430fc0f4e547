/**
 * A tiering whose worker is killed, twice, or suspended, and a restore that begins while it is at the backup: each artifact is
 * moved once, stays whole, and is restored from wherever it lies.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { z } from 'zod'
import type { OperationView, tieringView } from '../../model/views.ts'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeShop } from '../support/shop.ts'
import { age } from './aging.ts'
import { azureInput, type Process, type Stack, startStack } from './stack.ts'

describe('a tiering', () => {
  let stack: Stack
  let blobs: Azurite
  let front: Interceptor
  let worker: Process
  let shop: string

  before(async () => {
    blobs = await startAzurite()
    front = await startInterceptor(blobs.endpoint)
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    await stack.expectOk('POST', '/v1/destinations', {
      ...azureInput(blobs, 'vault', 'tiering'),
      endpoint: `${front.url}/${blobs.account}`,
      tiers: [
        { afterDays: 7, class: 'Cool' },
        { afterDays: 365, class: 'Archive' },
      ],
    })
    shop = join(stack.directory, 'shop.db')
    makeShop(shop, { rows: 500 })
    await stack.expectOk('POST', '/v1/connections', {
      name: 'shop',
      url: `sqlite:${shop}`,
      method: 'logical',
    })
  })
  after(async () => {
    await stack?.stop()
    await front?.close()
    await blobs?.stop()
  })
  beforeEach(() => {
    front.seen.length = 0
  })

  /** Backups that were made so many days ago. */
  async function backupsOf(count: number, days: number): Promise<string[]> {
    const made: string[] = []
    for (let left = count; left > 0; left -= 1) {
      const view = await stack.ended((await stack.backup({ connection: 'shop', destinations: ['vault'] })).id)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      made.push(view.backup ?? '')
    }
    await age(stack, made, days)
    return made
  }
  const begin = async () =>
    (await stack.expectOk<{ operation: OperationView }>('POST', '/v1/destinations/vault/tiers', {})).operation
  const moves = (method: string, url: string) => method === 'PUT' && url.includes('comp=tier')
  /** Of the artifacts alone. */
  const tiersOf = async (backup: string) => {
    const found: (string | undefined)[] = []
    const prefix = `tiering/shop/backups/${backup}/`
    for await (const { name, properties } of blobs.containerClient.listBlobsFlat({ prefix })) {
      if (!name.endsWith('.json')) found.push(properties.accessTier)
    }
    return found
  }
  const asked = (backup: string) =>
    front.seen.filter(line => line.includes('comp=tier') && line.includes(backup)).length
  const due = async () =>
    (await stack.expectOk<z.infer<typeof tieringView>>('GET', '/v1/destinations/vault/tiers')).moves
  const restored = async (name: string, { id }: OperationView) => {
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.deepEqual(await digestSqlite(join(stack.directory, `${name}.db`)), await digestSqlite(shop))
    return ended
  }
  const restore = (name: string, backup: string) =>
    stack.restore({
      backup,
      target: { connection: 'shop', database: join(stack.directory, `${name}.db`) },
    })

  test('its worker is killed between a move and its record, twice: each is moved once', async () => {
    const backups = await backupsOf(2, 8)
    for (const backup of backups) assert.notDeepEqual(await tiersOf(backup), ['Cool'])
    const moved = front.hold('after', moves)
    const { id } = await begin()
    await moved.reached
    await worker.kill9()
    moved.cut()
    const recording = stack.workerApi.hold('before', (_method, url) => url.endsWith('/recordTier'))
    worker = stack.startWorker()
    await recording.reached
    await worker.kill9()
    recording.cut()
    worker = stack.startWorker()
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    for (const backup of backups) {
      assert.deepEqual(await tiersOf(backup), ['Cool'])
      assert.equal(asked(backup), 1)
    }
    assert.deepEqual(await due(), [])
    await restored('cool', await restore('cool', backups[0] ?? ''))
  })

  test('its worker is suspended in a move: another one goes on, and what comes late changes nothing', async () => {
    const [backup = ''] = await backupsOf(1, 8)
    const held = front.hold('late', moves)
    const { id } = await begin()
    await held.reached
    const zombie = worker
    zombie.child.kill('SIGSTOP')
    worker = stack.startWorker()
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.deepEqual(await tiersOf(backup), ['Cool'])
    held.release()
    zombie.child.kill('SIGCONT')
    await zombie.terminate()
    assert.equal(front.lateAnswers.length, 1)
    assert.equal(asked(backup), 2, front.seen.join('\n'))
    assert.deepEqual(await tiersOf(backup), ['Cool'])
    assert.deepEqual(await due(), [])
    await restored('late', await restore('late', backup))
  })

  test('a restore that began while it was at the backup brings back what was archived under it', async () => {
    const [backup = ''] = await backupsOf(1, 400)
    const move = front.hold('before', moves)
    const { id } = await begin()
    await move.reached
    // The restore has made its plan, and found the artifact at hand.
    const read = front.hold(
      'before',
      (method, url) => method === 'GET' && url.includes(backup) && url.includes('.tink'),
    )
    const begun = await restore('archived', backup)
    await read.reached
    move.release()
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.deepEqual(await tiersOf(backup), ['Archive'])
    read.release()
    const view = await restored('archived', begun)
    assert.ok(view.phases.some(({ phase }) => phase === 'thaw'))
    assert.deepEqual(await tiersOf(backup), ['Hot'])
    // What was just brought back stays where it is.
    const again = await stack.ended((await begin()).id)
    assert.equal(again.state, 'succeeded', JSON.stringify(again.error))
    assert.deepEqual(await tiersOf(backup), ['Hot'])
  })

  test('what a restore holds is for another time', async () => {
    const [backup = ''] = await backupsOf(1, 8)
    const read = front.hold(
      'before',
      (method, url) => method === 'GET' && url.includes(backup) && url.includes('.tink'),
    )
    const begun = await restore('held', backup)
    await read.reached
    const passed = await stack.ended((await begin()).id)
    assert.equal(passed.state, 'succeeded', JSON.stringify(passed.error))
    assert.equal(asked(backup), 0)
    read.release()
    await restored('held', begun)
    const moved = await stack.ended((await begin()).id)
    assert.equal(moved.state, 'succeeded', JSON.stringify(moved.error))
    assert.deepEqual(await tiersOf(backup), ['Cool'])
  })
})
