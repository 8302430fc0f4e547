/**
 * Backups in an archive: brought back by the restore that needs them, without holding the server, whoever dies meanwhile. The
 * archive is Azure's emulator, which brings back at once; the time it takes at Azure is put before it (`recorded`).
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { BackupView, OperationView, PlanView } from '../../model/views.ts'
import { type FaultyStore, startFaultyStore } from '../destinations/faults.ts'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeShop } from '../support/shop.ts'
import { addWorkerHost } from './host-worker.ts'
import { azureInput, directory, eventually, type Stack, startStack } from './stack.ts'

describe('a backup in an archive', () => {
  let stack: Stack
  let blobs: Azurite
  let proxy: FaultyStore
  let shop: string
  let backup: string
  /** What was asked for is on its way until this is false. */
  let coming = false

  before(async () => {
    blobs = await startAzurite()
    proxy = await startFaultyStore(blobs.endpoint)
    const asked = new Set<string>()
    proxy.fault = ({ method, url = '' }) => {
      const { pathname, searchParams } = new URL(url, 'http://x')
      if (searchParams.get('comp') === 'tier') asked.add(pathname)
      if (!coming || !asked.has(pathname)) return { kind: 'pass' }
      if (method === 'HEAD') {
        const headers = { 'x-ms-access-tier': 'Archive', 'x-ms-archive-status': 'rehydrate-pending-to-hot' }
        return { kind: 'changed', headers }
      }
      const error = { status: 409, headers: { 'x-ms-error-code': 'BlobBeingRehydrated' }, body: '' }
      return method === 'GET' ? { kind: 'answer', ...error } : { kind: 'pass' }
    }
    stack = await startStack()
    const store = azureInput(blobs, 'archive', 'thaw')
    const endpoint = `${proxy.endpoint}/${blobs.account}`
    await stack.expectOk('POST', '/v1/destinations', { ...store, endpoint, storageClass: 'Archive' })
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: await directory(stack, 'disk') })
    shop = join(stack.directory, 'shop.db')
    makeShop(shop, { rows: 500 })
    await stack.expectOk('POST', '/v1/connections', {
      name: 'shop',
      url: `sqlite:${shop}`,
      method: 'logical',
    })
    const made = await stack.ended((await stack.backup({ connection: 'shop', destinations: ['archive'] })).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    backup = made.backup ?? ''
  })
  after(async () => {
    await stack?.stop()
    await proxy?.close()
    await blobs?.stop()
  })

  const artifacts = async () => {
    const found: Record<string, string | undefined> = {}
    for await (const { name, properties } of blobs.containerClient.listBlobsFlat({ prefix: 'thaw/shop/' })) {
      found[name.split('/').at(-1) ?? ''] = properties.accessTier
    }
    return found
  }
  beforeEach(async () => {
    coming = false
    for await (const { name } of blobs.containerClient.listBlobsFlat({ prefix: 'thaw/shop/' })) {
      if (name.endsWith('.tink')) {
        await blobs.containerClient.getBlockBlobClient(name).setAccessTier('Archive')
      }
    }
  })
  const restore = (name: string, more: object = {}) =>
    stack.restore({
      backup,
      target: { connection: 'shop', database: join(stack.directory, `${name}.db`) },
      ...more,
    })
  const thawing = (id: string) =>
    eventually(`${id} waits for the archive`, async () => {
      const view = await stack.operation(id)
      const phase = view.phases.at(-1)
      return phase?.phase === 'thaw' && /^thawing 1 object, usually 15 hours$/.test(phase.summary ?? '')
        ? view
        : undefined
    })
  const phasesOf = ({ phases }: OperationView) => phases.map(({ phase }) => phase)

  test('the artifact alone lies there, and a dry run says that it has to be brought back', async () => {
    const found = await artifacts()
    assert.equal(found['manifest.json'], 'Hot')
    assert.equal(found['keys-1.json'], 'Hot')
    assert.deepEqual(Object.entries(found).filter(([, tier]) => tier === 'Archive').length, 1)
    const dry = await stack.ended((await restore('dry', { dryRun: true })).id)
    assert.equal(dry.state, 'succeeded', JSON.stringify(dry.error))
    assert.ok(
      dry.warnings.some(text => /1 object in an archive; bringing it back usually takes 15 hours/.test(text)),
      JSON.stringify(dry.warnings),
    )
    assert.equal(Object.values(await artifacts()).filter(tier => tier === 'Archive').length, 1)
    await stack.expectOk<PlanView>('GET', `/v1/operations/${dry.id}/plan`)
  })

  test('a restore brings it back, and another backup of the server is made meanwhile', async () => {
    coming = true
    const begun = await restore('back')
    const waiting = await thawing(begun.id)
    assert.equal(waiting.workflowId, `request/${begun.id}`)
    const beside = await stack.ended((await stack.backup({ connection: 'shop', destinations: ['disk'] })).id)
    assert.equal(beside.state, 'succeeded', JSON.stringify(beside.error))
    coming = false
    const ended = await stack.ended(begun.id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.ok(phasesOf(ended).includes('thaw'))
    assert.match(ended.phases.find(({ phase }) => phase === 'thaw')?.summary ?? '', /brought back$/)
    assert.deepEqual(await digestSqlite(join(stack.directory, 'back.db')), await digestSqlite(shop))
  })

  test('worker and API may die while it is on its way; it is asked for once', async () => {
    coming = true
    proxy.seen.length = 0
    const begun = await restore('killed')
    await thawing(begun.id)
    await stack.worker?.kill9()
    await stack.api.kill9()
    await stack.restartApi()
    stack.startWorker()
    await stack.pause(begun.id)
    await eventually('it is paused', async () =>
      (await stack.operation(begun.id)).state === 'paused' ? true : undefined,
    )
    coming = false
    await stack.resume(begun.id)
    const ended = await stack.ended(begun.id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.equal(proxy.seen.filter(line => line.includes('comp=tier')).length, 1)
    assert.deepEqual(await digestSqlite(join(stack.directory, 'killed.db')), await digestSqlite(shop))
  })

  test('for a host with a worker of its own, which dies meanwhile: the others ask for it', async () => {
    const host = await addWorkerHost(stack, 'db1')
    let worker = host.begin()
    await host.polling()
    await stack.expectOk('POST', '/v1/connections', {
      name: 'there',
      url: `sqlite:${shop}`,
      host: 'db1',
      method: 'logical',
    })
    coming = true
    const database = join(stack.directory, 'there.db')
    const begun = await restore('there', { target: { connection: 'there', database } })
    await thawing(begun.id)
    await worker.kill9()
    coming = false
    worker = host.begin()
    const ended = await stack.ended(begun.id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.deepEqual(await digestSqlite(database), await digestSqlite(shop))
    await worker.terminate()
  })

  test('it is cancelled while it waits', async () => {
    coming = true
    const begun = await restore('cancelled')
    await thawing(begun.id)
    await stack.expectOk('POST', `/v1/operations/${begun.id}/cancel`, {})
    assert.equal((await stack.ended(begun.id)).state, 'cancelled')
  })

  test('a verification that reads brings it back where it was asked to; nothing else spends money on it', async () => {
    const started = async (path: string, body: object) => {
      const { operation } = await stack.expectOk<{ operation: OperationView }>('POST', path, body)
      return await stack.ended(operation.id)
    }
    const verify = (level: string, more = {}) => started(`/v1/backups/${backup}/verify`, { level, ...more })
    const verified = async () => (await stack.expectOk<BackupView>('GET', `/v1/backups/${backup}`)).verified
    const looked = await verify('exists')
    assert.equal(looked.state, 'succeeded', JSON.stringify(looked.error))
    assert.ok(!phasesOf(looked).includes('thaw'))
    const before = await verified()
    proxy.seen.length = 0
    for (const level of ['checksum', 'deep']) {
      const unread = await verify(level)
      assert.equal(unread.error?.code, 'destination.archived', JSON.stringify(unread))
      assert.match(unread.error.hint, /verify BACKUP --thaw/)
    }
    const scrubbed = await started('/v1/scrub', { level: 'deep', destination: 'archive' })
    assert.equal(scrubbed.state, 'succeeded', JSON.stringify(scrubbed.error))
    assert.ok(
      scrubbed.warnings.some(text => text.startsWith(backup) && /was not verified: .*archive/.test(text)),
      JSON.stringify(scrubbed.warnings),
    )
    assert.match(scrubbed.phases.find(({ phase }) => phase === 'verify')?.summary ?? '', /, 1 not verified$/)
    // It came first, and is not in the way of the others.
    const next = await started('/v1/scrub', { level: 'checksum', budgetBytes: 1 })
    assert.equal(next.phases.find(({ phase }) => phase === 'verify')?.summary, '1 of 1 whole')
    // Neither damaged nor found whole.
    assert.deepEqual(await verified(), before)
    assert.ok(!proxy.seen.some(line => line.includes('comp=tier')))
    const read = await verify('checksum', { thaw: true })
    assert.equal(read.state, 'succeeded', JSON.stringify(read.error))
    assert.ok(phasesOf(read).includes('thaw'))
  })
})
