/** What may be said of tiers, per kind of store, and which of them a copy is old enough for. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import { dueTier, type Tier } from '../../model/keeping.ts'
import { type DestinationExtras, parseDestinationUri } from '../../storage/index.ts'

const tiers = (...said: [number, string][]): Tier[] =>
  said.map(([afterDays, name]) => ({ afterDays, class: name }))

describe('tiers', () => {
  const s3 = 's3://backups/prod'
  const gcs = 'gcs://backups/prod'
  const azure = 'azure://backups/prod'
  const account = 'acmebackups'

  const good: [string, DestinationExtras][] = [
    [s3, { tiers: tiers([7, 'STANDARD_IA'], [30, 'GLACIER_IR'], [365, 'DEEP_ARCHIVE']) }],
    [s3, { tiers: tiers([7, 'SOME_STORES_OWN']) }],
    [gcs, { tiers: tiers([7, 'NEARLINE'], [30, 'COLDLINE']) }],
    [azure, { account, tiers: tiers([7, 'Cool'], [365, 'Archive']) }],
    [azure, { account, tiers: tiers([7, 'Cool']), objectLock: { mode: 'compliance', days: 30 } }],
  ]
  for (const [uri, extras] of good) {
    test(`${uri} ${JSON.stringify(extras)}`, () => {
      assert.deepEqual(parseDestinationUri(uri, extras).settings.tiers, extras.tiers)
    })
  }

  const bad: [string, DestinationExtras, RegExp][] = [
    [s3, { tiers: tiers([30, 'GLACIER'], [7, 'DEEP_ARCHIVE']) }, /tiers\.1\.afterDays .*after the one/],
    [s3, { tiers: tiers([7, 'GLACIER'], [30, 'STANDARD_IA']) }, /tiers\.1\.class .*colder/],
    [s3, { tiers: tiers([7, 'GLACIER'], [30, 'DEEP_ARCHIVE']) }, /tiers\.1\.class .*cannot be moved on/],
    [s3, { tiers: tiers([7, 'A'], [30, 'A']) }, /tiers\.1\.class .*colder/],
    [gcs, { tiers: tiers([7, 'Cool']) }, /tiers\.0\.class .*one of STANDARD/],
    [azure, { account, tiers: tiers([7, 'GLACIER']) }, /tiers\.0\.class .*one of Hot/],
    [azure, { account, tiers: [] }, /tiers/],
    [s3, { tiers: tiers([7, 'GLACIER']), objectLock: { mode: 'governance', days: 1 } }, /locked or held/],
    [gcs, { tiers: tiers([7, 'NEARLINE']), legalHold: true }, /locked or held/],
    ['/var/backups', { tiers: tiers([7, 'Cool']) }, /tiers has no meaning for a directory/],
  ]
  for (const [uri, extras, message] of bad) {
    test(`${uri} ${JSON.stringify(extras)} is refused`, () => {
      assert.throws(
        () => parseDestinationUri(uri, extras),
        error => error instanceof HoldfastError && message.test(error.message),
      )
    })
  }

  test('the last one that a copy is old enough for, to the hour', () => {
    const list = tiers([7, 'Cool'], [30, 'Cold'], [365, 'Archive'])
    const since = '2026-01-01T00:00:00.000Z'
    assert.equal(dueTier(list, since, '2026-01-07T23:59:59.000Z'), undefined)
    assert.deepEqual(dueTier(list, since, '2026-01-08T00:00:00.000Z'), {
      class: 'Cool',
      colder: ['Cold', 'Archive'],
    })
    assert.deepEqual(dueTier(list, since, '2026-02-15T00:00:00.000Z'), { class: 'Cold', colder: ['Archive'] })
    assert.deepEqual(dueTier(list, since, '2030-01-01T00:00:00.000Z'), { class: 'Archive', colder: [] })
  })
})
