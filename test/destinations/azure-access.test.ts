/** What Azure refuses to some, and over a bad network. A real server stands behind each. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, beforeEach, describe, test } from 'node:test'
import {
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob'
import { HoldfastError } from '../../model/errors.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { collect, refuses } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { type Fault, type FaultyStore, startFaultyStore } from './faults.ts'

const mib = 1024 * 1024
const hourMs = 3_600_000
const pass: Fault = { kind: 'pass' }

describe('Azure: who may do what', () => {
  let server: Azurite
  before(async () => {
    server = await startAzurite()
  })
  after(async () => server?.stop())

  const sasFor = (permissions: string, endsInMs = hourMs) =>
    generateBlobSASQueryParameters(
      {
        containerName: server.container,
        permissions: ContainerSASPermissions.parse(permissions),
        expiresOn: new Date(Date.now() + endsInMs),
      },
      new StorageSharedKeyCredential(server.account, server.accountKey),
    ).toString()

  test('a shared access signature with just the permissions that are documented is enough', async () => {
    const destination = await openDestination(server.destinationRecord('sas'), { sasToken: sasFor('rwld') })
    await destination.check()
    const uploadId = await destination.openUpload('a')
    const part = await send(destination, 'a', uploadId, 1, 0, randomBytes(1000))
    await destination.completeUpload('a', uploadId, [part])
    await destination.remove('a')
    await destination.close()
  })

  for (const [missing, name] of Object.entries({ r: 'read', w: 'write', l: 'list', d: 'delete' })) {
    test(`check names the permission to ${name} when it is missing`, async () => {
      const sasToken = sasFor('rwld'.replace(missing, ''))
      const destination = await openDestination(server.destinationRecord('sas'), { sasToken })
      await assert.rejects(destination.check(), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, 'destination.denied')
        assert.match(error.message, new RegExp(`it needs the permission ${missing} \\(${name}\\)\\.$`))
        const signature = new URLSearchParams(sasToken).get('sig') ?? ''
        assert.ok(!JSON.stringify(error.facts()).includes(signature))
        return true
      })
      await destination.close()
    })
  }

  test('a wrong account key is refused, and not shown', async () => {
    const accountKey = randomBytes(64).toString('base64')
    const destination = await openDestination(server.destinationRecord('x'), { accountKey })
    await assert.rejects(destination.check(), error => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'destination.denied')
      assert.equal(error.cause, undefined)
      assert.ok(!JSON.stringify(error.facts()).includes(accountKey))
      return true
    })
    await refuses(destination.read('a'), 'destination.denied')
    await refuses(destination.stat('a'), 'destination.denied')
  })

  test('credentials are taken from a connection string and from the environment, and asked for without', async () => {
    const { account, accountKey, endpoint } = server
    const connectionString = `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${accountKey};BlobEndpoint=${endpoint};`
    const named = await openDestination(server.destinationRecord('named'), { connectionString })
    await named.check()
    await assert.rejects(openDestination(server.destinationRecord('x'), {}), /there are no credentials/)
    const given: Record<string, string>[] = [
      { AZURE_STORAGE_KEY: accountKey },
      { AZURE_STORAGE_SAS_TOKEN: `?${sasFor('rwld')}` },
      { AZURE_STORAGE_CONNECTION_STRING: connectionString },
    ]
    for (const variables of given) {
      Object.assign(process.env, variables)
      try {
        const destination = await openDestination(server.destinationRecord('environment'), {})
        await destination.check()
      } finally {
        for (const name of Object.keys(variables)) Reflect.deleteProperty(process.env, name)
      }
    }
  })

  test('a container that does not exist is destination.missing, never "no such object"', async () => {
    const destination = await openDestination(server.destinationRecord('x', 'no-such'), server.secrets)
    await refuses(destination.stat('a'), 'destination.missing')
    await refuses(destination.read('a'), 'destination.missing')
    await refuses(destination.get('a'), 'destination.missing')
    await refuses(destination.put('a', Buffer.from('x')), 'destination.missing')
    await refuses(destination.openUpload('a'), 'destination.missing')
    await refuses(destination.remove('a'), 'destination.missing')
    await refuses(destination.list('')[Symbol.asyncIterator]().next(), 'destination.missing')
    await refuses(destination.check(), 'destination.missing')
  })

  test('what waits under the key of an object is none of its bytes, and is let go without touching it', async () => {
    const destination = await openDestination(server.destinationRecord('beside'), server.secrets)
    await destination.put('a', Buffer.from('here first'))
    const uploadId = await destination.openUpload('a')
    await send(destination, 'a', uploadId, 1, 0, randomBytes(1000))
    await destination.abortUpload('a', uploadId)
    assert.equal(Buffer.from((await destination.read('a')) ?? []).toString(), 'here first')
    const [one, other] = [await destination.openUpload('b'), await destination.openUpload('b')]
    const body = randomBytes(1000)
    const part = await send(destination, 'b', one, 1, 0, body)
    await send(destination, 'b', other, 1, 0, randomBytes(500))
    await destination.abortUpload('b', other)
    await destination.completeUpload('b', one, [part])
    assert.ok(body.equals(await collect(await destination.get('b'))))
  })
})

describe('Azure with faults', () => {
  let server: Azurite
  let faulty: FaultyStore
  let destination: Destination

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
    server = await startAzurite()
    faulty = await startFaultyStore(server.endpoint)
  })
  after(async () => {
    await faulty?.close()
    await server?.stop()
  })
  beforeEach(async t => {
    faulty.fault = () => pass
    faulty.seen.length = 0
    const record = server.destinationRecord(`faults-${t.name.replace(/[^a-z]+/gi, '-').slice(0, 40)}`)
    const endpoint = `${faulty.endpoint}/${server.account}`
    destination = await openDestination(
      { ...record, settings: { ...record.settings, endpoint } },
      server.secrets,
    )
  })

  test('a read that is cut off goes on where it was; an object that changes is not mixed', async () => {
    const body = randomBytes(10 * mib + 3)
    await destination.put('artifact', body)
    const met = first(3, /^GET/, { kind: 'cut', afterBytes: 2 * mib })
    assert.ok(body.equals(await collect(await destination.get('artifact'))))
    assert.equal(met(), 3)
    first(1, /^GET/, { kind: 'cut', afterBytes: 2 * mib })
    const stream = await destination.get('artifact')
    await destination.put('artifact', randomBytes(6 * mib))
    await refuses(collect(stream), 'destination.corrupted')
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

  test('put if absent whose answer was lost is still ours, and of others is not', async () => {
    const met = first(1, /^PUT/, { kind: 'lose-answer' })
    await destination.put('epoch.json', Buffer.from('mine'), { ifAbsent: true })
    assert.equal(met(), 1)
    first(1, /^PUT/, { kind: 'lose-answer' })
    await refuses(
      destination.put('epoch.json', Buffer.from('late'), { ifAbsent: true }),
      'destination.exists',
    )
    assert.equal(Buffer.from((await destination.read('epoch.json')) ?? []).toString(), 'mine')
  })

  test('a part and a completion whose answers were lost', async () => {
    const body = randomBytes(mib)
    const uploadId = await destination.openUpload('artifact')
    first(1, /^PUT .*comp=block&/, { kind: 'lose-answer' })
    const part = await send(destination, 'artifact', uploadId, 1, 0, body)
    const met = first(1, /^PUT .*comp=blocklist/, { kind: 'lose-answer' })
    assert.equal((await destination.completeUpload('artifact', uploadId, [part])).bytes, mib)
    assert.equal(met(), 1)
    assert.ok(body.equals(await collect(await destination.get('artifact'))))
    for await (const { key } of destination.listUploads('')) assert.fail(`${key} is still open`)
  })

  test('a part that was changed on its way is refused by the store', async () => {
    const uploadId = await destination.openUpload('artifact')
    faulty.fault = ({ url = '' }) => (url.includes('comp=block&') ? { kind: 'damage' } : pass)
    await refuses(send(destination, 'artifact', uploadId, 1, 0, randomBytes(mib)), 'destination.corrupted')
    assert.deepEqual(await destination.listParts('artifact', uploadId), [])
    await destination.abortUpload('artifact', uploadId)
  })

  test('a store that asks to slow down is asked again as late as it says', async () => {
    const met = first(2, /^PUT/, {
      kind: 'answer',
      status: 503,
      body: '',
      headers: { 'x-ms-error-code': 'ServerBusy', 'retry-after': '0' },
    })
    await destination.put('a', Buffer.from('x'))
    assert.equal(met(), 2)
  })

  test('a part that is cancelled while the store is silent', async () => {
    const uploadId = await destination.openUpload('artifact')
    faulty.fault = ({ method }) => (method === 'PUT' ? { kind: 'silence' } : pass)
    const controller = new AbortController()
    const part = { number: 1, offset: 0, body: randomBytes(mib), sha256: '0'.repeat(64) }
    const sending = destination.putPart('artifact', uploadId, part, { signal: controller.signal })
    while (!faulty.seen.some(line => /^PUT .*comp=block/.test(line))) await new Promise(setImmediate)
    controller.abort(new Error('cancelled by the operator'))
    await assert.rejects(sending, /cancelled by the operator/)
    assert.deepEqual(await destination.listParts('artifact', uploadId), [])
    faulty.fault = () => pass
    await destination.abortUpload('artifact', uploadId)
  })

  const answers: [number, string, string][] = [
    [403, 'AuthorizationPermissionMismatch', 'destination.denied'],
    [403, 'AuthenticationFailed', 'destination.denied'],
    [404, 'ContainerNotFound', 'destination.missing'],
    [409, 'ContainerBeingDeleted', 'destination.missing'],
    [503, 'ServerBusy', 'destination.throttled'],
    [429, 'TooManyRequests', 'destination.throttled'],
    [500, 'InternalError', 'destination.unreachable'],
    [500, 'OperationTimedOut', 'destination.unreachable'],
    [502, 'Whatever', 'destination.unreachable'],
    [507, 'Whatever', 'destination.full'],
    [400, 'Md5Mismatch', 'destination.corrupted'],
    [400, 'InvalidHeaderValue', 'destination.misconfigured'],
  ]
  for (const [status, code, expected] of answers) {
    test(`answer ${status} ${code} is ${expected}; no secret in it`, async () => {
      const { accountKey } = server
      faulty.fault = () => ({
        kind: 'answer',
        status,
        body: `<?xml version="1.0"?><Error><Code>${code}</Code><Message>no, not with ${accountKey}</Message></Error>`,
        headers: { 'x-ms-error-code': code, 'retry-after': '0' },
      })
      await assert.rejects(destination.put('a/b', Buffer.from('x')), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, expected)
        assert.match(error.message, /^Put Blob on azure:\/\/backups\/faults-.*\/a\/b failed: /)
        assert.equal(error.cause, undefined)
        assert.ok(!JSON.stringify(error.facts()).includes(accountKey))
        return true
      })
    })
  }

  test('nobody listens: destination.unreachable', async () => {
    const gone = await startFaultyStore(server.endpoint)
    await gone.close()
    const record = server.destinationRecord('x')
    const endpoint = `${gone.endpoint}/${server.account}`
    const nowhere = await openDestination(
      { ...record, settings: { ...record.settings, endpoint } },
      server.secrets,
    )
    await refuses(nowhere.check(), 'destination.unreachable')
  })
})
