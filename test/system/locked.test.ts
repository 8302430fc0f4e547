/** Object lock through the whole product: on a real bucket that has it, from the destination's settings to what a sweep may remove. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import type { BackupListed, BackupShown, DestinationView } from '../../model/views.ts'
import { type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { makeShop } from '../support/shop.ts'
import { eventually, type Stack, s3Input, startStack } from './stack.ts'

const root = join(import.meta.dirname, '../..')

describe('backups under object lock', () => {
  let stack: Stack
  let store: Versitygw
  let way: Interceptor

  before(async () => {
    store = await startVersitygw({ versioning: true })
    const { endpoint, region } = store
    const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { ...store.secrets } })
    await client.send(new CreateBucketCommand({ Bucket: 'locked', ObjectLockEnabledForBucket: true }))
    client.destroy()
    stack = await startStack()
    way = await startInterceptor(store.endpoint)
    const shop = join(stack.directory, 'shop.db')
    makeShop(shop, { rows: 500 })
    await stack.expectOk('POST', '/v1/connections', {
      name: 'shop',
      url: `sqlite:${shop}`,
      method: 'logical',
    })
    const destination = await stack.expectOk<DestinationView>('POST', '/v1/destinations', {
      ...s3Input(store, 'vault', '', way.url),
      uri: 's3://locked/prod',
      objectLock: { mode: 'governance', days: 30 },
    })
    assert.deepEqual(destination.options.objectLock, { mode: 'governance', days: 30 })
  })
  after(async () => {
    await stack?.stop()
    await way?.close()
    await store?.stop()
  })

  test('a backup is locked as a whole, and shown with the date', async () => {
    const made = await stack.ended((await stack.backup({ connection: 'shop', destinations: ['vault'] })).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    const shown = await stack.expectOk<BackupShown>('GET', `/v1/backups/${made.backup}`)
    const [stored, ...others] = shown.stored
    assert.deepEqual(others, [])
    assert.equal(stored?.destination, 'vault')
    const days = (Date.parse(stored?.lockedUntil ?? '') - Date.now()) / 86_400_000
    assert.ok(days > 29.9 && days <= 30, String(stored?.lockedUntil))
    assert.equal(stored?.archived, false)
    const args = ['backups', 'show', made.backup ?? '']
    const { stdout } = await promisify(execFile)(join(root, 'bin/holdfast'), args, {
      env: { ...process.env, HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token },
    })
    assert.match(stdout, /at vault +locked until \d{4}-/)
    const listed = await stack.expectOk<{ items: BackupListed[] }>('GET', '/v1/backups?stored=true')
    assert.deepEqual(listed.items.find(({ id }) => id === made.backup)?.stored, shown.stored)
    const plain = await stack.expectOk<{ items: BackupListed[] }>('GET', '/v1/backups')
    assert.ok(plain.items.every(item => item.stored === undefined))
    const list = await promisify(execFile)(join(root, 'bin/holdfast'), ['backups', 'list', '--locks'], {
      env: { ...process.env, HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token },
    })
    assert.match(list.stdout, /LOCKED\n[\s\S]*vault: until \d{4}-/)
  })

  test('one that is given up is none at once; what is locked of it stays, and a sweep says so', async () => {
    // The artifact is whole and locked when it is cancelled; the answer that says so is on its way.
    const uploaded = way.hold('after', (method, url) => method === 'POST' && url.includes('uploadId='))
    const begun = await stack.backup({ connection: 'shop', destinations: ['vault'] })
    await uploaded.reached
    await stack.expectOk('POST', `/v1/operations/${begun.id}/cancel`, {})
    await eventually('it hears of it', async () =>
      (await stack.operation(begun.id)).state === 'running' ? undefined : true,
    )
    uploaded.release()
    const ended = await stack.ended(begun.id)
    assert.equal(ended.state, 'cancelled', JSON.stringify(ended.error))
    assert.equal((await stack.refused('GET', `/v1/backups/${begun.backup}`)).status, 404)
    const log = await stack.expectOk<{ items: { text: string }[] }>('GET', `/v1/operations/${begun.id}/log`)
    assert.ok(
      log.items.some(({ text }) => /stay: .*is locked until \d{4}-/.test(text)),
      JSON.stringify(log.items),
    )
    const { swept } = await stack.ended((await stack.sweep()).id)
    assert.ok(swept)
    assert.deepEqual(
      swept.removed.filter(what => what.includes(begun.backup ?? '')),
      [],
    )
    const kept = swept.skipped.filter(({ what }) => what.includes(begun.backup ?? ''))
    assert.ok(kept.length > 0)
    assert.deepEqual([...new Set(kept.map(({ code }) => code))], ['destination.locked'])
  })
})
