/** S3 over a bad network, and stores that refuse, overflow or lack something. A real store stands behind each. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, beforeEach, describe, test } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { codeOf, collect, refuses } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { type Fault, type FaultyStore, s3Error, startFaultyStore } from './faults.ts'

const mib = 1024 * 1024
const pass: Fault = { kind: 'pass' }

describe('S3 with faults', () => {
  let server: Versitygw
  let faulty: FaultyStore
  let destination: Destination

  const opened = (prefix: string) => {
    const record = server.destinationRecord(prefix)
    return openDestination(
      { ...record, settings: { ...record.settings, endpoint: faulty.endpoint } },
      server.secrets,
    )
  }
  /** The first `times` requests that match meet the fault, the others pass. */
  const first = (times: number, matches: RegExp, fault: Fault) => {
    let met = 0
    faulty.fault = ({ method, url }) => {
      if (!matches.test(`${method} ${url}`) || met >= times) return pass
      met += 1
      return fault
    }
    return () => met
  }

  before(async () => {
    server = await startVersitygw()
    faulty = await startFaultyStore(server.endpoint)
  })
  after(async () => {
    await faulty?.close()
    await server?.stop()
  })
  beforeEach(async t => {
    faulty.fault = () => pass
    faulty.seen.length = 0
    destination = await opened(`faults-${t.name.replace(/[^a-z]+/gi, '-').slice(0, 40)}`)
  })

  test('a read that is cut off goes on where it was', async () => {
    const body = randomBytes(10 * mib + 3)
    await destination.put('artifact', body)
    const met = first(3, /^GET/, { kind: 'cut', afterBytes: 2 * mib })
    assert.ok(body.equals(await collect(await destination.get('artifact'))))
    assert.equal(met(), 3)
    const range = { offset: 1000, length: 5 * mib }
    first(2, /^GET/, { kind: 'cut', afterBytes: mib })
    assert.ok(
      body.subarray(1000, 1000 + 5 * mib).equals(await collect(await destination.get('artifact', range))),
    )
  })

  test('a read that never gets further ends in an error, not short', async () => {
    await destination.put('artifact', randomBytes(2 * mib))
    let opened = 0
    faulty.fault = ({ method }) => {
      if (method !== 'GET') return pass
      opened += 1
      return opened === 1 ? { kind: 'cut', afterBytes: mib } : { kind: 'cut', afterBytes: 0 }
    }
    await refuses(collect(await destination.get('artifact')), 'destination.unreachable')
  })

  test('an object that changes while it is read is not mixed', async () => {
    await destination.put('artifact', randomBytes(6 * mib))
    first(1, /^GET/, { kind: 'cut', afterBytes: 2 * mib })
    const stream = await destination.get('artifact')
    await destination.put('artifact', randomBytes(6 * mib))
    await refuses(collect(stream), 'destination.corrupted')
  })

  test('put if absent whose answer was lost is still ours', async () => {
    const met = first(1, /^PUT/, { kind: 'lose-answer' })
    await destination.put('epoch.json', Buffer.from('mine'), { ifAbsent: true })
    assert.equal(met(), 1)
    assert.equal(Buffer.from((await destination.read('epoch.json')) ?? []).toString(), 'mine')
    await refuses(
      destination.put('epoch.json', Buffer.from('late'), { ifAbsent: true }),
      'destination.exists',
    )
  })

  test('a completion whose answer was lost is answered', async () => {
    const body = randomBytes(mib)
    const uploadId = await destination.openUpload('artifact')
    const part = await send(destination, 'artifact', uploadId, 1, 0, body)
    const met = first(1, /^POST .*uploadId/, { kind: 'lose-answer' })
    assert.equal((await destination.completeUpload('artifact', uploadId, [part])).bytes, mib)
    assert.equal(met(), 1)
    assert.ok(body.equals(await collect(await destination.get('artifact'))))
  })

  test('a completion that answers 200 with an error in its body is tried again', async () => {
    const uploadId = await destination.openUpload('artifact')
    const part = await send(destination, 'artifact', uploadId, 1, 0, randomBytes(mib))
    const body = s3Error('InternalError', 'We encountered an internal error. Please try again.')
    for (const said of [body, `${body}\n`, '']) {
      const met = first(1, /^POST .*uploadId/, { kind: 'answer', status: 200, body: said })
      try {
        await destination.completeUpload('artifact', uploadId, [part])
      } catch (error) {
        // Where the SDK takes it for an answer, the missing object says otherwise; the caller tries again.
        assert.equal(codeOf(error), 'destination.corrupted')
      }
      assert.equal(met(), 1)
    }
    faulty.fault = () => pass
    assert.equal((await destination.completeUpload('artifact', uploadId, [part])).bytes, mib)
  })

  test('a part that is cancelled while the store is silent', async () => {
    const uploadId = await destination.openUpload('artifact')
    faulty.fault = ({ method }) => (method === 'PUT' ? { kind: 'silence' } : pass)
    const controller = new AbortController()
    const part = { number: 1, offset: 0, body: randomBytes(mib), sha256: '0'.repeat(64) }
    const sending = destination.putPart('artifact', uploadId, part, { signal: controller.signal })
    while (!faulty.seen.some(line => line.startsWith('PUT'))) await new Promise(setImmediate)
    controller.abort(new Error('cancelled by the operator'))
    await assert.rejects(sending, /cancelled by the operator/)
    assert.deepEqual(await destination.listParts('artifact', uploadId), [])
    await destination.abortUpload('artifact', uploadId)
  })

  test('a store without If-None-Match: looked for before, and said so', async () => {
    faulty.fault = ({ headers }) =>
      headers['if-none-match'] === undefined
        ? pass
        : {
            kind: 'answer',
            status: 501,
            body: s3Error('NotImplemented', 'A header you provided is not implemented.'),
          }
    await destination.put('a', Buffer.from('first'), { ifAbsent: true })
    assert.equal(destination.capabilities.conditionalPut, false)
    await refuses(destination.put('a', Buffer.from('second'), { ifAbsent: true }), 'destination.exists')
    assert.equal(Buffer.from((await destination.read('a')) ?? []).toString(), 'first')
    const uploadId = await destination.openUpload('b')
    const part = await send(destination, 'b', uploadId, 1, 0, randomBytes(10))
    await destination.completeUpload('b', uploadId, [part])
  })

  test('a store that overlooks If-None-Match is found out by check', async () => {
    let conditional = 0
    faulty.fault = ({ headers }) => {
      if (headers['if-none-match'] === undefined) return pass
      conditional += 1
      // The second one, over the object that is there: taken as any other put.
      return conditional === 2 ? { kind: 'answer', status: 200, body: '' } : pass
    }
    await destination.check()
    assert.equal(destination.capabilities.conditionalPut, false)
  })

  test('a store without checksum headers: parts are verified by the signature', async () => {
    faulty.fault = ({ headers }) =>
      Object.keys(headers).some(name => /^x-amz-(sdk-)?checksum-/.test(name))
        ? {
            kind: 'answer',
            status: 400,
            body: s3Error(
              'InvalidArgument',
              "Unsupported header 'x-amz-checksum-sha256' received for this API call.",
            ),
          }
        : pass
    await destination.put('small', Buffer.from('x'))
    const body = randomBytes(mib)
    const uploadId = await destination.openUpload('artifact')
    const part = await send(destination, 'artifact', uploadId, 1, 0, body)
    const wrong = { number: 2, offset: mib, body, sha256: '0'.repeat(64) }
    await refuses(destination.putPart('artifact', uploadId, wrong), 'destination.corrupted')
    await destination.completeUpload('artifact', uploadId, [part])
    assert.ok(body.equals(await collect(await destination.get('artifact'))))
  })

  const answers: [number, string, string][] = [
    [403, 'AccessDenied', 'destination.denied'],
    [403, 'InvalidAccessKeyId', 'destination.denied'],
    [400, 'ExpiredToken', 'destination.denied'],
    [404, 'NoSuchBucket', 'destination.missing'],
    [301, 'PermanentRedirect', 'destination.misconfigured'],
    [400, 'AuthorizationHeaderMalformed', 'destination.misconfigured'],
    [403, 'RequestTimeTooSkewed', 'destination.misconfigured'],
    [503, 'SlowDown', 'destination.throttled'],
    [429, 'TooManyRequests', 'destination.throttled'],
    [500, 'InternalError', 'destination.unreachable'],
    [502, 'BadGateway', 'destination.unreachable'],
    [507, 'XMinioStorageFull', 'destination.full'],
    [507, 'Whatever', 'destination.full'],
    [403, 'QuotaExceeded', 'destination.full'],
    [400, 'BadDigest', 'destination.corrupted'],
  ]
  for (const [status, code, expected] of answers) {
    test(`answer ${status} ${code} is ${expected}; no secret in it`, async () => {
      const { accessKeyId, secretAccessKey } = server
      faulty.fault = () => ({
        kind: 'answer',
        status,
        body: s3Error(code, `no, not with ${accessKeyId} and ${secretAccessKey}`),
      })
      await assert.rejects(destination.put('a/b', Buffer.from('x')), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, expected)
        assert.match(error.message, /^PutObject on s3:\/\/backups\/faults-.*\/a\/b failed: /)
        assert.equal(error.cause, undefined)
        const said = JSON.stringify(error.facts())
        assert.ok(!said.includes(accessKeyId) && !said.includes(secretAccessKey))
        return true
      })
    })
  }

  test('nobody listens: destination.unreachable', async () => {
    const gone = await startFaultyStore(server.endpoint)
    await gone.close()
    const record = server.destinationRecord('x')
    const nowhere = await openDestination(
      { ...record, settings: { ...record.settings, endpoint: gone.endpoint } },
      server.secrets,
    )
    await refuses(nowhere.check(), 'destination.unreachable')
    await nowhere.close()
  })
})
