/** Artifacts that grow old move to a colder tier: on a real store that has them, once, and what is small stays at hand. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { z } from 'zod'
import { type Catalog, openCatalog } from '../../catalog/open.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import { recordTier } from '../../catalog/tiers.ts'
import { freePort } from '../../cli/free-port.ts'
import type { ScheduleView } from '../../model/schedule-schemas.ts'
import type { BackupView, DestinationView, OperationView, tieringView } from '../../model/views.ts'
import { type FaultyStore, startFaultyStore } from '../destinations/faults.ts'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { makeShop } from '../support/shop.ts'
import { azureInput } from '../system/stack.ts'
import { startWorkedApi, type WorkedApi } from './worked.ts'

type Tiering = z.infer<typeof tieringView>

describe('tiering', () => {
  let stack: WorkedApi
  let blobs: Azurite
  let proxy: FaultyStore
  const backups: string[] = []

  before(async () => {
    blobs = await startAzurite()
    proxy = await startFaultyStore(blobs.endpoint)
    // Its worker finds it again after a restart.
    stack = await startWorkedApi({ HOLDFAST_API_LISTEN: `127.0.0.1:${await freePort()}` })
    const store = { ...azureInput(blobs, 'vault', 'tiering'), endpoint: `${proxy.endpoint}/${blobs.account}` }
    const tiers = [
      { afterDays: 7, class: 'Cool' },
      { afterDays: 365, class: 'Archive' },
    ]
    const { options } = await stack.expectOk<DestinationView>('POST', '/v1/destinations', { ...store, tiers })
    assert.deepEqual(options.tiers, tiers)
    const shop = join(stack.directory, 'shop.db')
    makeShop(shop, { rows: 100 })
    await stack.expectOk('POST', '/v1/connections', {
      name: 'shop',
      url: `sqlite:${shop}`,
      method: 'logical',
    })
    for (const _ of [1, 2]) {
      const { id } = await stack.backup({ connection: 'shop', destinations: ['vault'] })
      const made = await stack.ended(id)
      assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
      backups.push(made.backup)
    }
  })
  after(async () => {
    await stack?.stop()
    await proxy?.close()
    await blobs?.stop()
  })

  /** The catalog is its process's alone: this happens while there is none. */
  const inCatalog = (work: (catalog: Catalog) => Promise<unknown>) =>
    stack.api.restart(async () => {
      const secretKey = (await ensureSecretKey(stack.api.settings)).key
      const catalog = await openCatalog({ url: stack.api.settings.catalogUrl, secretKey })
      await work(catalog)
      await catalog.close()
    })
  const age = (backup: string, days: number) =>
    inCatalog(({ db }) =>
      db
        .updateTable('copies')
        .set({ committed_at: new Date(Date.now() - days * 86_400_000).toISOString() })
        .where('backup_id', '=', backup)
        .execute(),
    )
  const forget = (backup: string) => inCatalog(catalog => recordTier(catalog, backup, 'vault', null))
  const tiersOf = async (backup: string) => {
    const found = { artifacts: new Set<string>(), others: new Set<string>() }
    const prefix = `tiering/shop/backups/${backup}/`
    for await (const { name, properties } of blobs.containerClient.listBlobsFlat({ prefix })) {
      const group = /\.json$/.test(name) ? found.others : found.artifacts
      group.add(properties.accessTier ?? '')
    }
    return { artifacts: [...found.artifacts], others: [...found.others] }
  }
  const due = async () => (await stack.expectOk<Tiering>('GET', '/v1/destinations/vault/tiers')).moves
  const run = async () => {
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      '/v1/destinations/vault/tiers',
      {},
    )
    return await stack.ended(operation.id)
  }
  const changes = () => proxy.seen.filter(one => /comp=tier/.test(one)).length

  test('what is young stays; what is old enough is said, moved once, and only its artifacts', async () => {
    const [old = '', young = ''] = backups
    assert.deepEqual(await due(), [])
    await age(old, 8)
    // Azure shows no tier that it infers in the same way everywhere: what is not moved stays what it was.
    const before = await tiersOf(young)
    const { others } = await tiersOf(old)
    assert.deepEqual(
      (await due()).map(move => [move.backup, move.connection, move.to]),
      [[old, 'shop', 'Cool']],
    )
    // One that is in use is for another time.
    await inCatalog(async ({ db }) => {
      const { id } = await db.selectFrom('operations').select('id').executeTakeFirstOrThrow()
      await db.insertInto('pins').values({ operation_id: id, backup_id: old, destination: 'vault' }).execute()
    })
    assert.deepEqual(await due(), [])
    await inCatalog(({ db }) => db.deleteFrom('pins').where('backup_id', '=', old).execute())

    const moved = await run()
    assert.equal(moved.state, 'succeeded', JSON.stringify([moved.error, moved.warnings]))
    assert.equal(moved.kind, 'tiering')
    assert.match(moved.phases.find(({ phase }) => phase === 'move')?.summary ?? '', /^1 backups moved/)
    assert.deepEqual(await tiersOf(old), { artifacts: ['Cool'], others })
    assert.deepEqual(await tiersOf(young), before)
    assert.deepEqual(await due(), [])
    const asked = changes()
    assert.equal((await run()).state, 'succeeded')
    assert.equal(changes(), asked)
  })

  test('an answer that is lost, and what the catalog does not know: looked at, and not moved twice', async () => {
    const [old = ''] = backups
    await age(old, 400)
    let lost = 0
    proxy.fault = ({ url = '' }) => {
      if (!/comp=tier/.test(url) || lost > 0) return { kind: 'pass' }
      lost += 1
      return { kind: 'lose-answer' }
    }
    const view = await run()
    assert.equal(view.state, 'succeeded', JSON.stringify([view.error, view.warnings]))
    assert.equal(lost, 1)
    assert.deepEqual((await tiersOf(old)).artifacts, ['Archive'])
    proxy.fault = () => ({ kind: 'pass' })
    // As after a kill between the move and its record.
    await forget(old)
    const asked = changes()
    assert.equal((await run()).state, 'succeeded')
    assert.equal(changes(), asked)
    assert.deepEqual(await due(), [])
  })

  test('a backup whose artifact is gone is named, and keeps no other one', async () => {
    const [old = '', young = ''] = backups
    await forget(old)
    await age(young, 9)
    const prefix = `tiering/shop/backups/${old}/`
    for await (const { name } of blobs.containerClient.listBlobsFlat({ prefix })) {
      if (!/\.json$/.test(name)) await blobs.containerClient.deleteBlob(name)
    }
    const view = await run()
    assert.equal(view.state, 'partial')
    assert.equal(view.error?.code, 'tiering.incomplete')
    assert.ok(view.warnings.some(line => line.startsWith(`${old}: destination.object-missing`)))
    assert.deepEqual((await tiersOf(young)).artifacts, ['Cool'])
  })

  test('by a schedule; a destination without tiers is refused', async () => {
    const spec = { everySeconds: 86_400 }
    const schedule = { name: 'cold', kind: 'tiering', spec }
    const nameless = await stack.refused('POST', '/v1/schedules', schedule)
    assert.equal(nameless.errors?.[0]?.path, 'destinations')
    const added = await stack.expectOk<ScheduleView>('POST', '/v1/schedules', {
      ...schedule,
      destinations: ['vault'],
    })
    assert.equal(added.connection, null)
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      '/v1/schedules/cold/trigger',
      {},
    )
    assert.equal((await stack.ended(operation.id)).kind, 'tiering')
    await stack.expectOk('PATCH', '/v1/destinations/vault', { tiers: null })
    const refused = await stack.refused('POST', '/v1/destinations/vault/tiers', {})
    assert.match(refused.errors?.[0]?.message ?? '', /no tiers/)
    const shown = await stack.expectOk<BackupView>('GET', `/v1/backups/${backups[1]}`)
    assert.equal(shown.state, 'committed')
  })
})
