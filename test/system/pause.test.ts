/** Paused: at the next boundary, for as long as somebody wants, and nothing is done twice afterwards. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { copyFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectNoBackup, expectOneBackup } from './inspect.ts'
import { eventually, type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

describe('pause', () => {
  let stack: Stack
  let worker: Process
  let store: Versitygw
  let front: Interceptor
  let destination: Destination

  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    ;({ store, front, destination } = await startVault(stack, 'pause'))
    const source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 90)
    for (const [name, method] of [
      ['copied', 'physical'],
      ['dumped', 'logical'],
    ] as const) {
      const path = join(stack.directory, `${name}.db`)
      await copyFile(source, path)
      await stack.expectOk('POST', '/v1/connections', { name, url: `sqlite:${path}`, method })
    }
  })

  after(async () => {
    await stack?.stop()
    await front?.close()
    await destination?.close()
    await store?.stop()
  })

  const isPart = (backup: string) => (line: string) =>
    line.startsWith('PUT ') && line.includes(`/${backup}/`) && line.includes('partNumber=')
  const partNumbers = (backup: string): number[] =>
    front.seen
      .filter(isPart(backup))
      .map(line => Number(/partNumber=(\d+)/.exec(line)?.[1]))
      .sort((a, b) => a - b)

  /** Asks for a pause, and waits until the step under way must have heard of it. */
  const pause = async (id: string): Promise<void> => {
    await stack.pause(id)
    await eventually('the catalog knows', async () =>
      (await stack.operation(id)).pauseWanted ? true : undefined,
    )
    const asked = () => stack.workerApi.seen.filter(line => line.endsWith('/pauseWanted')).length
    const before = asked()
    await eventually('the step asked again', async () => (asked() > before + 1 ? true : undefined), 5).catch(
      () => {
        // It cannot stop halfway, or has stopped already.
      },
    )
  }
  const paused = (id: string): Promise<OperationView> =>
    eventually(`${id} is paused`, async () => {
      const view = await stack.operation(id)
      return view.state === 'paused' ? view : undefined
    })
  const succeeded = async (id: string): Promise<OperationView> => {
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.equal(view.pauseWanted, false)
    expectCleanHost(stack.home, id)
    return view
  }
  const killEverything = async (): Promise<void> => {
    await worker.kill9()
    worker = stack.startWorker()
    await stack.api.kill9()
    await stack.restartApi()
  }
  const holdParts = (connection: string, numbers: number[]) =>
    numbers.map(number =>
      front.hold(
        'before',
        (method, url) =>
          method === 'PUT' && url.includes(`/${connection}/`) && url.includes(`partNumber=${number}&`),
      ),
    )

  test('an upload of staged data stops between two parts; no part is sent twice, whoever is killed meanwhile', async () => {
    // As many parts on their way as there may be: the next one has to wait.
    const held = holdParts('copied', [2, 3, 4, 5])
    const operation = await stack.backup({ connection: 'copied', destinations: ['vault'] })
    await Promise.all(held.map(one => one.reached))
    await pause(operation.id)
    for (const one of held) one.release()
    await paused(operation.id)
    const before = partNumbers(operation.backup)
    assert.deepEqual(before, [1, 2, 3, 4, 5], 'what was on its way has arrived, nothing else was begun')
    await killEverything()
    assert.equal((await stack.operation(operation.id)).state, 'paused')
    assert.deepEqual(partNumbers(operation.backup), before)
    await stack.resume(operation.id)
    const view = await succeeded(operation.id)
    const all = partNumbers(operation.backup)
    assert.equal(new Set(all).size, all.length, `parts were sent again: ${all.join(' ')}`)
    assert.ok(all.length > 8, 'a backup of many parts')
    await expectOneBackup(destination, 'copied', view.backup)
  })

  test('a stream is finished: its source is not held open for a pause', async () => {
    const [held] = holdParts('dumped', [3])
    const operation = await stack.backup({ connection: 'dumped', destinations: ['vault'] })
    await held?.reached
    await stack.pause(operation.id)
    held?.release()
    const view = await paused(operation.id)
    assert.deepEqual(
      view.phases.map(({ phase, state }) => `${phase} ${state}`),
      ['plan done', 'precheck done', 'upload done', 'verify running'],
    )
    await killEverything()
    await stack.resume(operation.id)
    const ended = await succeeded(operation.id)
    const all = partNumbers(operation.backup)
    assert.equal(new Set(all).size, all.length, 'the stream ran once')
    await expectOneBackup(destination, 'dumped', ended.backup)
  })

  test('verify, in the middle of the data, and a pause that is taken back at once', async () => {
    const [made] = await stack.backups('copied')
    assert.ok(made)
    const isArtifact = (method: string, url: string) => method === 'GET' && url.includes('.zst')
    const verify = async () =>
      (
        await stack.expectOk<{ operation: OperationView }>('POST', `/v1/backups/${made.id}/verify`, {
          level: 'checksum',
        })
      ).operation
    const held = front.hold('midway', isArtifact)
    const operation = await verify()
    await held.reached
    await pause(operation.id)
    await paused(operation.id)
    held.release()
    await worker.kill9()
    worker = stack.startWorker()
    await stack.resume(operation.id)
    await succeeded(operation.id)
    assert.equal((await stack.backups('copied'))[0]?.verified?.ok, true)

    const hasty = front.hold('midway', isArtifact)
    const second = await verify()
    await hasty.reached
    await stack.pause(second.id)
    await stack.resume(second.id)
    hasty.release()
    await succeeded(second.id)
  })

  test('a restore, between two steps: no name before it is resumed', async () => {
    const [made] = await stack.backups('copied')
    assert.ok(made)
    const held = front.hold('midway', (method, url) => method === 'GET' && url.includes('.zst'))
    const target = join(stack.directory, 'back.db')
    const operation = await stack.restore({
      backup: made.id,
      target: { connection: 'copied', database: target },
    })
    await held.reached
    await stack.pause(operation.id)
    held.release()
    await paused(operation.id)
    await killEverything()
    assert.equal(existsSync(target), false)
    assert.ok(
      (await readdir(stack.directory)).some(name => name.includes('back.db')),
      'what is loaded is kept',
    )
    await stack.resume(operation.id)
    await succeeded(operation.id)
    assert.ok(existsSync(target))
  })

  test('cancelled while paused: nothing is left', async () => {
    const held = holdParts('copied', [2, 3, 4, 5])
    const operation = await stack.backup({ connection: 'copied', destinations: ['vault'] })
    await Promise.all(held.map(one => one.reached))
    await pause(operation.id)
    for (const one of held) one.release()
    await paused(operation.id)
    await stack.expectOk('POST', `/v1/operations/${operation.id}/cancel`)
    assert.equal((await stack.ended(operation.id)).state, 'cancelled')
    expectCleanHost(stack.home, operation.id)
    await expectNoBackup(destination, 'copied', operation.backup)
  })
})
