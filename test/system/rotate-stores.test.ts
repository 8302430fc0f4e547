/** Rotation of keys in every other store: Azure, Google, and a bucket that locks what it is given. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { keySidecarSchema } from '../../model/manifest.ts'
import type { KeyView, OperationView } from '../../model/views.ts'
import { abandon, backupPrefix, readKeySidecars, settled } from '../../storage/backups.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { openersOf } from '../../storage/sidecars.ts'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { type Gcs, startGcs } from '../servers/gcs.ts'
import { type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { azureInput, gcsInput, type Stack, s3Input, startStack } from './stack.ts'

describe('rotation of keys, in every store', () => {
  let stack: Stack
  let blobs: Azurite
  let google: Gcs
  let store: Versitygw
  let front: Interceptor
  let vault: Destination
  let source: string

  before(async () => {
    blobs = await startAzurite()
    google = await startGcs()
    store = await startVersitygw({ versioning: true })
    front = await startInterceptor(store.endpoint)
    const { endpoint, region } = store
    const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { ...store.secrets } })
    await client.send(new CreateBucketCommand({ Bucket: 'locked', ObjectLockEnabledForBucket: true }))
    client.destroy()
    vault = await openDestination(store.destinationRecord('prod', 'locked'), store.secrets)
    stack = await startStack()
    await stack.expectOk('POST', '/v1/destinations', azureInput(blobs, 'blobs', 'prod'))
    await stack.expectOk('POST', '/v1/destinations', gcsInput(google, 'google', 'prod'))
    await stack.expectOk('POST', '/v1/destinations', {
      ...s3Input(store, 'vault', '', front.url),
      uri: 's3://locked/prod',
      objectLock: { mode: 'governance', days: 30 },
    })
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 1)
    await stack.expectOk('POST', '/v1/connections', { name: 'lite', url: `sqlite:${source}` })
  })
  after(async () => {
    await stack?.stop()
    await vault?.close()
    await front?.close()
    await blobs?.stop()
    await google?.stop()
    await store?.stop()
  })

  const backup = async (destination: string): Promise<string> => {
    const { id } = await stack.backup({ connection: 'lite', destinations: [destination] })
    const made = await stack.ended(id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    return made.backup ?? ''
  }
  const rotate = async (from: string, to: string) => {
    const path = `/v1/keys/${from}/rotate`
    return (await stack.expectOk<{ operation: OperationView }>('POST', path, { to })).operation.id
  }
  const ended = async (id: string) => {
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify([view.error, view.warnings]))
    return view.phases.map(({ summary }) => summary)
  }
  const key = async (name: string) => {
    const { items } = await stack.expectOk<{ items: KeyView[] }>('GET', '/v1/keys')
    const found = items.find(one => one.name === name)
    assert.ok(found, name)
    return found
  }
  const opensWith = async (backupId: string, kid: string) => {
    const found = await settled(vault, 'lite', backupId)
    assert.equal(found.state, 'committed')
    const sidecars = await readKeySidecars(vault, 'lite', backupId, found.signed.attemptId)
    return openersOf(found.signed, sidecars).includes(kid)
  }

  test('one sidecar more for each backup, locked as the rest of it; what the old key opened the new one restores', async () => {
    const made = {
      blobs: await backup('blobs'),
      google: await backup('google'),
      vault: await backup('vault'),
    }
    await stack.expectOk('POST', '/v1/keys', { name: 'second' })
    const told = await ended(await rotate('default', 'second'))
    for (const name of Object.keys(made))
      assert.ok(told.includes(`${name}: 1 of 1 backups open with second`), name)
    const retired = await stack.call('POST', '/v1/keys/default/retire', {})
    assert.equal(retired.status, 200, JSON.stringify(retired.body))
    for (const [name, id] of Object.entries(made)) {
      const target = { connection: 'lite', database: join(stack.directory, `${name}.db`) }
      const view = await stack.ended((await stack.restore({ backup: id, target })).id)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      assert.deepEqual(digestSqlite(target.database), digestSqlite(source))
    }
    let locked = 0
    for await (const { key: object } of vault.list(backupPrefix('lite', made.vault))) {
      if (!/\/keys-\d+\.json$/.test(object)) continue
      keySidecarSchema.parse(JSON.parse(Buffer.from((await vault.read(object)) ?? []).toString('utf8')))
      assert.ok((await vault.stat(object))?.protection?.lockedUntil, object)
      locked += 1
    }
    assert.equal(locked, 2)
  })

  test('a backup that is deleted at that moment keeps its locked sidecar, and keeps no other one from being rotated', async () => {
    const [first, second] = [await backup('vault'), await backup('vault')]
    await stack.expectOk('POST', '/v1/keys', { name: 'third' })
    const { kid } = await key('third')
    const put = front.hold(
      'after',
      (method, url) => method === 'PUT' && url.includes(`${first}/`) && /keys-2/.test(url),
    )
    const id = await rotate('second', 'third')
    await put.reached
    await abandon(vault, 'lite', first, { by: 'somebody', reason: 'at that moment' })
    put.release()
    await ended(id)
    assert.ok(await opensWith(second, kid))
    assert.equal((await settled(vault, 'lite', first)).state, 'deleted')
    // Nothing is left that needs the old key: the catalog knows of the deletion, too.
    const retired = await stack.call('POST', '/v1/keys/second/retire', {})
    assert.equal(retired.status, 200, JSON.stringify(retired.body))
  })
})
