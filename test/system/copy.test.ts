/**
 * Copying a backup into another store while workers are killed: what was sent is not sent again but for the parts in flight,
 * and what comes of it is the backup, byte for byte, and nothing beside it.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { BackupView, OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import { openLocalDestination } from '../../storage/local/index.ts'
import type { Interceptor, Moment } from '../servers/interceptor.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { makeRandomSqlite } from './databases.ts'
import { expectOneBackup, objectsOf } from './inspect.ts'
import { directory, eventually, type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

/** Parts a worker has under way at once (storage/parts.ts). */
const partsInFlight = 4

describe('kill -9 while a backup is copied', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let cloud: Destination
  let home: Destination
  let worker: Process
  let connection = 'large'
  let backup = ''

  before(async () => {
    stack = await startStack()
    ;({ store, front, destination: cloud } = await startVault(stack, 'copied'))
    const cellar = await directory(stack, 'cellar')
    await stack.expectOk('POST', '/v1/destinations', { name: 'cellar', uri: cellar })
    home = openLocalDestination(`file://${cellar}`)
    const path = join(stack.directory, 'large.db')
    makeRandomSqlite(path, 120)
    await stack.expectOk('POST', '/v1/connections', { name: 'large', url: `sqlite:${path}` })
    const little = join(stack.directory, 'small.db')
    makeRandomSqlite(little, 40)
    await stack.expectOk('POST', '/v1/connections', { name: 'small', url: `sqlite:${little}` })
    const made = await stack.backup({ connection: 'large', destinations: ['cellar'], format: 'copy' })
    const ended = await stack.ended(made.id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    backup = ended.backup
    assert.ok(stack.worker)
    worker = stack.worker
  })
  after(async () => {
    await stack?.stop()
    await front?.close()
    await cloud?.close()
    await home?.close()
    await store?.stop()
  })

  const copy = async (): Promise<OperationView> =>
    (
      await stack.expectOk<{ operation: OperationView }>('POST', `/v1/backups/${backup}/copy`, {
        to: 'vault',
      })
    ).operation
  const killed = async (moment: Moment, matches: (method: string, url: string) => boolean) => {
    const held = front.hold(moment, matches)
    const operation = await copy()
    await held.reached
    await worker.kill9()
    held.cut()
    const seenAtKill = front.seen.length
    worker = stack.startWorker()
    const view = await stack.ended(operation.id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    await expectOneBackup(cloud, connection, backup)
    await expectEqual()
    return seenAtKill
  }
  const expectEqual = async () => {
    const prefix = `${connection}/backups/${backup}/`
    const keys = await objectsOf(home, prefix)
    assert.deepEqual(await objectsOf(cloud, prefix), keys)
    for (const key of keys) {
      assert.equal((await cloud.stat(key))?.bytes, (await home.stat(key))?.bytes, key)
      if (!key.endsWith('.json')) continue
      assert.deepEqual(Buffer.from((await cloud.read(key)) ?? []), Buffer.from((await home.read(key)) ?? []))
    }
    const shown = await stack.expectOk<BackupView>('GET', `/v1/backups/${backup}`)
    assert.deepEqual(
      shown.copies.map(({ destination, state }) => [destination, state]),
      [
        ['cellar', 'committed'],
        ['vault', 'committed'],
      ],
    )
    const verified = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      `/v1/backups/${backup}/verify`,
      { from: 'vault' },
    )
    assert.equal((await stack.ended(verified.operation.id)).state, 'succeeded')
  }
  /** A backup that was never copied. */
  const another = async () => {
    connection = 'small'
    const made = await stack.backup({ connection, destinations: ['cellar'], format: 'copy' })
    const ended = await stack.ended(made.id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    backup = ended.backup
  }
  const isPart = (number: number | string) => (method: string, url: string) =>
    method === 'PUT' && /\/(large|small)\//.test(url) && new RegExp(`[?&]partNumber=${number}(&|$)`).test(url)

  test('at the tenth part: only what was in flight is sent again', async () => {
    const seenAtKill = await killed('before', isPart(10))
    const parts = (lines: string[]) =>
      lines.flatMap(line => /PUT .*\/large\/.*[?&]partNumber=(\d+)/.exec(line)?.[1] ?? [])
    const first = new Set(parts(front.seen.slice(0, seenAtKill)))
    const resent = parts(front.seen.slice(seenAtKill)).filter(number => first.has(number))
    assert.ok(first.size >= 10, `${first.size} parts were begun before the kill`)
    assert.ok(resent.length <= partsInFlight, `sent again: ${resent.join(', ')}`)
  })

  const isManifest = (method: string, url: string) => method === 'PUT' && url.includes('manifest.json')
  const isComplete = (method: string, url: string) =>
    method === 'POST' && url.includes('uploadId=') && url.includes('/small/')
  for (const [name, moment, matches] of [
    ['completed, answer lost', 'after', isComplete],
    ['manifest on its way', 'before', isManifest],
    ['manifest stored, answer lost', 'after', isManifest],
  ] as const) {
    test(name, async () => {
      await another()
      await killed(moment, matches)
    })
  }

  test('cancelled in its middle: no upload stays open, and it can be copied again', async () => {
    await another()
    const held = front.hold('before', isPart(5))
    const operation = await copy()
    await held.reached
    await stack.expectOk('POST', `/v1/operations/${operation.id}/cancel`)
    // Let go of it sooner, and the copy may be whole before the worker has heard.
    assert.equal((await stack.ended(operation.id)).state, 'cancelled')
    held.cut()
    const open = []
    for await (const upload of cloud.listUploads(`${connection}/backups/${backup}/`)) open.push(upload.key)
    assert.deepEqual(open, [])
    assert.equal(await cloud.stat(`${connection}/backups/${backup}/deleted.json`), undefined)
    const again = await copy()
    assert.equal((await stack.ended(again.id)).state, 'succeeded')
    await expectEqual()
  })

  test('two of the same to the same place: the second is refused, naming the first', async () => {
    await another()
    const held = front.hold('before', isPart(3))
    const first = await copy()
    await held.reached
    const second = await stack.refused('POST', `/v1/backups/${backup}/copy`, { to: 'vault' })
    assert.equal(second.status, 409)
    assert.equal(second.body.holder?.operation, first.id)
    held.release()
    assert.equal((await stack.ended(first.id)).state, 'succeeded')
    const third = await stack.refused('POST', `/v1/backups/${backup}/copy`, { to: 'vault' })
    assert.equal(third.body.code, 'request.exists')
    await eventually('nothing is pinned any more', async () => {
      const answer = await stack.refused('DELETE', '/v1/destinations/vault')
      return answer.status < 300 ? true : undefined
    })
  })
})
