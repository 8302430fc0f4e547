/**
 * What is dead goes, whatever kills the sweep meanwhile: its worker at its worst moments, the API, somebody who cancels it.
 */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/views.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import { expectCleanHost, expectNoBackup, objectsOf, uploadsOf } from './inspect.ts'
import { type Sweeping, startSweeping } from './sweeping.ts'

describe('a sweep that is killed', () => {
  let s: Sweeping

  before(async () => {
    s = await startSweeping()
  })
  afterEach(() => s.settle())
  after(() => s?.stop())

  test('a dry run removes nothing; what is dead goes; and what it says stands in the operation', async () => {
    const dead = await s.leftover()
    const upload = `upload vault/${(await uploadsOf(s.vault, s.prefixOf(dead.backup)))[0]}`
    const dry = await s.swept({ dryRun: true })
    assert.ok(dry.removed.includes(upload), JSON.stringify(dry))
    assert.equal((await uploadsOf(s.vault, s.prefixOf(dead.backup))).length, 1)
    const { removed } = await s.swept()
    assert.deepEqual(
      removed.filter(what => what.includes(dead.backup)).sort(),
      dry.removed.filter(what => what.includes(dead.backup)).sort(),
    )
    await expectNoBackup(s.vault, 'copied', dead.backup)
    expectCleanHost(s.stack.home, dead.id)
  })

  const moments: [string, () => ReturnType<Interceptor['hold']>][] = [
    [
      'it was told and nothing is removed',
      () => s.stack.workerApi.hold('after', (_, url) => url.endsWith('/noteSwept')),
    ],
    [
      'the folder is claimed',
      () => s.stack.workerApi.hold('after', (_, url) => url.endsWith('/claimLeftovers')),
    ],
    [
      'the marker is not there yet',
      () => s.front.hold('before', (method, url) => method === 'PUT' && url.includes('deleted.json')),
    ],
    [
      'the marker is there',
      () => s.front.hold('after', (method, url) => method === 'PUT' && url.includes('deleted.json')),
    ],
    [
      'the upload was ended',
      () => s.front.hold('after', (method, url) => method === 'DELETE' && url.includes('uploadId=')),
    ],
  ]
  for (const [when, hold] of moments) {
    test(`its worker is killed when ${when}`, async () => {
      const dead = await s.leftover()
      const [upload] = await uploadsOf(s.vault, s.prefixOf(dead.backup))
      const held = hold()
      const { id } = await s.stack.sweep({ destination: 'vault' })
      await held.reached
      await s.restartWorker()
      held.cut()
      const view = await s.stack.ended(id)
      assert.equal(view.state, 'succeeded', JSON.stringify([view.error, view.warnings]))
      assert.ok(view.swept?.removed.includes(`upload vault/${upload}`), JSON.stringify(view.swept))
      await expectNoBackup(s.vault, 'copied', dead.backup)
      assert.ok((await objectsOf(s.vault)).includes(`${s.prefixOf(dead.backup)}deleted.json`))
    })
  }

  test('the API is killed in its middle; cancelled, it ends, and the next one does the rest', async () => {
    const dead = await s.leftover()
    const held = s.front.hold('before', (method, url) => method === 'DELETE' && url.includes('uploadId='))
    const { id } = await s.stack.sweep({ destination: 'vault' })
    await held.reached
    await s.stack.api.kill9()
    held.release()
    await s.stack.restartApi()
    assert.equal((await s.stack.ended(id)).state, 'succeeded')
    await expectNoBackup(s.vault, 'copied', dead.backup)

    const second = await s.leftover()
    const stopped = s.front.hold('before', (method, url) => method === 'PUT' && url.includes('deleted.json'))
    const cancelled = await s.stack.sweep({ destination: 'vault' })
    await stopped.reached
    await s.stack.expectOk('POST', `/v1/operations/${cancelled.id}/cancel`, {})
    assert.equal((await s.stack.ended(cancelled.id)).state, 'cancelled')
    stopped.cut()
    await s.swept({ destination: 'vault' })
    await expectNoBackup(s.vault, 'copied', second.backup)
  })

  test('one place does not answer: the others are swept, and it is said', async () => {
    const away = { yet: true }
    s.front.answer(() => away.yet, 403, '<Error><Code>AccessDenied</Code></Error>', Number.POSITIVE_INFINITY)
    const { id } = await s.stack.sweep()
    const view = await s.stack.ended(id)
    away.yet = false
    assert.equal(view.state, 'partial')
    assert.equal(view.error?.code, 'sweep.incomplete')
    assert.match(view.warnings[0] ?? '', /^vault was not swept: destination\.denied: /)
    assert.ok(
      view.phases.some(({ summary }) => summary === 'cellar: 0 removed'),
      JSON.stringify(view.phases),
    )
    assert.ok(view.phases.some(({ summary }) => /^machine \w+: \d removed$/.test(summary ?? '')))
  })

  test('a schedule sweeps, everywhere or at one destination, and of no connection', async () => {
    const spec = { everySeconds: 86_400 }
    const wrong = { name: 'tidy', kind: 'sweep', connection: 'copied', spec }
    assert.equal((await s.stack.refused('POST', '/v1/schedules', wrong)).status, 422)
    const unknown = { name: 'tidy', kind: 'sweep', options: { unknown: true }, spec }
    assert.equal((await s.stack.refused('POST', '/v1/schedules', unknown)).status, 422)
    await s.stack.expectOk('POST', '/v1/schedules', {
      name: 'tidy',
      kind: 'sweep',
      destinations: ['vault'],
      spec,
    })
    const dead = await s.leftover()
    const { operation } = await s.stack.expectOk<{ operation: OperationView }>(
      'POST',
      '/v1/schedules/tidy/trigger',
    )
    assert.deepEqual([operation.kind, operation.destination], ['sweep', 'vault'])
    assert.equal((await s.stack.ended(operation.id)).state, 'succeeded')
    await expectNoBackup(s.vault, 'copied', dead.backup)
    const removed = await s.stack.call('DELETE', '/v1/destinations/vault')
    assert.equal(removed.status, 409, 'the schedule uses it')
  })
})
