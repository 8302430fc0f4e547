/** A whole Holdfast to be swept: an object store behind a proxy, a directory, one database of ten parts. */
import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { OperationView } from '../../model/views.ts'
import { openLocalDestination } from '../../storage/local/index.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectOneBackup, objectsOf, uploadsOf } from './inspect.ts'
import { directory, startStack } from './stack.ts'
import { startVault } from './vault.ts'

export type Sweeping = Awaited<ReturnType<typeof startSweeping>>

export async function startSweeping() {
  const stack = await startStack({ env: { HOLDFAST_PARK_RETRY_SECONDS: '2' } })
  const { store, front, destination: vault } = await startVault(stack, 'swept')
  const path = await directory(stack, 'cellar')
  await stack.expectOk('POST', '/v1/destinations', { name: 'cellar', uri: path })
  const cellar = openLocalDestination(`file://${path}`)
  const source = join(stack.directory, 'source.db')
  makeRandomSqlite(source, 80)
  await stack.expectOk('POST', '/v1/connections', { name: 'copied', url: `sqlite:${source}` })
  assert.ok(stack.worker)
  let worker = stack.worker
  let restored = 0

  const prefixOf = (backup: string) => `copied/backups/${backup}/`
  const isPart = (number: number) => (method: string, url: string) =>
    method === 'PUT' && url.includes('/copied/backups/') && url.includes(`partNumber=${number}&`)
  /** As many as are on their way at once: none follows them. */
  const holdParts = (first: number) => {
    const held = [0, 1, 2, 3].map(more => front.hold('before', isPart(first + more)))
    return {
      reached: Promise.all(held.map(one => one.reached)),
      release: () => held.forEach(one => void one.release()),
      cut: () => held.forEach(one => void one.cut()),
    }
  }
  const begin = (destinations = ['vault']) => stack.backup({ connection: 'copied', destinations })
  const restartWorker = async () => {
    await worker.kill9()
    worker = stack.startWorker()
  }
  const swept = async (body: Record<string, unknown> = {}) => {
    const view = await stack.ended((await stack.sweep(body)).id)
    assert.equal(view.state, 'succeeded', JSON.stringify([view.error, view.warnings]))
    assert.ok(view.swept)
    return view.swept
  }
  /** Whatever may be removed is asked to go, and nothing of this backup does. */
  const expectUntouched = async (backup: string, when: string) => {
    const prefix = prefixOf(backup)
    const look = async () => [await objectsOf(vault, prefix), await uploadsOf(vault, prefix)]
    const there = await look()
    const { removed, skipped } = await swept({ unknown: true })
    const ours = [...removed, ...skipped.map(({ what }) => what)].filter(what => what.includes(backup))
    assert.deepEqual(ours, [], when)
    assert.deepEqual(await look(), there, when)
  }
  const expectWhole = async (id: string): Promise<OperationView> => {
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    await expectOneBackup(vault, 'copied', view.backup)
    await expectRestorable(view.backup)
    expectCleanHost(stack.home, id)
    return view
  }
  const expectRestorable = async (backup: string, from = 'vault') => {
    restored += 1
    const database = join(stack.directory, `back-${restored}.db`)
    const { id } = await stack.restore({ backup, from, target: { connection: 'copied', database } })
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.deepEqual(digestSqlite(database), digestSqlite(source))
    await rm(database)
  }
  /** A backup that was ended by Temporal's own tools: its upload is open, and nobody has said that it was given up. */
  const leftover = async (): Promise<OperationView> => {
    const held = front.hold('before', isPart(3))
    const operation = await begin()
    await held.reached
    await stack.terminate(operation.workflowId)
    // By then its step has heard of it, too, and sends nothing more.
    const view = await stack.ended(operation.id)
    held.cut()
    assert.equal(view.error?.code, 'operation.terminated')
    assert.equal((await uploadsOf(vault, prefixOf(view.backup))).length, 1)
    return view
  }
  return {
    stack,
    front,
    vault,
    cellar,
    source,
    prefixOf,
    isPart,
    holdParts,
    begin,
    restartWorker,
    swept,
    expectUntouched,
    expectWhole,
    expectRestorable,
    leftover,
    /** What a test has left open ends, so that the next one does not fail for it. */
    async settle() {
      for (const state of ['running', 'parked', 'paused']) {
        const open = await stack.expectOk<{ items: OperationView[] }>('GET', `/v1/operations?state=${state}`)
        for (const { id } of open.items) {
          await stack.expectOk('POST', `/v1/operations/${id}/cancel`, {})
          await stack.ended(id)
        }
      }
    },
    async stop() {
      await stack.stop()
      await front.close()
      await vault.close()
      await cellar.close()
      await store.stop()
    },
  }
}
