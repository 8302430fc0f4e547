/** Google Cloud Storage over a bad network, and what it refuses. A server that keeps real objects stands behind each. */
import assert from 'node:assert/strict'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { after, before, beforeEach, describe, test } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { type Gcs, startGcs } from '../servers/gcs.ts'
import { collect, refuses } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { type Fault, type FaultyStore, startFaultyStore } from './faults.ts'

const mib = 1024 * 1024
const pass: Fault = { kind: 'pass' }
const said = (reason: string, message: string) =>
  JSON.stringify({ error: { code: 0, message, errors: [{ reason, message }] } })

describe('GCS with faults', () => {
  let server: Gcs
  let faulty: FaultyStore
  let destination: Destination

  const first = (times: number, matches: RegExp, fault: Fault) => {
    let met = 0
    faulty.fault = ({ method, url, headers }) => {
      if (!matches.test(`${method} ${url} ${headers['content-range'] ?? ''}`) || met >= times) return pass
      met += 1
      return fault
    }
    return () => met
  }
  const opened = (prefix: string, secrets: Record<string, string> = {}) =>
    openDestination({ ...server.destinationRecord(prefix), settings: { endpoint: faulty.endpoint } }, secrets)

  before(async () => {
    server = await startGcs()
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

  test('a read that is cut off goes on where it was; an object that changes is not mixed', async () => {
    const body = randomBytes(10 * mib + 3)
    await destination.put('artifact', body)
    const met = first(3, /^GET .*alt=media/, { kind: 'cut', afterBytes: 2 * mib })
    assert.ok(body.equals(await collect(await destination.get('artifact'))))
    assert.equal(met(), 3)
    first(1, /^GET .*alt=media/, { kind: 'cut', afterBytes: 2 * mib })
    const stream = await destination.get('artifact')
    await destination.put('artifact', randomBytes(10 * mib))
    await refuses(collect(stream), 'destination.corrupted')
  })

  test('a read that never gets further ends in an error, not short', async () => {
    await destination.put('artifact', randomBytes(2 * mib))
    let openings = 0
    faulty.fault = ({ method }) => {
      if (method !== 'GET') return pass
      openings += 1
      return openings === 1 ? { kind: 'cut', afterBytes: mib } : { kind: 'cut', afterBytes: 0 }
    }
    await refuses(collect(await destination.get('artifact')), 'destination.unreachable')
  })

  test('put if absent whose answer was lost is still ours, and of others is not', async () => {
    const met = first(1, /^POST/, { kind: 'lose-answer' })
    await destination.put('epoch.json', Buffer.from('mine'), { ifAbsent: true })
    assert.equal(met(), 1)
    first(1, /^POST/, { kind: 'lose-answer' })
    await refuses(
      destination.put('epoch.json', Buffer.from('late'), { ifAbsent: true }),
      'destination.exists',
    )
    assert.equal(Buffer.from((await destination.read('epoch.json')) ?? []).toString(), 'mine')
  })

  for (const [what, matches] of Object.entries({
    'bytes in the middle': /^PUT .* bytes \d+-\d+\/\*/,
    'the rest behind the last multiple': /^POST .*uploadType=multipart.*ifGenerationMatch=[1-9]/,
    'the question how far it is': /^PUT .* bytes \*\/\*/,
    'the completion': /^PUT .* bytes \d+-\d+\/\d+/,
  })) {
    for (const fault of [
      { kind: 'lose-answer' },
      { kind: 'answer', status: 503, body: '', headers: { 'retry-after': '0' } },
    ] as Fault[]) {
      test(`an upload goes on after ${what} met ${fault.kind}`, async () => {
        const key = `artifact ${fault.kind}`
        const body = randomBytes(3 * mib + 77)
        const met = first(1, matches, fault)
        const uploadId = await destination.openUpload(key)
        const parts = [
          await send(destination, key, uploadId, 1, 0, body.subarray(0, 2 * mib)),
          await send(destination, key, uploadId, 2, 2 * mib, body.subarray(2 * mib)),
        ]
        assert.equal((await destination.completeUpload(key, uploadId, parts)).bytes, body.length)
        assert.equal(met(), 1)
        assert.ok(body.equals(await collect(await destination.get(key))))
        for await (const { key: open } of destination.listUploads('')) assert.fail(`${open} is still open`)
      })
    }
  }

  test('bytes that were changed on their way do not become the object', async () => {
    const uploadId = await destination.openUpload('artifact')
    first(1, /^PUT .* bytes \d+-\d+\/\*/, { kind: 'damage' })
    const part = await send(destination, 'artifact', uploadId, 1, 0, randomBytes(mib))
    await refuses(destination.completeUpload('artifact', uploadId, [part]), 'destination.corrupted')
    assert.equal(await destination.stat('artifact'), undefined)
    await destination.abortUpload('artifact', uploadId)
    for await (const { key } of destination.listUploads('')) assert.fail(`${key} is still open`)
  })

  test('a part that is cancelled while the store is silent', async () => {
    const uploadId = await destination.openUpload('artifact')
    faulty.fault = ({ headers }) =>
      / \d+-\d+\/\*/.test(` ${String(headers['content-range']).replace('bytes', '')}`) ||
      String(headers['content-range']).startsWith('bytes 0-')
        ? { kind: 'silence' }
        : pass
    const controller = new AbortController()
    const part = { number: 1, offset: 0, body: randomBytes(mib), sha256: '0'.repeat(64) }
    const sending = destination.putPart('artifact', uploadId, part, { signal: controller.signal })
    while (faulty.seen.filter(line => /^PUT .*upload_id/.test(line)).length < 2)
      await new Promise(setImmediate)
    controller.abort(new Error('cancelled by the operator'))
    await assert.rejects(sending, /cancelled by the operator/)
    faulty.fault = () => pass
    await destination.abortUpload('artifact', uploadId)
    assert.deepEqual(server.front.open(), [])
  })

  test('in a bucket that keeps versions, removing takes them all, or the one that is named', async () => {
    const made = await fetch(`${server.endpoint}/storage/v1/b?project=test`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'versioned', versioning: { enabled: true } }),
    })
    assert.ok(made.ok, await made.text())
    const kept = async () => {
      const answer = await fetch(`${server.endpoint}/storage/v1/b/versioned/o?versions=true`)
      return ((await answer.json()) as { items?: { name: string }[] }).items?.map(({ name }) => name) ?? []
    }
    const versioned = await openDestination(server.destinationRecord('v', 'versioned'), {})
    await versioned.put('a', Buffer.from('one'))
    const { version } = await versioned.put('a', Buffer.from('second'))
    await versioned.put('a', Buffer.from('the third'))
    await versioned.put('ab', Buffer.from('a neighbour'))
    assert.ok(version)
    assert.deepEqual((await kept()).sort(), ['v/a', 'v/a', 'v/a', 'v/ab'])
    await versioned.remove('a', { version })
    await versioned.remove('a', { version })
    assert.deepEqual((await kept()).sort(), ['v/a', 'v/a', 'v/ab'])
    assert.equal(Buffer.from((await versioned.read('a')) ?? []).toString(), 'the third')
    await versioned.remove('a')
    await versioned.remove('a')
    assert.deepEqual(await kept(), ['v/ab'])
  })

  test('over plain HTTP no token is sent, whatever the credentials', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const serviceAccountKey = JSON.stringify({
      type: 'service_account',
      client_email: 'holdfast@example.iam.gserviceaccount.com',
      private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    })
    const authorizations: unknown[] = []
    faulty.fault = ({ headers }) => {
      authorizations.push(headers.authorization)
      return pass
    }
    await (await opened('plain', { serviceAccountKey })).check()
    assert.ok(authorizations.length > 5)
    assert.deepEqual([...new Set(authorizations)], [undefined])
  })

  test('a refusal that breaks off is asked about again, not taken for another', async () => {
    const uploadId = await destination.openUpload('artifact')
    const sent = await send(destination, 'artifact', uploadId, 1, 0, randomBytes(1000))
    const forged = { ...sent, tag: sent.tag.replace(/[0-9a-f]{32}$/, 'f'.repeat(32)) }
    const met = first(1, /^PUT .* bytes 0-999\/1000$/, { kind: 'cut', afterBytes: 3 })
    await refuses(destination.completeUpload('artifact', uploadId, [forged]), 'destination.upload-gone')
    assert.equal(met(), 1)
    assert.equal(await destination.stat('artifact'), undefined)
    await destination.abortUpload('artifact', uploadId)
  })

  test('a bucket that does not exist is destination.missing, never "no such object"', async () => {
    const nowhere = await openDestination(server.destinationRecord('x', 'no-such-bucket'), {})
    await refuses(nowhere.stat('a'), 'destination.missing')
    await refuses(nowhere.read('a'), 'destination.missing')
    await refuses(nowhere.get('a'), 'destination.missing')
    await refuses(nowhere.put('a', Buffer.from('x')), 'destination.missing')
    await refuses(nowhere.openUpload('a'), 'destination.missing')
    await refuses(nowhere.remove('a'), 'destination.missing')
    await refuses(nowhere.list('')[Symbol.asyncIterator]().next(), 'destination.missing')
    await refuses(nowhere.check(), 'destination.missing')
  })

  const needed: [RegExp, string][] = [
    [/^POST/, 'storage.objects.create'],
    [/^GET .*\/o\/.*alt=media/, 'storage.objects.get'],
    [/^GET .*\/o\?/, 'storage.objects.list'],
    [/^DELETE .*\/o\//, 'storage.objects.delete'],
  ]
  for (const [matches, permission] of needed) {
    test(`check names ${permission} when it is missing`, async () => {
      faulty.fault = ({ method, url }) =>
        matches.test(`${method} ${url}`)
          ? { kind: 'answer', status: 403, body: said('forbidden', 'it does not have access') }
          : pass
      await assert.rejects(destination.check(), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, 'destination.denied')
        assert.match(error.message, new RegExp(`it needs the permission ${permission}\\.$`))
        return true
      })
    })
  }

  const answers: [number, string, string][] = [
    [401, 'authError', 'destination.denied'],
    [403, 'forbidden', 'destination.denied'],
    [403, 'rateLimitExceeded', 'destination.throttled'],
    [403, 'quotaExceeded', 'destination.full'],
    [404, 'notFound', 'destination.missing'],
    [408, '', 'destination.unreachable'],
    [429, 'rateLimitExceeded', 'destination.throttled'],
    [500, 'backendError', 'destination.unreachable'],
    [502, '', 'destination.unreachable'],
    [503, 'backendError', 'destination.throttled'],
    [400, 'invalid', 'destination.misconfigured'],
  ]
  for (const [status, reason, expected] of answers) {
    test(`answer ${status} ${reason} is ${expected}`, async () => {
      faulty.fault = () => ({
        kind: 'answer',
        status,
        body: said(reason, 'no, not now'),
        headers: { 'retry-after': '0' },
      })
      await assert.rejects(destination.put('a/b', Buffer.from('x')), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, expected)
        assert.match(
          error.message,
          /^objects\.insert on gcs:\/\/backups\/faults-.*\/a\/b failed: no, not now/,
        )
        return true
      })
    })
  }

  test('nobody listens: destination.unreachable', async () => {
    const gone = await startFaultyStore(server.endpoint)
    await gone.close()
    const record = { ...server.destinationRecord('x'), settings: { endpoint: gone.endpoint } }
    await refuses((await openDestination(record, {})).check(), 'destination.unreachable')
  })
})
