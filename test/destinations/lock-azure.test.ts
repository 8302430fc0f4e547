/**
 * How objects are written to Azure: tier, tags, metadata, on the real emulator; encryption scopes, locks and legal holds, which
 * it takes and forgets, by the exact requests and by answers as Azure documents them (`recorded`).
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { after, before, beforeEach, describe, test } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import type { Json } from '../../model/types.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { collect, refuses } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { type Fault, type FaultyStore, startFaultyStore } from './faults.ts'

const dayMs = 86_400_000
const pass: Fault = { kind: 'pass' }
const refusal = (code: string, status: number): Fault => ({
  kind: 'answer',
  status,
  headers: { 'x-ms-error-code': code },
  body: `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>no</Message></Error>`,
})

describe('Azure: how objects are written', () => {
  let server: Azurite
  let faulty: FaultyStore
  const seen: { request: string; headers: IncomingHttpHeaders }[] = []
  /** What stands before the emulator: see each test. */
  let fault: FaultyStore['fault'] = () => pass
  before(async () => {
    server = await startAzurite()
    faulty = await startFaultyStore(server.endpoint)
    faulty.fault = incoming => {
      const { method, url = '', headers } = incoming
      const { pathname, searchParams } = new URL(url, 'http://x')
      const comp = searchParams.get('comp')
      seen.push({
        request: `${method} ${pathname.split('/options/')[1]}${comp ? ` ${comp}` : ''}`,
        headers,
      })
      return fault(incoming)
    }
  })
  after(async () => {
    await faulty?.close()
    await server?.stop()
  })
  beforeEach(() => {
    fault = () => pass
    seen.length = 0
  })

  const opened = (options: Record<string, Json>) => {
    const record = server.destinationRecord('options')
    const endpoint = `${faulty.endpoint}/${server.account}`
    return openDestination(
      { ...record, settings: { ...record.settings, endpoint, ...options } },
      server.secrets,
    )
  }
  const uploaded = async (destination: Destination, key: string) => {
    const uploadId = await destination.openUpload(key)
    const part = await send(destination, key, uploadId, 1, 0, randomBytes(1000))
    await destination.completeUpload(key, uploadId, [part])
  }
  const headersOf = (request: string) => seen.findLast(one => one.request === request)?.headers ?? {}
  const blob = (key: string) => server.containerClient.getBlockBlobClient(`options/${key}`)

  test('tags and metadata are those of every object, the tier that of artifacts', async () => {
    const tags = { team: 'db', 'cost centre': 'a/b' }
    const destination = await opened({ storageClass: 'Cool', tags, metadata: { owner: 'dba@example.com' } })
    await destination.check()
    await destination.put('manifest.json', Buffer.from('{}'))
    await uploaded(destination, 'artifact')
    for (const [key, tier] of [
      ['manifest.json', 'Hot'],
      ['artifact', 'Cool'],
    ] as const) {
      assert.deepEqual((await blob(key).getTags()).tags, tags)
      assert.equal((await blob(key).getProperties()).metadata?.owner, 'dba@example.com')
      assert.equal((await blob(key).getProperties()).accessTier, tier)
      assert.equal((await destination.stat(key))?.storageClass, tier)
    }
    assert.equal((await collect(await destination.get('artifact'))).length, 1000)
    await destination.remove('artifact')
  })

  test('recorded: the encryption scope is named with every blob and block', async () => {
    const destination = await opened({ encryptionScope: 'backups' })
    await destination.put('manifest.json', Buffer.from('{}'))
    await uploaded(destination, 'artifact')
    const writing = seen.filter(({ request }) => request.startsWith('PUT'))
    assert.deepEqual(
      writing.map(({ request }) => request.replace(/\.holdfast-uploads\/.*/, 'record')),
      ['PUT manifest.json', 'PUT record', 'PUT artifact block', 'PUT artifact blocklist'],
    )
    for (const { headers, request } of writing) {
      assert.equal(headers['x-ms-encryption-scope'], 'backups', request)
    }
  })

  /** As an account with version-level immutability answers: what was written with a policy or a hold is shown with it. */
  function worm(): void {
    const kept = new Map<string, Record<string, string>>()
    fault = ({ method, url = '', headers }) => {
      const { pathname, searchParams } = new URL(url, 'http://x')
      const comp = searchParams.get('comp')
      const until = headers['x-ms-immutability-policy-until-date']
      const hold = headers['x-ms-legal-hold']
      if (method === 'PUT' && (comp === null || comp === 'blocklist')) {
        kept.set(pathname, {
          ...(until ? { 'x-ms-immutability-policy-until-date': String(until) } : {}),
          ...(hold ? { 'x-ms-legal-hold': String(hold) } : {}),
        })
      }
      if (comp === 'legalhold' || comp === 'immutabilityPolicies') {
        const {
          [comp === 'legalhold' ? 'x-ms-legal-hold' : 'x-ms-immutability-policy-until-date']: _,
          ...rest
        } = kept.get(pathname) ?? {}
        kept.set(pathname, rest)
        return { kind: 'answer', status: 200, body: '' }
      }
      const stands = kept.get(pathname) ?? {}
      if (method === 'DELETE' && Object.keys(stands).length > 0)
        return refusal('BlobImmutableDueToPolicy', 409)
      return method === 'HEAD' ? { kind: 'changed', headers: stands } : pass
    }
  }

  test('recorded: what belongs to a backup is locked and held; the check tries both and takes them off', async () => {
    worm()
    const destination = await opened({ objectLock: { mode: 'compliance', days: 30 }, legalHold: true })
    assert.deepEqual(await destination.check(), [])
    assert.ok(seen.some(({ request }) => /^PUT .holdfast-precheck.*legalhold$/.test(request)))
    assert.ok(seen.some(({ request }) => /^DELETE .holdfast-precheck.*immutabilityPolicies$/.test(request)))
    for await (const { key } of destination.list('')) {
      assert.ok(!key.startsWith('.holdfast'), `${key} stayed after the check`)
    }
    await destination.put('locked.json', Buffer.from('{}'), { lasting: true })
    await uploaded(destination, 'locked')
    for (const request of ['PUT locked.json', 'PUT locked blocklist']) {
      const headers = headersOf(request)
      assert.equal(headers['x-ms-immutability-policy-mode'], 'Locked')
      assert.equal(headers['x-ms-legal-hold'], 'true')
      const until = Date.parse(String(headers['x-ms-immutability-policy-until-date']))
      assert.ok(Math.abs(until - Date.now() - 30 * dayMs) < 60_000)
    }
    const protection = (await destination.stat('locked'))?.protection
    assert.equal(protection?.legalHold, true)
    seen.length = 0
    await assert.rejects(destination.remove('locked'), error => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'destination.locked')
      assert.equal(error.context.lockedUntil, protection?.lockedUntil?.toISOString())
      return true
    })
    // With versions, a delete that names none would only hide it.
    assert.ok(!seen.some(({ request }) => request.startsWith('DELETE')))
    await destination.put('plain', Buffer.from('x'))
    assert.equal(headersOf('PUT plain')['x-ms-immutability-policy-until-date'], undefined)
    const later = await opened({})
    await refuses(later.remove('locked'), 'destination.locked')
  })

  test('a store that takes the lock and forgets it is found out by the check', async () => {
    const destination = await opened({ objectLock: { mode: 'governance', days: 1 } })
    await assert.rejects(destination.check(), error => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'destination.misconfigured')
      assert.match(error.message, /was to be locked, and the store did not do it/)
      return true
    })
    await refuses(uploaded(destination, 'forgotten'), 'destination.misconfigured')
  })

  const wanted: [string, Record<string, Json>, RegExp][] = [
    ['i (immutable storage)', { objectLock: { mode: 'governance', days: 1 } }, /immutability-policy/],
    ['i (immutable storage)', { legalHold: true }, /legal-hold/],
    ['t (tags)', { tags: { team: 'db' } }, /x-ms-tags/],
  ]
  for (const [permission, options, header] of wanted) {
    test(`recorded: check names ${permission} when it is missing for ${Object.keys(options)}`, async () => {
      const destination = await opened(options)
      fault = ({ headers }) =>
        Object.keys(headers).some(name => header.test(name))
          ? refusal('AuthorizationPermissionMismatch', 403)
          : pass
      await assert.rejects(destination.check(), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, 'destination.denied')
        assert.ok(error.message.endsWith(`; it needs the permission ${permission}.`), error.message)
        return true
      })
    })
  }

  test('recorded: a policy of the whole container is told from one of versions', async () => {
    const destination = await opened({})
    fault = ({ method }) => (method === 'DELETE' ? refusal('BlobImmutableDueToPolicy', 409) : pass)
    await assert.rejects(destination.check(), error => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'destination.misconfigured')
      assert.match(error.hint, /version-level immutability/)
      return true
    })
  })
})
