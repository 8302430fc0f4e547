/** Object lock and legal holds of S3, on a real bucket that has them. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, beforeEach, describe, test } from 'node:test'
import {
  CreateBucketCommand,
  PutObjectLegalHoldCommand,
  PutObjectLockConfigurationCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { HoldfastError } from '../../model/errors.ts'
import type { Json } from '../../model/types.ts'
import { abandon } from '../../storage/backups.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { removeOldPrechecks } from '../../storage/prechecks.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { collect, refuses } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { type Fault, type FaultyStore, s3Error, startFaultyStore } from './faults.ts'

const dayMs = 86_400_000
const lock = { mode: 'governance', days: 3 } as const

describe('S3: locks', () => {
  let server: Versitygw
  let faulty: FaultyStore
  let client: S3Client
  before(async () => {
    server = await startVersitygw({ versioning: true })
    faulty = await startFaultyStore(server.endpoint)
    const { endpoint, region } = server
    client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { ...server.secrets } })
  })
  after(async () => {
    client?.destroy()
    await faulty?.close()
    await server?.stop()
  })
  beforeEach(() => {
    faulty.fault = () => ({ kind: 'pass' })
  })

  async function lockable(byDefault = false): Promise<string> {
    const Bucket = `locked-${randomBytes(4).toString('hex')}`
    await client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: true }))
    if (byDefault) {
      const Rule = { DefaultRetention: { Mode: 'GOVERNANCE' as const, Days: 3 } }
      await client.send(
        new PutObjectLockConfigurationCommand({
          Bucket,
          ObjectLockConfiguration: { ObjectLockEnabled: 'Enabled', Rule },
        }),
      )
    }
    return Bucket
  }
  const opened = (bucket: string, options: Record<string, Json>) => {
    const record = server.destinationRecord('', bucket)
    const settings = { ...record.settings, endpoint: faulty.endpoint, ...options }
    return openDestination({ ...record, settings }, server.secrets)
  }
  const uploaded = async (destination: Destination, key: string) => {
    const uploadId = await destination.openUpload(key)
    const part = await send(destination, key, uploadId, 1, 0, randomBytes(1000))
    return await destination.completeUpload(key, uploadId, [part])
  }
  const inThreeDays = (date: Date | undefined) =>
    Math.abs((date?.getTime() ?? 0) - Date.now() - 3 * dayMs) < 60_000

  for (const checksums of ['sha256', 'none']) {
    test(`what belongs to a backup is locked, and nothing else (checksums ${checksums})`, async () => {
      const destination = await opened(await lockable(), { objectLock: { ...lock }, checksums })
      assert.deepEqual(await destination.check(), [])
      for await (const { key } of destination.list('')) assert.fail(`${key} stayed after the check`)
      await destination.put('manifest.json', Buffer.from('{}'), { lasting: true, ifAbsent: true })
      await destination.put('deleted.json', Buffer.from('{}'))
      await uploaded(destination, 'artifact')
      for (const key of ['manifest.json', 'artifact']) {
        const { protection } = (await destination.stat(key)) ?? {}
        assert.ok(inThreeDays(protection?.lockedUntil), key)
        assert.equal(protection?.legalHold, undefined)
        await assert.rejects(destination.remove(key), error => {
          assert.ok(error instanceof HoldfastError)
          assert.equal(error.code, 'destination.locked')
          assert.equal(error.context.lockedUntil, protection?.lockedUntil?.toISOString())
          assert.match(error.message, /is locked until \d{4}-/)
          return true
        })
        assert.ok((await collect(await destination.get(key))).length > 0)
      }
      await destination.remove('deleted.json')
      await destination.close()
    })
  }

  test('a legal hold keeps an object until it is lifted', async () => {
    const bucket = await lockable()
    const destination = await opened(bucket, { legalHold: true })
    await destination.check()
    await uploaded(destination, 'artifact')
    assert.deepEqual((await destination.stat('artifact'))?.protection, { legalHold: true })
    await assert.rejects(destination.remove('artifact'), /it is under a legal hold/)
    await client.send(
      new PutObjectLegalHoldCommand({ Bucket: bucket, Key: 'artifact', LegalHold: { Status: 'OFF' } }),
    )
    await destination.remove('artifact')
    assert.equal(await destination.stat('artifact'), undefined)
    await destination.close()
  })

  test('giving up a locked backup ends it at once, and leaves what is locked for later', async () => {
    const destination = await opened(await lockable(), { objectLock: { ...lock } })
    const prefix = 'shop/backups/20261121T031400Z-full-aaaaaa/'
    await uploaded(destination, `${prefix}attempt/artifact`)
    await destination.put(`${prefix}attempt/loose`, Buffer.from('x'))
    const why = { by: 'a test', reason: 'no reason' }
    const locked = await abandon(destination, 'shop', '20261121T031400Z-full-aaaaaa', why)
    assert.deepEqual(locked?.keys, [`${prefix}attempt/artifact`])
    assert.equal(locked?.error.code, 'destination.locked')
    const there: string[] = []
    for await (const { key } of destination.list('')) there.push(key.slice(prefix.length))
    assert.deepEqual(there, ['attempt/artifact', 'deleted.json'])
    await destination.close()
  })

  test("a bucket's own retention is told, and the check still passes", async () => {
    const destination = await opened(await lockable(true), {})
    const [note] = await destination.check()
    assert.match(note ?? '', /bucket itself locks what is written \(GOVERNANCE, 3 days\)/)
    await destination.put('.holdfast-precheck/old', Buffer.from('x'))
    const later = new Date(Date.now() + 2 * dayMs)
    assert.deepEqual(await removeOldPrechecks(destination, later, false), [])
    await refuses(destination.remove('.holdfast-precheck/old'), 'destination.locked')
    await destination.close()
  })

  test('a bucket without object lock is refused before anything is written', async () => {
    const destination = await opened(server.bucket, { objectLock: { ...lock } })
    faulty.seen.length = 0
    await assert.rejects(destination.check(), error => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'destination.misconfigured')
      assert.match(error.message, /has no object lock/)
      return true
    })
    assert.ok(!faulty.seen.some(line => /^(PUT|POST)/.test(line)))
    await destination.close()
  })

  test('a store that takes the lock and forgets it is found out by the first artifact', async () => {
    const destination = await opened(await lockable(), { objectLock: { ...lock } })
    // As stores do that know no locks: no word of them in any answer.
    faulty.fault = ({ method, url }) =>
      method === 'HEAD'
        ? { kind: 'changed', headers: { 'x-amz-object-lock-retain-until-date': undefined } }
        : url?.includes('retention')
          ? { kind: 'answer', status: 501, body: s3Error('NotImplemented', 'not here') }
          : { kind: 'pass' }
    await assert.rejects(uploaded(destination, 'artifact'), error => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'destination.misconfigured')
      assert.match(error.message, /was to be locked, and the store did not do it/)
      return true
    })
    await destination.close()
  })

  const wanted: [string, Record<string, Json>, RegExp][] = [
    ['s3:PutObjectRetention', { objectLock: { ...lock } }, /x-amz-object-lock-mode/],
    ['s3:PutObjectLegalHold', { legalHold: true }, /x-amz-object-lock-legal-hold/],
    ['s3:PutObjectTagging', { tags: { team: 'db' } }, /x-amz-tagging/],
    [
      'kms:GenerateDataKey and kms:Decrypt, on the key',
      { encryption: 'aws:kms' },
      /x-amz-server-side-encryption/,
    ],
  ]
  for (const [permission, options, header] of wanted) {
    test(`recorded: check names ${permission} when it is missing`, async () => {
      const destination = await opened(await lockable(), options)
      // Versitygw asks for no permission of these; AWS refuses the write that needs one.
      const refused: Fault = { kind: 'answer', status: 403, body: s3Error('AccessDenied', 'Access Denied') }
      faulty.fault = ({ headers }) =>
        Object.keys(headers).some(name => header.test(name)) ? refused : { kind: 'pass' }
      await assert.rejects(destination.check(), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, 'destination.denied')
        assert.ok(error.message.endsWith(`; it needs the permission ${permission}.`), error.message)
        return true
      })
      await destination.close()
    })
  }
})
