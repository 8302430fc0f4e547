/**
 * Archives of S3. No server that we can run has any: the exact requests are tested, and the answers are those that Amazon
 * documents, put before a real server that keeps the objects (`recorded`).
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, beforeEach, describe, test } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { refuses } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { type Fault, type FaultyStore, s3Error, startFaultyStore } from './faults.ts'

const pass: Fault = { kind: 'pass' }
const notArchived: Fault = {
  kind: 'answer',
  status: 403,
  body: s3Error('InvalidObjectState', "Restore is not allowed for the object's current storage class"),
}

describe('S3: archives', () => {
  let server: Versitygw
  let faulty: FaultyStore
  let destination: Destination
  before(async () => {
    server = await startVersitygw()
    faulty = await startFaultyStore(server.endpoint)
  })
  after(async () => {
    await destination?.close()
    await faulty?.close()
    await server?.stop()
  })
  beforeEach(async () => {
    faulty.fault = () => pass
    const record = server.destinationRecord('archive')
    const settings = { ...record.settings, endpoint: faulty.endpoint, storageClass: 'GLACIER' }
    destination = await openDestination({ ...record, settings }, server.secrets)
  })

  /** As Amazon answers for an object of this class. `restore`: of its header, while there is one. */
  const archived = (storageClass: string, restore: () => string | undefined): FaultyStore['fault'] => {
    return ({ method, url = '' }) => {
      if (/[?&]restore/.test(url)) return { kind: 'answer', status: 202, body: '' }
      if (method === 'HEAD') {
        return {
          kind: 'changed',
          headers: { 'x-amz-storage-class': storageClass, 'x-amz-restore': restore() },
        }
      }
      const readable = restore()?.includes('expiry-date') === true
      return method === 'GET' && !readable
        ? { kind: 'answer', status: 403, body: s3Error('InvalidObjectState', 'The operation is not valid') }
        : pass
    }
  }

  test('recorded: an artifact goes there, is asked for, on its way, readable, and archived again', async () => {
    let restore: string | undefined
    const uploadId = await destination.openUpload('artifact')
    const part = await send(destination, 'artifact', uploadId, 1, 0, randomBytes(1000))
    faulty.fault = archived('GLACIER', () => restore)
    const asked: string[] = []
    faulty.heard = ({ url = '' }, body) => {
      if (/[?&]restore/.test(url)) asked.push(body.toString())
    }
    await destination.completeUpload('artifact', uploadId, [part])
    const state = async () => (await destination.stat('artifact'))?.frozen
    assert.equal(await state(), 'archived')
    assert.equal(destination.classes?.thawHours('GLACIER'), 5)
    await refuses(destination.get('artifact'), 'destination.archived')
    await refuses(destination.read('artifact'), 'destination.archived')
    await destination.classes?.thaw('artifact', 7)
    assert.equal(asked.length, 1)
    assert.match(asked[0] ?? '', /<Days>7<\/Days>/)
    assert.match(asked[0] ?? '', /<GlacierJobParameters><Tier>Standard<\/Tier><\/GlacierJobParameters>/)
    restore = 'ongoing-request="true"'
    assert.equal(await state(), 'thawing')
    const inAWeek = new Date(Date.now() + 7 * 86_400_000).toUTCString()
    restore = `ongoing-request="false", expiry-date="${inAWeek}"`
    assert.equal(await state(), undefined)
    assert.equal((await destination.read('artifact'))?.length, 1000)
    restore = `ongoing-request="false", expiry-date="${new Date(Date.now() - 1000).toUTCString()}"`
    assert.equal(await state(), 'archived')
  })

  test('recorded: asking again while it is on its way, or for what is not away, changes nothing', async () => {
    await destination.put('a', Buffer.from('x'))
    for (const [status, code] of [
      [409, 'RestoreAlreadyInProgress'],
      [403, 'ObjectAlreadyInActiveTierError'],
    ] as const) {
      faulty.fault = ({ url = '' }) =>
        /[?&]restore/.test(url) ? { kind: 'answer', status, body: s3Error(code, 'no') } : pass
      await destination.classes?.thaw('a', 7)
    }
    await refuses(Promise.resolve(destination.classes?.thaw('b', 7)), 'destination.object-missing')
  })

  test('recorded: what the store archives by itself is asked for without days', async () => {
    await destination.put('b', Buffer.from('x'))
    const asked: string[] = []
    faulty.heard = ({ url = '' }, body) => {
      if (/[?&]restore/.test(url)) asked.push(body.toString())
    }
    faulty.fault = ({ method, url = '' }) => {
      if (/[?&]restore/.test(url)) return { kind: 'answer', status: 202, body: '' }
      if (method !== 'HEAD') return pass
      const headers = {
        'x-amz-storage-class': 'INTELLIGENT_TIERING',
        'x-amz-archive-status': 'DEEP_ARCHIVE_ACCESS',
      }
      return { kind: 'changed', headers }
    }
    assert.equal((await destination.stat('b'))?.frozen, 'archived')
    await destination.classes?.thaw('b', 7)
    assert.doesNotMatch(asked[0] ?? '<Days>', /<Days>/)
  })

  test('recorded: the check asks whether objects can be brought back, and names the permission', async () => {
    const answering = (fault: Fault) => {
      faulty.fault = ({ url = '' }) => (/[?&]restore/.test(url) ? fault : pass)
    }
    answering(notArchived)
    assert.match((await destination.check())[0] ?? '', /archive \(GLACIER\).* usually takes 5 hours/)
    answering({ kind: 'answer', status: 403, body: s3Error('AccessDenied', 'Access Denied') })
    await assert.rejects(destination.check(), error => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'destination.denied')
      assert.match(error.message, /it needs the permission s3:RestoreObject\.$/)
      return true
    })
  })

  test('a store without archives is refused by the check', async () => {
    await refuses(destination.check(), 'destination.misconfigured')
  })
})
