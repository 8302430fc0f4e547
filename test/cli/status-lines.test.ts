/** How the status screen looks: 80 columns, a fleet of a hundred, worst first; and what its estimates are made of. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { estimate, type Measured, secondsOf } from '../../api/status/estimate.ts'
import { brokenPromises } from '../../api/status/schedules.ts'
import { statusLines } from '../../cli/status-lines.ts'
import type { ScheduleRecord, ScheduleRun } from '../../model/schedules.ts'
import type { DatabaseStatus, StatusView } from '../../model/views.ts'

const database = (name: string, level: DatabaseStatus['level']): DatabaseStatus => ({
  connection: name,
  engine: 'postgresql',
  address: 'postgres://backup@db.example:5432/x',
  level,
  latestBackup: {
    id: '20261121T031400Z-full-9f3kq2xa',
    database: name,
    destination: 'vault',
    startedAt: '2026-11-21T03:14:00.000Z',
    ageSeconds: 200_000,
    toolBytes: 1e9,
    storedBytes: 2e8,
    verified: { level: 'checksum', at: '2026-11-21T04:00:00.000Z' },
    encrypted: true,
    keyAtHand: true,
    seen: true,
  },
  ageSeconds: 200_000,
  restore: {
    seconds: 754,
    basis: 'restores-of-this',
    detail: 'measured: 3 restores of this database',
    command: `holdfast restore 20261121T031400Z-full-9f3kq2xa --target ${name} --database ${name}_20261121_031400`,
  },
  copies: {
    count: 2,
    media: ['disk', 'object store'],
    offSite: [],
    immutable: ['vault'],
    arriving: [],
    missing: [
      {
        rule: 'copies',
        detail: '2 of 3 copies, with the database itself.',
        hint: 'Copy it to barn.',
        command: 'holdfast backups copy 20261121T031400Z-full-9f3kq2xa --to barn',
      },
      {
        rule: 'off-site',
        detail: 'No copy is off-site.',
        hint: 'Copy it to barn.',
        command: 'holdfast backups copy 20261121T031400Z-full-9f3kq2xa --to barn',
      },
    ],
    since: '2026-11-19T03:14:00.000Z',
  },
  log: null,
  drill: null,
  operations: [],
  schedules: [
    {
      name: 'nightly',
      words: 'daily at 02:30 Europe/Berlin',
      paused: false,
      next: '2026-11-24T01:30:00Z',
      lastMissed: null,
    },
  ],
  problems:
    level === 'healthy'
      ? [
          {
            level: 'note',
            code: 'backup.not-verified',
            detail: 'never read back',
            hint: 'Verify it.',
            command: 'x',
          },
        ]
      : [
          {
            level: level === 'warning' ? 'warning' : 'critical',
            code: 'destination.full',
            detail: `The last backup failed: the destination said that there is no room left, ${'and more '.repeat(12)}`,
            hint: 'Free space or raise the quota there, then start again.',
            command: 'holdfast operation show op-abcdefghijklmn',
          },
        ],
})

const fleet = (databases: DatabaseStatus[]): StatusView => ({
  version: '0.1.0',
  installationId: 'i',
  instanceId: 'j',
  fingerprint: 'f',
  at: '2026-11-23T10:47:20.000Z',
  level: 'critical',
  temporal: { reachable: true, namespace: 'default', uiUrl: null, workers: 2 },
  operations: { open: 0 },
  databases,
  destinations: Array.from({ length: 12 }, (_, i) => ({
    name: `destination-${i}`,
    uri: 's3://x',
    readOnly: false,
    reachable: true,
    problems: [],
  })),
  problems: [],
})

const seen = (status: StatusView, columns = 80, detailed = false) =>
  statusLines(status, { columns, detailed, flags: '' }).map(stripVTControlCharacters)

test('a hundred databases: one line each, those in trouble with what is wrong and their command, in 80 columns', () => {
  const many = [
    database('crm', 'critical'),
    database('billing-of-a-very-long-name-that-somebody-chose', 'warning'),
    ...Array.from({ length: 98 }, (_, i) => database(`shop-${i}`, 'healthy')),
  ]
  const lines = seen(fleet(many))
  assert.equal(lines.filter(line => /^✓ shop-\d+ /.test(line)).length, 98)
  assert.equal(lines.filter(line => line.includes('$ holdfast restore')).length, 2)
  assert.ok(lines.findIndex(line => line.startsWith('✗ crm')) < lines.findIndex(line => line.startsWith('!')))
  for (const line of lines)
    assert.ok(line.length <= 80 || line.includes('--database'), `${line.length}: ${line}`)
  assert.ok(lines.length < 130, `${lines.length} lines`)
  assert.ok(lines.some(line => line.includes('holdfast status DATABASE')))
})

test('a few databases: each with its command; the flags that reach this Holdfast are in it', () => {
  const lines = statusLines(fleet([database('shop', 'healthy')]), {
    columns: 200,
    detailed: false,
    flags: ' --profile prod',
  }).map(stripVTControlCharacters)
  assert.ok(
    lines.includes(
      '    $ holdfast restore 20261121T031400Z-full-9f3kq2xa --target shop --database shop_20261121_031400 --profile prod',
    ),
    lines.join('\n'),
  )
  assert.ok(
    lines.some(line => /shop .* 2 d 7 h .*checksum .*~ 12 min 34 s/.test(line)),
    lines.join('\n'),
  )
})

test('what is missing of three copies: a line, and with room each with its command, which is said once', () => {
  const status = fleet([database('shop', 'healthy')])
  const short = /^ {4}3-2-1: too few copies, none off-site since 2026-11-1[89]/
  const command = '    $ holdfast backups copy 20261121T031400Z-full-9f3kq2xa --to barn'
  const plain = seen(status)
  assert.ok(
    plain.some(line => short.test(line)),
    plain.join('\n'),
  )
  assert.ok(!plain.includes(command))
  const detailed = seen(status, 80, true)
  assert.equal(detailed.filter(line => line === command).length, 1, detailed.join('\n'))
  assert.ok(detailed.includes('      No copy is off-site.'))
  const [kept] = status.databases
  if (kept?.copies) kept.copies = { ...kept.copies, offSite: ['barn'], missing: [], since: null }
  assert.ok(!seen(status).some(line => line.includes('3-2-1')))
  assert.ok(seen(status, 80, true).some(line => line.includes('3-2-1: kept, 2 copies; off-site barn')))
})

test('nothing of another server reaches the terminal as it is', () => {
  const hostile = database('shop', 'critical')
  for (const problem of hostile.problems) problem.detail = 'bad \u001b[2Jthing'
  assert.ok(
    statusLines(fleet([hostile]), { columns: 80, detailed: true, flags: '' }).every(
      line => !line.includes('[2Jthing') || line.includes('�'),
    ),
  )
})

const wanted = {
  connection: 'shop',
  engine: 'postgresql',
  engineTitle: 'PostgreSQL',
  method: 'logical',
  bytes: 1e9,
  backupSeconds: 30,
}
const restore = (connection: string, bytes: number, loadSeconds: number, otherSeconds = 2): Measured => ({
  connection,
  engine: 'postgresql',
  method: 'logical',
  bytes,
  loadSeconds,
  otherSeconds,
})

test('an estimate is of this database’s own restores, else of its engine’s, else of the backup, else not known', () => {
  const own = estimate(wanted, [restore('shop', 5e8, 50), restore('crm', 1e9, 1000)])
  assert.deepEqual([own.seconds, own.basis], [102, 'restores-of-this'])
  const others = estimate(wanted, [
    restore('crm', 1e9, 1000),
    { ...restore('x', 1e9, 1), method: 'physical' },
  ])
  assert.deepEqual([others.seconds, others.basis], [1002, 'restores-of-engine'])
  assert.match(others.detail, /one restore of other PostgreSQL databases/)
  const small = estimate(wanted, [restore('shop', 1e6, 1)])
  assert.match(small.detail, /the largest 1000 times smaller/)
  assert.deepEqual(estimate(wanted, []).seconds, 30)
  assert.equal(estimate(wanted, []).basis, 'backup')
  assert.deepEqual(estimate({ ...wanted, backupSeconds: undefined }, []).seconds, null)
})

test('waiting is not restoring', () => {
  const phase = (name: string, from: number, to?: number) =>
    ({
      phase: name,
      state: 'done',
      startedAt: new Date(from * 1000).toISOString(),
      ...(to === undefined ? {} : { endedAt: new Date(to * 1000).toISOString() }),
    }) as Parameters<typeof secondsOf>[0][number]
  assert.deepEqual(
    secondsOf([
      phase('plan', 0, 1),
      phase('cleanup', 1, 900),
      phase('restore', 900, 910),
      phase('finish', 910, 911),
    ]),
    { loadSeconds: 10, otherSeconds: 2 },
  )
  const held = { ...phase('restore', 0, 100), heldMs: 90_000 }
  assert.deepEqual(secondsOf([held]), { loadSeconds: 10, otherSeconds: 0 })
  assert.equal(secondsOf([phase('plan', 0, 1), phase('restore', 1)]), undefined)
  assert.equal(secondsOf([phase('plan', 0, 1)]), undefined)
})

const schedule: ScheduleRecord = {
  id: 'x',
  name: 'nightly',
  kind: 'backup',
  connection: 'shop',
  destinations: ['vault'],
  options: {},
  spec: { at: ['02:30'], timeZone: 'Europe/Berlin' },
  jitterSeconds: 0,
  overlap: 'skip',
  catchUpSeconds: 3600,
  startDeadlineSeconds: 3600,
  startAt: null,
  endAt: null,
  paused: false,
  note: null,
  revision: 1,
  checkedUntil: '2026-11-01T00:00:00.000Z',
  carried: null,
  drift: null,
  requestKey: null,
  createdAt: '2026-11-01T00:00:00.000Z',
  updatedAt: '2026-11-01T00:00:00.000Z',
}

test('a schedule that was not kept is said, with grace for what has just begun', () => {
  const now = new Date('2026-11-21T08:00:00Z')
  const codes = (
    latestAt: string | undefined,
    change: Partial<ScheduleRecord> = {},
    underWay = false,
    at = now,
  ) =>
    brokenPromises(
      { schedule: { ...schedule, ...change }, lastMissed: undefined },
      latestAt,
      at,
      underWay,
    ).map(problem => problem.code)
  assert.deepEqual(codes('2026-11-21T01:30:05Z'), [])
  assert.deepEqual(codes('2026-11-20T01:30:05Z'), ['schedule.behind'])
  assert.deepEqual(codes('2026-11-20T01:30:05Z', {}, true), [])
  assert.deepEqual(
    codes('2026-11-20T01:30:05Z', {}, false, new Date('2026-11-21T02:30:00Z')),
    [],
    'an hour late',
  )
  assert.deepEqual(codes(undefined), ['schedule.behind'])
  assert.deepEqual(codes('2026-11-21T01:30:05Z', { paused: true }), ['schedule.paused'])
  const lastMissed = {
    dueAt: '2026-11-20T01:30:00.000Z',
    reason: 'server-busy',
    detail: 'held by op-x',
  } as ScheduleRun
  const [missed] = brokenPromises({ schedule, lastMissed }, '2026-11-19T01:30:05Z', now, false)
  assert.equal(missed?.code, 'schedule.missed')
  assert.match(missed.detail, /held by op-x/)
  assert.deepEqual(brokenPromises({ schedule, lastMissed }, '2026-11-21T01:30:05Z', now, false), [])
})
