/**
 * Tiers on S3: the bytes are copied and read by a real server; which class an object is in, which versitygw does not know, is put
 * before it, as Amazon documents it (`recorded`).
 */
import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/views.ts'
import { type Fault, type FaultyStore, s3Error, startFaultyStore } from '../destinations/faults.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeShop } from '../support/shop.ts'
import { age } from './aging.ts'
import { type Stack, s3Input, startStack } from './stack.ts'

describe('tiers on S3', () => {
  let stack: Stack
  let store: Versitygw
  let proxy: FaultyStore
  /** By the path of the object; absent: as it was written. */
  const classes = new Map<string, string>()
  /** What was brought back for some days. */
  const readable = new Set<string>()

  function classed({ method, url = '', headers }: IncomingMessage): Fault {
    const { pathname, searchParams } = new URL(url, 'http://x')
    const frozen = classes.get(pathname) === 'GLACIER' && !readable.has(pathname)
    const refused = (): Fault => ({
      kind: 'answer',
      status: 403,
      body: s3Error('InvalidObjectState', 'The operation is not valid for the object’s storage class'),
    })
    if (searchParams.has('restore')) {
      readable.add(pathname)
      return { kind: 'answer', status: 202, body: '' }
    }
    if (method === 'PUT' && headers['x-amz-copy-source'] !== undefined) {
      if (frozen) return refused()
      classes.set(pathname, String(headers['x-amz-storage-class']))
      readable.delete(pathname)
    }
    if (method === 'GET' && frozen) return refused()
    if (method !== 'HEAD') return { kind: 'pass' }
    const until = new Date(Date.now() + 7 * 86_400_000).toUTCString()
    return {
      kind: 'changed',
      headers: {
        'x-amz-storage-class': classes.get(pathname),
        'x-amz-restore': readable.has(pathname)
          ? `ongoing-request="false", expiry-date="${until}"`
          : undefined,
      },
    }
  }

  before(async () => {
    store = await startVersitygw()
    proxy = await startFaultyStore(store.endpoint)
    proxy.fault = classed
    stack = await startStack()
    await stack.expectOk('POST', '/v1/destinations', {
      ...s3Input(store, 'vault', 'tiers', proxy.endpoint),
      tiers: [
        { afterDays: 7, class: 'STANDARD_IA' },
        { afterDays: 30, class: 'GLACIER' },
      ],
    })
  })
  after(async () => {
    await stack?.stop()
    await proxy?.close()
    await store?.stop()
  })

  const tiered = async () => {
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      '/v1/destinations/vault/tiers',
      {},
    )
    const ended = await stack.ended(operation.id)
    assert.equal(ended.state, 'succeeded', JSON.stringify([ended.error, ended.warnings]))
  }

  test('recorded: colder and colder, restored from each, and then left where it is', async () => {
    const shop = join(stack.directory, 'shop.db')
    makeShop(shop, { rows: 500 })
    await stack.expectOk('POST', '/v1/connections', {
      name: 'shop',
      url: `sqlite:${shop}`,
      method: 'logical',
    })
    const { id } = await stack.backup({ connection: 'shop', destinations: ['vault'] })
    const made = await stack.ended(id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    const backup = made.backup ?? ''
    const restored = async (name: string) => {
      const database = join(stack.directory, `${name}.db`)
      const begun = await stack.restore({ backup, target: { connection: 'shop', database } })
      const ended = await stack.ended(begun.id)
      assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
      assert.deepEqual(await digestSqlite(database), await digestSqlite(shop))
      return ended.phases.map(({ phase }) => phase)
    }
    const copies = () => [...classes.values()]

    await age(stack, [backup], 8)
    await tiered()
    assert.deepEqual(copies(), ['STANDARD_IA'])
    assert.match([...classes.keys()].join(), /\.tink$/)
    assert.ok(!(await restored('infrequent')).includes('thaw'))

    await age(stack, [backup], 31)
    await tiered()
    assert.deepEqual(copies(), ['GLACIER'])
    assert.ok((await restored('archived')).includes('thaw'))
    assert.equal(readable.size, 1)
    // The copy that was brought back is gone by itself one day; the object never left its archive.
    await tiered()
    assert.deepEqual(copies(), ['GLACIER'])
    readable.clear()
    await tiered()
    const copied = proxy.seen.filter(line => line.startsWith('PUT') && line.includes('.tink'))
    assert.ok((await restored('again')).includes('thaw'))
    assert.equal(
      proxy.seen.filter(line => line.startsWith('PUT') && line.includes('.tink')).length,
      copied.length,
    )
  })
})
