/** Limits as people write them, at every hour; shares of transfers that come, ask, and fall silent. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { bandwidthShare, limitOperation, listLimits, putLimit } from '../../catalog/bandwidth.ts'
import { insertDestination, removeDestination } from '../../catalog/destinations.ts'
import { insertOperation, updateOperation } from '../../catalog/operations.ts'
import { fairShares, limitAt, parseLimit } from '../../model/bandwidth.ts'
import { vault } from './rows.ts'
import { operation, withCatalog } from './support.ts'

describe('a limit', () => {
  const at = (text: string, time: string) => limitAt(parseLimit(text), new Date(time))

  test('is a rate, or one for each window of the day in a zone', () => {
    assert.equal(at('10MB/s', '2026-11-21T03:00:00Z'), 10e6)
    assert.equal(at('1.5 MiB/s'.replace(' ', ''), '2026-11-21T03:00:00Z'), 1.5 * 1024 * 1024)
    assert.equal(at('none', '2026-11-21T03:00:00Z'), null)
    const office = '08:00-18:00 Europe/Berlin 10MB/s, otherwise 50MB/s'
    assert.equal(at(office, '2026-11-21T06:59:59Z'), 50e6)
    assert.equal(at(office, '2026-11-21T07:00:00Z'), 10e6)
    assert.equal(at(office, '2026-11-21T16:59:59Z'), 10e6)
    assert.equal(at(office, '2026-11-21T17:00:00Z'), 50e6)
    // In summer Berlin is another hour ahead.
    assert.equal(at(office, '2026-07-21T06:00:00Z'), 10e6)
    assert.equal(at('08:00-18:00 10MB/s', '2026-11-21T07:59:00Z'), null)
    assert.equal(at('08:00-18:00 10MB/s', '2026-11-21T08:00:00Z'), 10e6)
  })

  test('may go over midnight, and the first window counts', () => {
    const night = '22:00-06:00 UTC none, 12:00-13:00 UTC 1GB/s, 06:00-24:00 UTC 5MB/s'
    assert.equal(at(night, '2026-11-21T23:00:00Z'), null)
    assert.equal(at(night, '2026-11-21T05:59:00Z'), null)
    assert.equal(at(night, '2026-11-21T06:00:00Z'), 5e6)
    assert.equal(at(night, '2026-11-21T12:30:00Z'), 1e9)
  })

  test('that says nothing, too little, or what cannot be, is refused', () => {
    for (const text of [
      '',
      '10',
      '10MB',
      '-1MB/s',
      '1kB/s',
      '0MB/s',
      '08:00-18:00 Europe/Nowhere 10MB/s',
      '25:00-26:00 10MB/s',
      '08:00-08:00 10MB/s',
      '08:60-09:00 10MB/s',
      '10MB/s, 08:00-18:00 5MB/s',
      '08:00 10MB/s',
      '10MB/s,',
    ]) {
      assert.throws(() => parseLimit(text), { code: 'request.invalid' }, text)
    }
  })
})

test('shares are fair: never more than the limit, nothing left while somebody wants it, the modest served first', () => {
  const wants = fc.array(fc.option(fc.integer({ min: 0, max: 1e8 }), { nil: null }), {
    minLength: 1,
    maxLength: 8,
  })
  fc.assert(
    fc.property(fc.integer({ min: 10_000, max: 1e9 }), wants, (limit, wanted) => {
      const shares = fairShares(limit, new Map(wanted.map((want, index) => [String(index), want])))
      const given = wanted.map((want, index) => ({ want, share: shares.get(String(index)) ?? -1 }))
      const sum = given.reduce((total, { share }) => total + share, 0)
      assert.ok(sum <= limit)
      const most = Math.max(...given.map(({ share }) => share))
      const hungry = given.filter(({ want, share }) => want === null || share + 1 < want)
      if (hungry.length > 0) assert.ok(limit - sum <= wanted.length + 1)
      // Who got less than it wanted got as much as anybody.
      for (const { share } of hungry) assert.ok(most - share <= 1)
    }),
  )
})

describe('transfers', () => {
  const start = Date.parse('2026-11-21T03:00:00Z')
  const at = (seconds: number) => new Date(start + seconds * 1000)
  const transfer = (name: string, wanted: number | null = null, place: object = {}) => ({
    transfer: name,
    operationId: 'op-1',
    destination: 'vault',
    host: 'local',
    wanted,
    ...place,
  })

  test('share a limit equally, take what others leave, and inherit from who falls silent', () =>
    withCatalog(async ({ catalog }) => {
      const ask = async (name: string, seconds: number, wanted: number | null = null, place = {}) =>
        (await bandwidthShare(catalog, transfer(name, wanted, place), at(seconds))).bytesPerSecond
      assert.equal(await ask('a', 0), null)
      await putLimit(catalog, 'destination', 'vault', '12MB/s', at(0))
      assert.equal(await ask('a', 1), 12e6)
      assert.equal(await ask('b', 1), 6e6)
      assert.equal(await ask('a', 2), 6e6)
      assert.equal(await ask('c', 2, 1e6), 1e6)
      assert.equal(await ask('a', 3), 5.5e6)
      assert.equal(await ask('other', 3, null, { destination: 'attic' }), null)
      assert.deepEqual(
        (await listLimits(catalog, at(3))).map(one => [
          one.kind,
          one.name,
          one.bytesPerSecond,
          one.transfers,
        ]),
        [['destination', 'vault', 12e6, 3]],
      )
      // Six seconds after it asked last, nobody counts with it any more.
      assert.equal(await ask('a', 8.5), 12e6)
      // One that does not want anything can begin again, and says then what it wants.
      assert.equal(await ask('b', 9, 0), 0.6e6)
    }))

  test('are held by the least of the limits of operation, destination and host; a change holds at the next question', () =>
    withCatalog(async ({ catalog }) => {
      const own = operation('op-1')
      const input = { ...own.input, bandwidth: '3MB/s' } as typeof own.input
      await insertOperation(catalog, { ...own, input }, null)
      const ask = async (seconds: number) =>
        (await bandwidthShare(catalog, transfer('a'), at(seconds))).bytesPerSecond
      assert.equal(await ask(0), 3e6)
      await putLimit(catalog, 'host', 'local', '2MB/s', at(0))
      assert.equal(await ask(1), 2e6)
      await putLimit(catalog, 'destination', 'vault', '04:00-05:00 1MB/s', at(0))
      assert.equal(await ask(2), 2e6)
      assert.equal(await ask(3600), 1e6)
      await putLimit(catalog, 'destination', 'vault', null, at(3601))
      await putLimit(catalog, 'host', 'local', 'none', at(3601))
      assert.equal(await ask(3602), 3e6)
    }))

  test('of an operation may be changed while it is open, and end with it', () =>
    withCatalog(async ({ catalog }) => {
      const own = operation('op-1')
      const input = { ...own.input, bandwidth: '3MB/s' } as typeof own.input
      await insertOperation(catalog, { ...own, input }, null)
      const ask = async (seconds: number) =>
        (await bandwidthShare(catalog, transfer('a'), at(seconds))).bytesPerSecond
      await limitOperation(catalog, 'op-1', '5MB/s', at(0))
      assert.equal(await ask(1), 5e6)
      await limitOperation(catalog, 'op-1', null, at(2))
      assert.equal(await ask(3), null, 'what it was asked for with holds no more')
      await assert.rejects(limitOperation(catalog, 'op-1', 'fast', at(3)), { code: 'request.invalid' })
      await assert.rejects(limitOperation(catalog, 'op-2', '5MB/s', at(3)), { code: 'request.not-found' })
      await updateOperation(catalog, 'op-1', { state: 'succeeded' })
      assert.deepEqual(await listLimits(catalog, at(4)), [])
      await assert.rejects(limitOperation(catalog, 'op-1', '5MB/s', at(5)), { code: 'operation.state' })
    }))

  test('the limit of a destination goes with it', () =>
    withCatalog(async ({ catalog }) => {
      await insertDestination(catalog, vault, {}, null)
      await putLimit(catalog, 'destination', 'vault', '1MB/s', at(0))
      await removeDestination(catalog, 'vault')
      assert.deepEqual(await listLimits(catalog, at(0)), [])
    }))
})
