/** How objects are written to S3: class, encryption by the store, tags, metadata, limits of the store. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { GetObjectTaggingCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3'
import type { Json } from '../../model/types.ts'
import { openDestination } from '../../storage/index.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { collect } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { type FaultyStore, startFaultyStore } from './faults.ts'

describe('S3: how objects are written', () => {
  let server: Versitygw
  let watched: FaultyStore
  let client: S3Client
  const seen: { request: string; headers: IncomingHttpHeaders }[] = []

  before(async () => {
    server = await startVersitygw()
    watched = await startFaultyStore(server.endpoint)
    watched.fault = ({ method, url, headers }) => {
      seen.push({
        request: `${method} ${url?.split('?')[0]}${url?.includes('uploads') ? ' open' : ''}`,
        headers,
      })
      return { kind: 'pass' }
    }
    const { endpoint, region } = server
    client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { ...server.secrets } })
  })
  after(async () => {
    client?.destroy()
    await watched?.close()
    await server?.stop()
  })

  const opened = (options: Record<string, Json>, endpoint = watched.endpoint) => {
    const record = server.destinationRecord('options')
    return openDestination(
      { ...record, settings: { ...record.settings, endpoint, ...options } },
      server.secrets,
    )
  }
  const headersOf = (request: string) => seen.findLast(one => one.request === request)?.headers ?? {}

  test('tags and metadata are those of every object, small or not', async () => {
    const tags = { team: 'db', 'cost centre': 'a+b/c=d' }
    const destination = await opened({ tags, metadata: { owner: 'dba@example.com' } })
    await destination.put('small', Buffer.from('x'))
    const uploadId = await destination.openUpload('large')
    const body = randomBytes(1000)
    const part = await send(destination, 'large', uploadId, 1, 0, body)
    await destination.completeUpload('large', uploadId, [part])
    assert.ok(body.equals(await collect(await destination.get('large'))))
    for (const name of ['small', 'large']) {
      const of = { Bucket: server.bucket, Key: `options/${name}` }
      const { TagSet = [] } = await client.send(new GetObjectTaggingCommand(of))
      assert.deepEqual(Object.fromEntries(TagSet.map(({ Key, Value }) => [Key, Value])), tags)
      const { Metadata } = await client.send(new HeadObjectCommand(of))
      assert.equal(Metadata?.owner, 'dba@example.com')
    }
  })

  test('the storage class is asked for artifacts alone: manifests stay at hand', async () => {
    const destination = await opened({ storageClass: 'STANDARD_IA' })
    await destination.put('manifest.json', Buffer.from('{}'))
    const uploadId = await destination.openUpload('artifact')
    await destination.abortUpload('artifact', uploadId)
    const path = `/${server.bucket}/options`
    assert.equal(headersOf(`POST ${path}/artifact open`)['x-amz-storage-class'], 'STANDARD_IA')
    assert.equal(headersOf(`PUT ${path}/manifest.json`)['x-amz-storage-class'], undefined)
  })

  test('encryption by the store is asked for every object, with its key', async () => {
    // This server has no KMS: what it makes of the request does not matter here.
    const destination = await opened({ encryption: 'aws:kms', kmsKeyId: 'alias/backups' })
    await destination.put('sealed.json', Buffer.from('{}')).catch(() => {})
    await destination.openUpload('sealed').catch(() => {})
    const path = `/${server.bucket}/options`
    for (const request of [`PUT ${path}/sealed.json`, `POST ${path}/sealed open`]) {
      const headers = headersOf(request)
      assert.equal(headers['x-amz-server-side-encryption'], 'aws:kms')
      assert.equal(headers['x-amz-server-side-encryption-aws-kms-key-id'], 'alias/backups')
    }
  })

  test('no checksum headers where they are not wanted; parts are verified all the same', async () => {
    const destination = await opened({ checksums: 'none' })
    seen.length = 0
    const uploadId = await destination.openUpload('plain')
    const part = await send(destination, 'plain', uploadId, 1, 0, randomBytes(1000))
    await destination.completeUpload('plain', uploadId, [part])
    const names = seen.flatMap(({ headers }) => Object.keys(headers))
    assert.deepEqual(
      names.filter(name => /checksum/.test(name)),
      [],
    )
    assert.ok(names.includes('x-amz-content-sha256'))
  })

  test('limits of known stores, unless the destination says its own', async () => {
    const limits = async (endpoint: string, options: Record<string, Json> = {}) => {
      const destination = await opened(options, endpoint)
      const { equalParts, maxParts, conditionalPut } = destination.capabilities
      await destination.close()
      return { equalParts, maxParts, conditionalPut }
    }
    const usual = { equalParts: false, maxParts: 10_000, conditionalPut: true }
    assert.deepEqual(await limits('https://s3.eu-central-1.amazonaws.com'), usual)
    assert.deepEqual(await limits('https://minio.example.com:9000'), usual)
    assert.deepEqual(await limits('https://s3.eu-central-1.wasabisys.com'), usual)
    const r2 = 'https://0123456789abcdef.r2.cloudflarestorage.com'
    assert.deepEqual(await limits(r2), { ...usual, equalParts: true })
    const b2 = 'https://s3.us-west-004.backblazeb2.com'
    assert.deepEqual(await limits(b2), { ...usual, conditionalPut: false })
    const scaleway = 'https://s3.fr-par.scw.cloud'
    assert.deepEqual(await limits(scaleway), { ...usual, maxParts: 1000 })
    assert.deepEqual(await limits('https://minio.example.com', { maxParts: 500 }), {
      ...usual,
      maxParts: 500,
    })
  })
})
