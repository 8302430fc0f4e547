/**
 * How objects are written to Google Cloud Storage: class, metadata and retention on the emulator, which shows them; keys of
 * Cloud KMS, holds and what Google refuses, by the exact requests and by answers as Google documents them (`recorded`).
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, beforeEach, describe, test } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import type { Json } from '../../model/types.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { type Gcs, startGcs } from '../servers/gcs.ts'
import { collect, refuses } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { type Fault, type FaultyStore, startFaultyStore } from './faults.ts'

const dayMs = 86_400_000
const pass: Fault = { kind: 'pass' }
const refusal = (reason: string, message: string): Fault => ({
  kind: 'answer',
  status: 403,
  body: JSON.stringify({ error: { code: 403, message, errors: [{ reason, message }] } }),
})
const bucketIs = (bucket: object): Fault => ({ kind: 'answer', status: 200, body: JSON.stringify(bucket) })
const ofBucket = /^GET \/storage\/v1\/b\/backups\?/
const retention = { objectRetention: { mode: 'Enabled' } }

describe('GCS: how objects are written', () => {
  let server: Gcs
  let faulty: FaultyStore
  let fault: (request: string) => Fault = () => pass
  before(async () => {
    server = await startGcs()
    faulty = await startFaultyStore(server.endpoint)
    faulty.fault = ({ method, url }) => fault(`${method} ${url}`)
  })
  after(async () => {
    await faulty?.close()
    await server?.stop()
  })
  beforeEach(() => {
    fault = request => (ofBucket.test(request) ? bucketIs(retention) : pass)
    faulty.seen.length = 0
  })

  const opened = (options: Record<string, Json>) => {
    const record = server.destinationRecord('options')
    return openDestination({ ...record, settings: { endpoint: faulty.endpoint, ...options } }, {})
  }
  const uploaded = async (destination: Destination, key: string) => {
    const uploadId = await destination.openUpload(key)
    const part = await send(destination, key, uploadId, 1, 0, randomBytes(1000))
    return await destination.completeUpload(key, uploadId, [part])
  }
  const resource = async (key: string) => {
    const name = encodeURIComponent(`options/${key}`)
    const answer = await fetch(`${server.endpoint}/storage/v1/b/backups/o/${name}`)
    return (await answer.json()) as {
      storageClass: string
      metadata?: Record<string, string>
      retention?: { mode: string; retainUntilTime: string }
    }
  }
  const lock = { mode: 'compliance', days: 3 }

  test('metadata is that of every object, the class that of artifacts', async () => {
    const destination = await opened({ storageClass: 'NEARLINE', metadata: { owner: 'größe' } })
    await destination.check()
    await destination.put('manifest.json', Buffer.from('{}'))
    await uploaded(destination, 'artifact')
    for (const [key, storageClass] of [
      ['manifest.json', 'STANDARD'],
      ['artifact', 'NEARLINE'],
    ] as const) {
      const found = await resource(key)
      assert.equal(found.metadata?.owner, 'größe')
      assert.equal(found.storageClass, storageClass)
      assert.equal((await destination.stat(key))?.storageClass, storageClass)
    }
    assert.equal((await collect(await destination.get('artifact'))).length, 1000)
  })

  test('what belongs to a backup is locked, and nothing else', async () => {
    const destination = await opened({ objectLock: lock })
    assert.deepEqual(await destination.check(), [])
    await destination.put('locked.json', Buffer.from('{}'), { lasting: true })
    await destination.put('loose.json', Buffer.from('{}'))
    await uploaded(destination, 'locked')
    assert.equal((await resource('loose.json')).retention, undefined)
    for (const key of ['locked', 'locked.json']) {
      const found = await resource(key)
      assert.equal(found.retention?.mode, 'Locked')
      const until = Date.parse(found.retention?.retainUntilTime ?? '')
      assert.ok(Math.abs(until - Date.now() - 3 * dayMs) < 60_000)
      faulty.seen.length = 0
      await assert.rejects(destination.remove(key), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, 'destination.locked')
        assert.equal(error.context.lockedUntil, new Date(until).toISOString())
        return true
      })
      // Where versions are kept, a delete that names none would only hide it.
      assert.ok(!faulty.seen.some(line => line.startsWith('DELETE')))
    }
    await destination.remove('loose.json')
  })

  test('a hold that the store forgets is found out by the first artifact', async () => {
    await refuses(uploaded(await opened({ legalHold: true }), 'forgotten'), 'destination.misconfigured')
  })

  test('recorded: holds and locks refuse a removal in words of their own', async () => {
    const destination = await opened({})
    await destination.put('held', Buffer.from('x'))
    for (const [reason, shown, told] of [
      ['objectUnderActiveHold', { temporaryHold: true }, /it is under a legal hold\.$/],
      ['objectUnderActiveHold', { eventBasedHold: true }, /it is under a legal hold\.$/],
      [
        'retentionPolicyNotMet',
        { retentionExpirationTime: '2030-01-02T03:04:05.000Z' },
        /it is locked until 2030-01-02T03:04:05\.000Z\.$/,
      ],
    ] as const) {
      fault = request =>
        request.startsWith('DELETE')
          ? refusal(reason, "Object 'held' cannot be deleted")
          : {
              kind: 'changed',
              body: text => (text.startsWith('{') ? JSON.stringify({ ...JSON.parse(text), ...shown }) : text),
            }
      await assert.rejects(destination.remove('held'), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, 'destination.locked')
        assert.match(error.message, told)
        return true
      })
    }
  })

  test('recorded: the key of Cloud KMS is named with every object and session', async () => {
    const kmsKeyId = 'projects/acme/locations/eu/keyRings/backups/cryptoKeys/one'
    const destination = await opened({ kmsKeyId })
    await destination.put('manifest.json', Buffer.from('{}'))
    await uploaded(destination, 'sealed')
    const named = `kmsKeyName=${encodeURIComponent(kmsKeyId)}`
    const writing = faulty.seen.filter(line => line.startsWith('POST'))
    assert.ok(writing.length >= 3)
    for (const line of writing) assert.ok(line.includes(named), line)
    fault = request =>
      request.startsWith('POST')
        ? refusal(
            'forbidden',
            `Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been authorized to use this key.`,
          )
        : pass
    await assert.rejects(
      destination.check(),
      /it needs the permission cloudkms\.cryptoKeyVersions\.useToEncrypt/,
    )
  })

  test('recorded: check names storage.objects.setRetention when it is missing', async () => {
    const destination = await opened({ objectLock: lock })
    let sessions = 0
    // The first session is the one with a lock in it.
    fault = request => {
      if (ofBucket.test(request)) return bucketIs(retention)
      if (!request.includes('uploadType=resumable')) return pass
      sessions += 1
      return sessions === 1 ? refusal('forbidden', 'does not have access') : pass
    }
    await assert.rejects(destination.check(), error => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'destination.denied')
      assert.ok(error.message.endsWith('; it needs the permission storage.objects.setRetention.'))
      return true
    })
    assert.deepEqual(server.front.open(), [])
  })

  const buckets: [string, object, Record<string, Json>, RegExp][] = [
    ['without object retention', {}, { objectLock: lock }, /has no object retention/],
    [
      'with a retention policy',
      { retentionPolicy: { retentionPeriod: '86400' } },
      {},
      /policy of 86400 seconds/,
    ],
    ['with event-based holds', { defaultEventBasedHold: true }, {}, /event-based holds/],
  ]
  for (const [what, bucket, options, told] of buckets) {
    test(`recorded: a bucket ${what} is refused before anything is written`, async () => {
      fault = request => (ofBucket.test(request) ? bucketIs(bucket) : pass)
      const destination = await opened(options)
      await assert.rejects(destination.check(), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, 'destination.misconfigured')
        assert.match(error.message, told)
        return true
      })
      assert.ok(!faulty.seen.some(line => line.startsWith('POST')))
    })
  }
})
