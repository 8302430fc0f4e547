/**
 * Objects that move between classes. Azurite has tiers; versitygw and fake-gcs-server keep the bytes and know no classes: which one an
 * object is in is put before them, as the stores' own documentation has it (`recorded`).
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { readS3Settings } from '../../storage/s3/form.ts'
import { moveObject } from '../../storage/s3/move.ts'
import { openStore, type Store } from '../../storage/s3/store.ts'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { type Gcs, startGcs } from '../servers/gcs.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { refuses } from './conformance.ts'
import { type Fault, type FaultyStore, s3Error, startFaultyStore } from './faults.ts'

const mib = 1024 * 1024
const pass: Fault = { kind: 'pass' }

/** As a promise, also where there is no such method. */
const move = async (destination: Destination, key: string, to: string) => {
  assert.ok(destination.move)
  await destination.move(key, to)
}

describe('S3: between classes', () => {
  let server: Versitygw
  let faulty: FaultyStore
  let destination: Destination
  let store: Store
  const limits = { wholeBytes: mib, partBytes: 5 * mib, maxParts: 10_000 }

  before(async () => {
    server = await startVersitygw()
    faulty = await startFaultyStore(server.endpoint)
  })
  after(async () => {
    await destination?.close()
    await faulty?.close()
    await server?.stop()
  })
  beforeEach(async t => {
    faulty.fault = () => pass
    delete faulty.heard
    const record = server.destinationRecord(t.name.replace(/[^a-z]+/gi, '-').slice(0, 40))
    const settings = { ...record.settings, endpoint: faulty.endpoint }
    destination = await openDestination({ ...record, settings }, server.secrets)
    store = openStore(record.uri, readS3Settings(settings), server.secrets, 30)
    faulty.seen.length = 0
  })

  const isCopy = (headers: Record<string, unknown>) => headers['x-amz-copy-source'] !== undefined
  const asked = () => faulty.seen.filter(one => /^(PUT|POST|DELETE)/.test(one))
  /** Answers as a store that keeps the class which an object was last written with. */
  const keeping = (also: Record<string, string> = {}, first = 'STANDARD') => {
    let storageClass = first
    const requests: Record<string, unknown>[] = []
    faulty.fault = ({ method, url = '', headers }) => {
      const named = headers['x-amz-storage-class']
      const begins = method === 'PUT' ? isCopy(headers) : method === 'POST' && /[?&]uploads/.test(url)
      if (begins && typeof named === 'string') {
        requests.push(headers)
        storageClass = named
      }
      if (method === 'HEAD') {
        return { kind: 'changed', headers: { 'x-amz-storage-class': storageClass, ...also } }
      }
      return pass
    }
    return requests
  }

  test('recorded: the store copies it onto itself; asked again nothing moves', async () => {
    const body = randomBytes(1000)
    await destination.put('folder/a +b.tink', body)
    faulty.seen.length = 0
    const requests = keeping()
    await move(destination, 'folder/a +b.tink', 'GLACIER_IR')
    assert.equal(requests.length, 1)
    assert.equal(requests[0]?.['x-amz-storage-class'], 'GLACIER_IR')
    assert.equal(requests[0]?.['x-amz-metadata-directive'], 'REPLACE')
    assert.match(String(requests[0]?.['x-amz-copy-source']), /\/folder\/a%20%2Bb\.tink$/)
    assert.deepEqual(Buffer.from((await destination.read('folder/a +b.tink')) ?? []), body)
    await move(destination, 'folder/a +b.tink', 'GLACIER_IR')
    assert.equal(requests.length, 1)
    await refuses(move(destination, 'nothing', 'GLACIER_IR'), 'destination.object-missing')
  })

  test('recorded: what is long by parts; one that was stopped goes on with what the store has', async () => {
    const body = randomBytes(12 * mib)
    await destination.put('long', body)
    faulty.seen.length = 0
    keeping()
    const whole = faulty.fault
    const parts = () => faulty.seen.filter(one => /^PUT .*partNumber=/.test(one))
    faulty.fault = incoming =>
      /partNumber=3/.test(incoming.url ?? '')
        ? { kind: 'answer', status: 403, body: s3Error('AccessDenied', 'no') }
        : whole(incoming)
    await refuses(moveObject(store, 'long', 'GLACIER_IR', limits), 'destination.denied')
    assert.equal(parts().length, 3)
    keeping()
    const again = faulty.fault
    faulty.fault = incoming => {
      // The server says "STANDARD" of every upload.
      if (incoming.method !== 'GET' || !/[?&]uploads/.test(incoming.url ?? '')) return again(incoming)
      const classed = (text: string) =>
        text
          .replace(/<StorageClass>.*?<\/StorageClass>/g, '')
          .replace(/<\/Upload>/g, '<StorageClass>GLACIER_IR</StorageClass></Upload>')
      return { kind: 'changed', body: classed }
    }
    faulty.seen.length = 0
    // It was begun before: nobody opens another upload, which is what the class is taken from here.
    faulty.fault = withClass(faulty.fault, () => /complete|uploadId/.test(asked().at(-1) ?? ''))
    await moveObject(store, 'long', 'GLACIER_IR', limits)
    assert.deepEqual(parts().length, 1, faulty.seen.join('\n'))
    assert.ok(!asked().some(one => /^POST .*[?&]uploads/.test(one)))
    faulty.fault = () => pass
    assert.deepEqual(Buffer.from((await destination.read('long')) ?? []), body)
    for await (const open of destination.listUploads('')) assert.fail(`left open: ${open.key}`)
  })

  /** HEAD answers with the class once `moved`. */
  const withClass =
    (others: FaultyStore['fault'], moved: () => boolean): FaultyStore['fault'] =>
    incoming =>
      incoming.method === 'HEAD' && moved()
        ? { kind: 'changed', headers: { 'x-amz-storage-class': 'GLACIER_IR' } }
        : others(incoming)

  test('recorded: what is locked, and what lies in an archive, stays where it is', async () => {
    await destination.put('a', randomBytes(10))
    faulty.seen.length = 0
    const until = new Date(Date.now() + 86_400_000).toISOString()
    keeping({ 'x-amz-object-lock-mode': 'COMPLIANCE', 'x-amz-object-lock-retain-until-date': until })
    await refuses(move(destination, 'a', 'GLACIER'), 'destination.locked')
    keeping({}, 'GLACIER')
    await refuses(move(destination, 'a', 'DEEP_ARCHIVE'), 'destination.archived')
    assert.deepEqual(asked(), [])
  })

  test('a store that takes the copy and keeps no classes is found out', async () => {
    await destination.put('a', randomBytes(10))
    await refuses(move(destination, 'a', 'GLACIER_IR'), 'destination.misconfigured')
    assert.equal((await destination.read('a'))?.length, 10)
  })

  test('recorded: where versions are kept the older ones go, and never a newer one', async () => {
    await destination.put('a', randomBytes(10))
    const version = (id: string, latest: boolean) =>
      `<Version><Key>${store.fullKey('a')}</Key><VersionId>${id}</VersionId><IsLatest>${latest}</IsLatest></Version>`
    const answering = (versions: string) => {
      keeping({ 'x-amz-version-id': 'v2' }, 'GLACIER_IR')
      const others = faulty.fault
      const answer = (body: string): Fault => ({ kind: 'answer', status: 200, body })
      faulty.fault = incoming => {
        const url = incoming.url ?? ''
        if (/[?&]versioning/.test(url)) {
          return answer('<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>')
        }
        if (/[?&]versions/.test(url)) {
          return answer(
            `<ListVersionsResult><IsTruncated>false</IsTruncated>${versions}</ListVersionsResult>`,
          )
        }
        if (incoming.method === 'DELETE') return { kind: 'answer', status: 204, body: '' }
        return others(incoming)
      }
      faulty.seen.length = 0
    }
    const removed = () => asked().map(one => /versionId=(\w+)/.exec(one)?.[1])
    answering(version('v2', true) + version('v1', false) + version('v0', false))
    await move(destination, 'a', 'GLACIER_IR')
    assert.deepEqual(removed(), ['v1', 'v0'])
    // Somebody else's copy came after ours: that one is theirs to tidy up after.
    answering(version('v3', true) + version('v2', false) + version('v1', false))
    await move(destination, 'a', 'GLACIER_IR')
    assert.deepEqual(removed(), [])
  })
})

describe('Azure: between tiers', () => {
  let server: Azurite
  let faulty: FaultyStore
  let destination: Destination
  before(async () => {
    server = await startAzurite()
    faulty = await startFaultyStore(server.endpoint)
    const record = server.destinationRecord('tiers')
    const settings = { ...record.settings, endpoint: `${faulty.endpoint}/${server.account}` }
    destination = await openDestination({ ...record, settings }, server.secrets)
  })
  after(async () => {
    await destination?.close()
    await faulty?.close()
    await server?.stop()
  })
  const changes = () => faulty.seen.filter(one => /comp=tier/.test(one)).length
  const tier = async () => (await destination.stat('a'))?.storageClass

  test('in place, once; out of the archive nothing moves by itself', async () => {
    const body = randomBytes(1000)
    await destination.put('a', body)
    await move(destination, 'a', 'Cool')
    assert.equal(await tier(), 'Cool')
    assert.equal(changes(), 1)
    await move(destination, 'a', 'Cool')
    assert.equal(changes(), 1)
    assert.deepEqual(Buffer.from((await destination.read('a')) ?? []), body)
    await move(destination, 'a', 'Archive')
    assert.equal(await tier(), 'Archive')
    await refuses(move(destination, 'a', 'Cold'), 'destination.archived')
    await refuses(move(destination, 'nothing', 'Cold'), 'destination.object-missing')
  })

  test('an answer that was lost: the tier is what was asked for', async () => {
    await destination.put('b', randomBytes(10))
    let met = 0
    faulty.fault = ({ url = '' }) => {
      if (!/comp=tier/.test(url) || met > 0) return pass
      met += 1
      return { kind: 'lose-answer' }
    }
    await move(destination, 'b', 'Cold')
    assert.equal((await destination.stat('b'))?.storageClass, 'Cold')
  })
})

describe('GCS: between classes', () => {
  let server: Gcs
  let faulty: FaultyStore
  let destination: Destination
  before(async () => {
    server = await startGcs()
    faulty = await startFaultyStore(server.endpoint)
    const record = server.destinationRecord('classes')
    destination = await openDestination({ ...record, settings: { endpoint: faulty.endpoint } }, {})
  })
  after(async () => {
    await destination?.close()
    await faulty?.close()
    await server?.stop()
  })

  test('recorded: rewritten onto itself, by as many requests as it takes', async () => {
    const { version: generation } = await destination.put('a', randomBytes(1000))
    const asked: { query: URLSearchParams; body: { storageClass?: string } }[] = []
    faulty.heard = ({ url = '' }, body) => {
      if (!/\/rewriteTo\//.test(url)) return
      asked.push({ query: new URL(url, 'http://x').searchParams, body: JSON.parse(body.toString()) })
    }
    const answer = (body: object): Fault => ({
      kind: 'answer',
      status: 200,
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    })
    faulty.fault = ({ url = '' }) => {
      if (!/\/rewriteTo\//.test(url)) return pass
      return /rewriteToken=/.test(url)
        ? answer({ done: true, resource: { name: 'a', generation: '99', storageClass: 'COLDLINE' } })
        : answer({ done: false, rewriteToken: 'more' })
    }
    await move(destination, 'a', 'COLDLINE')
    assert.equal(asked.length, 2)
    assert.equal(asked[0]?.body.storageClass, 'COLDLINE')
    assert.equal(asked[0]?.query.get('ifGenerationMatch'), generation)
    assert.equal(asked[1]?.query.get('rewriteToken'), 'more')
    await refuses(move(destination, 'nothing', 'COLDLINE'), 'destination.object-missing')
  })

  test('recorded: where it is already, nothing moves', async () => {
    await destination.put('b', randomBytes(10))
    faulty.fault = ({ method, url = '' }) =>
      method === 'GET' && /\/o\//.test(url)
        ? { kind: 'changed', body: text => JSON.stringify({ ...JSON.parse(text), storageClass: 'COLDLINE' }) }
        : pass
    faulty.seen.length = 0
    await move(destination, 'b', 'COLDLINE')
    assert.ok(!faulty.seen.some(one => /rewriteTo/.test(one)))
  })
})
