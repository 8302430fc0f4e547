/**
 * A staged backup whose worker is killed in mid-upload: the tool that finished is not run again, what was sent is not sent
 * again but for the parts in flight, and the new worker is at it within seconds. A staged restore whose worker is killed in
 * mid-download: what was fetched is not fetched again.
 */
import assert from 'node:assert/strict'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Destination } from '../../storage/destination.ts'
import { pieceBytes } from '../../storage/stored-bytes.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import { startPostgres } from '../servers/postgres.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { digestPostgres } from '../support/digest.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectOneBackup } from './inspect.ts'
import { eventually, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

/** Parts a worker has under way at once (storage/writer.ts). */
const partsInFlight = 4

describe('what passes through staging goes on where it was', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let destination: Destination

  before(async () => {
    stack = await startStack()
    ;({ store, front, destination } = await startVault(stack, 'resume'))
  })

  after(async () => {
    await stack?.stop()
    await front?.close()
    await destination?.close()
    await store?.stop()
  })

  test('after kill -9 at the tenth part', async () => {
    const path = join(stack.directory, 'large.db')
    makeRandomSqlite(path, 120)
    await stack.expectOk('POST', '/v1/connections', { name: 'large', url: `sqlite:${path}` })
    const isPart = (number: number | string) => (method: string, url: string) =>
      method === 'PUT' && url.includes('/large/') && new RegExp(`[?&]partNumber=${number}(&|$)`).test(url)
    const held = front.hold('before', isPart(10))
    const operation = await stack.backup({ connection: 'large', destinations: ['vault'], format: 'copy' })
    await held.reached
    const staged = join(stack.home, 'staging', 'data', operation.id)
    const [name] = (await import('node:fs').then(fs => fs.readdirSync(staged))).filter(
      one => !one.startsWith('.'),
    )
    assert.ok(name, 'the staged file')
    const before = await stat(join(staged, name), { bigint: true })
    await stack.worker?.kill9()
    held.cut()
    const seenAtKill = front.seen.length
    const again = front.hold('before', isPart('\\d+'))
    stack.startWorker()
    // Not a measurement: the promise is that a new worker is seen to work within fifteen seconds of its start.
    await eventually(
      'the new worker sends a part',
      async () => {
        await Promise.race([
          again.reached,
          new Promise((_resolve, reject) => setTimeout(reject, 14_000, new Error('not yet'))),
        ])
        return true
      },
      15,
    )
    const now = await stat(join(staged, name), { bigint: true })
    assert.equal(now.ino, before.ino, 'the tool did not run again')
    assert.equal(now.mtimeNs, before.mtimeNs, 'the tool did not run again')
    again.release()
    const view = await stack.ended(operation.id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    await expectOneBackup(destination, 'large', view.backup)
    expectCleanHost(stack.home, operation.id)

    const parts = (lines: string[]) =>
      lines.flatMap(line => /PUT .*\/large\/.*[?&]partNumber=(\d+)/.exec(line)?.[1] ?? [])
    const first = new Set(parts(front.seen.slice(0, seenAtKill)))
    const resent = parts(front.seen.slice(seenAtKill)).filter(number => first.has(number))
    assert.ok(first.size >= 10, `${first.size} parts were begun before the kill`)
    assert.ok(resent.length <= partsInFlight, `sent again: ${resent.join(', ')}`)
  })

  test('after kill -9 at the sixth piece of a download', async () => {
    const postgres = await startPostgres()
    try {
      await createDatabase(postgres.url(), 'shop')
      await fillRandomPostgres(postgres.url('shop'), 80)
      await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
      const { id } = await stack.backup({ connection: 'pg', destinations: ['vault'], format: 'directory' })
      const { backup } = await stack.ended(id)
      let gets = 0
      const isPiece = (method: string, url: string) => method === 'GET' && /\.zst\.tink/.test(url)
      const held = front.hold('before', (method, url) => {
        if (isPiece(method, url)) gets += 1
        return gets === 6
      })
      const operation = await stack.restore({ backup, target: { connection: 'pg', database: 'copy' } })
      await held.reached
      await stack.worker?.kill9()
      held.cut()
      const seenAtKill = front.seen.length
      stack.startWorker()
      const view = await stack.ended(operation.id)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      assert.deepEqual(await digestPostgres(postgres.url('copy')), await digestPostgres(postgres.url('shop')))
      expectCleanHost(stack.home, operation.id)
      const stored = []
      for await (const { key, bytes } of destination.list('pg/')) {
        if (key.endsWith('.zst.tink')) stored.push(bytes)
      }
      const pieces = Math.ceil((stored[0] ?? 0) / pieceBytes)
      assert.ok(pieces > 6, `${pieces} pieces`)
      const again = front.seen
        .slice(seenAtKill)
        .filter(line => isPiece(...(line.split(' ', 2) as [string, string])))
      // The sixth is asked for once the second has been used, so the first two were there.
      assert.ok(again.length <= pieces - 2, `${again.length} of ${pieces} pieces were fetched after the kill`)
    } finally {
      await postgres.stop()
    }
  })
})
