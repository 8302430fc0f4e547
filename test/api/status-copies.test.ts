/** Three copies, two media, one off-site, one immutable: what of it a database has, what is missing, and what mends it. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { copiesStatus } from '../../api/status/copies.ts'
import type { BackupRecord, CopyRecord } from '../../model/records.ts'

const now = new Date('2026-11-21T12:00:00.000Z')

type Place = Parameters<typeof copiesStatus>[3][number]
const place = (name: string, kind: Place['kind'], more: Partial<Place> = {}): Place => ({
  name,
  kind,
  settings: {},
  offSite: false,
  readOnly: false,
  ...more,
})
const locked = { objectLock: { mode: 'compliance', days: 30 } }

const copy = (
  destination: string,
  committedAt: string | null,
  more: Partial<CopyRecord> = {},
): CopyRecord => ({
  destination,
  state: committedAt === null ? 'missing' : 'committed',
  committedAt,
  verified: null,
  wantedUntil: null,
  trouble: null,
  operationId: null,
  ...more,
})
const backup = (day: number, copies: CopyRecord[]) =>
  ({
    id: `b${day}`,
    connection: 'shop',
    startedAt: `2026-11-${day}T03:00:00.000Z`,
    copies,
  }) as unknown as BackupRecord
const committed = (day: number) => `2026-11-${day}T03:10:00.000Z`

const judged = (newest: BackupRecord, places: Place[], older: BackupRecord[] = []) => {
  const whole = newest.copies.filter(({ state }) => state === 'committed')
  const status = copiesStatus(newest, whole, older, places, now)
  return { ...status, rules: status.missing.map(({ rule }) => rule) }
}

describe('the rule of three, two and one', () => {
  test('a copy on a disk and a locked one elsewhere: kept', () => {
    const places = [place('disk', 'local'), place('offsite', 's3', { offSite: true, settings: locked })]
    const found = judged(backup(21, [copy('disk', committed(21)), copy('offsite', committed(21))]), places)
    assert.deepEqual(found.rules, [])
    assert.deepEqual(found.missing, [])
    assert.equal(found.count, 3)
    assert.deepEqual(found.media, ['disk', 'object store'])
    assert.deepEqual([found.offSite, found.immutable], [['offsite'], ['offsite']])
    assert.equal(found.since, null)
  })

  test('one copy on a disk: everything is missing, and one copying mends it where there is a place that does', () => {
    const places = [
      place('disk', 'local'),
      place('other', 'server'),
      place('offsite', 's3', { offSite: true, settings: locked }),
    ]
    const found = judged(backup(21, [copy('disk', committed(21))]), places)
    assert.deepEqual(found.rules, ['copies', 'media', 'off-site', 'immutable'])
    assert.deepEqual(
      new Set(found.missing.map(({ command }) => command)),
      new Set(['holdfast backups copy b21 --to offsite']),
    )
    assert.match(found.missing[0]?.detail ?? '', /2 of 3 copies/)
    assert.equal(found.since, '2026-11-21T03:00:00.000Z')
  })

  test('where no place does, it says which to add, or what to say of one', () => {
    const found = judged(backup(21, [copy('disk', committed(21))]), [
      place('disk', 'local', { offSite: null }),
    ])
    assert.deepEqual(
      found.missing.map(({ rule, command }) => [rule, command]),
      [
        ['copies', 'holdfast destination add NAME URI'],
        ['media', 'holdfast destination add NAME s3://BUCKET/PREFIX'],
        ['off-site', 'holdfast destination change disk --off-site'],
        ['immutable', 'holdfast destination add NAME s3://BUCKET/PREFIX --lock compliance:30'],
      ],
    )
    assert.match(found.missing[2]?.detail ?? '', /nobody has said where disk lies/)
  })

  test('a lock that is over keeps nothing; a legal hold does until it is lifted', () => {
    const old = backup(21, [copy('vault', '2026-09-01T00:00:00.000Z')])
    const expired = judged(old, [place('vault', 's3', { settings: locked })])
    assert.ok(expired.rules.includes('immutable'))
    const shortfall = expired.missing.find(({ rule }) => rule === 'immutable')
    assert.match(shortfall?.detail ?? '', /its lock is over/)
    assert.equal(shortfall?.command, 'holdfast backup shop --to vault')
    const held = judged(old, [place('vault', 's3', { settings: { legalHold: true } })])
    assert.deepEqual(held.immutable, ['vault'])
  })

  test('what is on its way is said, and nobody is told to copy it again', () => {
    const places = [place('disk', 'local'), place('offsite', 's3', { offSite: true, settings: locked })]
    const copies = [
      copy('disk', committed(21)),
      copy('offsite', null, { wantedUntil: '2026-11-22T00:00:00.000Z' }),
    ]
    const found = judged(backup(21, copies), places)
    assert.deepEqual(found.arriving, ['offsite'])
    assert.deepEqual(
      new Set(found.missing.map(({ command }) => command)),
      new Set(['holdfast backups show b21']),
    )
  })

  test('neither a read-only destination nor one where it was deleted is proposed', () => {
    const places = [
      place('disk', 'local'),
      place('theirs', 's3', { offSite: true, readOnly: true }),
      place('gone', 'gcs', { offSite: true }),
    ]
    const copies = [copy('disk', committed(21)), copy('gone', committed(21), { state: 'deleted' })]
    const found = judged(backup(21, copies), places)
    assert.ok(found.missing.every(({ command }) => !/theirs|gone/.test(command)))
  })

  test('since when: the backups before are judged as they were while they were the newest', () => {
    const places = [
      place('disk', 'local'),
      place('offsite', 's3', { offSite: true, settings: { objectLock: { mode: 'governance', days: 1 } } }),
    ]
    const both = (day: number, more: Partial<CopyRecord> = {}) =>
      backup(day, [copy('disk', committed(day), more), copy('offsite', committed(day), more)])
    const found = judged(backup(21, [copy('disk', committed(21))]), places, [
      // Copied home only after the next one was made.
      backup(20, [copy('disk', committed(20)), copy('offsite', '2026-11-21T09:00:00.000Z')]),
      // Its lock is over by now and its copies are removed: it was whole in its time.
      both(19, { state: 'deleted' }),
      backup(18, [copy('disk', committed(18))]),
    ])
    assert.equal(found.since, '2026-11-20T03:00:00.000Z')
  })
})
