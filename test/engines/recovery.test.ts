/** What PostgreSQL is told for a recovery, and what its words mean. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { CommandResult } from '../../engines/engine.ts'
import {
  explainReplay,
  forgetTargets,
  ownSettings,
  planReplay,
  readReplayed,
  replayedSoFar,
} from '../../engines/postgresql/physical/recovery.ts'
import { placesOf } from '../../engines/postgresql/physical/restore.ts'
import type { RecoveryOrder } from '../../model/records.ts'

const order: RecoveryOrder = {
  target: { kind: 'lsn', lsn: '0/5000100', inclusive: false },
  timeline: 3,
  action: 'promote',
  walConfig: "/etc/it's 100%/wal.json",
  port: 5433,
  leaveRunning: false,
  socket: null,
  start: '0/2000028',
  stop: '0/2000100',
  end: '0/5000100',
  segmentBytes: 16 << 20,
  archive: 'vault',
  firstFile: '000000030000000000000002',
}
const places = placesOf({
  connection: 'shop',
  database: '/srv/copy',
  token: 'abcdef123456',
  jobs: 1,
  noOwner: false,
})
const programs = { actAs: null, servers: [], container: null, directory: '/usr/lib/postgresql/15/bin' }
const plan = (more: Partial<RecoveryOrder> = {}) =>
  planReplay({ ...order, ...more }, places, programs, { user: 'postgres', preparedTransactions: 7 })
const said = (stderrTail: string, exit = 3): CommandResult => ({ exits: [exit], stdout: '', stderrTail })

describe('a replay', () => {
  test('is told where to stop on its command line', () => {
    const { argv } = plan().run.stages[0]
    assert.deepEqual(
      argv.filter(word => /^(restore_command|recovery_)/.test(word)),
      [
        `restore_command=holdfast wal fetch --config '/etc/it'\\''s 100%%/wal.json' "%f" "%p"`,
        'recovery_target_lsn=0/5000100',
        'recovery_target_inclusive=off',
        'recovery_target_timeline=3',
        'recovery_target_action=promote',
      ],
    )
    assert.equal(plan().resume, 'attach')
    assert.ok(plan({ action: 'pause' }).run.stages[0].argv.includes('recovery_target_action=shutdown'))
    const time = { kind: 'time', time: '2026-11-22T03:14:15.1Z', inclusive: true } as const
    const words = plan({ target: time }).run.stages[0].argv
    assert.ok(words.includes('recovery_target_time=2026-11-22T03:14:15.1+00'))
    const latest = plan({ target: { kind: 'latest' } }).run.stages[0].argv
    assert.ok(!latest.some(word => /^recovery_target(_lsn|_time|_xid|_name)?=/.test(word)))
  })

  test('leaves nothing of it in a promoted copy, and all of it in one that stays', () => {
    assert.equal(ownSettings(order), "port = '5433'\n")
    const stays = ownSettings({
      ...order,
      port: null,
      action: 'pause',
      target: { kind: 'name', name: "b'f\\r", lsn: null },
    })
    assert.match(stays, /^recovery_target_name = 'b''f\\\\r'$/m)
    assert.match(stays, /^recovery_target_action = 'pause'$/m)
    assert.match(stays, /^archive_cleanup_command = ''$/m)
    assert.ok(forgetTargets.includes('/^[[:space:]]*recovery_target/d'))
  })

  test('says how far it is', () => {
    assert.deepEqual(
      replayedSoFar(order, 'LOG:  restored log file "000000030000000000000004" from archive\n'),
      {
        bytes: 0x4000000 - 0x2000028,
        note: '0/4000000, 000000030000000000000004',
      },
    )
    const line = 'LOG:  redo in progress, elapsed time: 10.00 s, current LSN: 0/3000100'
    assert.deepEqual(replayedSoFar(order, line), { bytes: 0x3000100 - 0x2000028, note: '0/3000100' })
    assert.equal(replayedSoFar(order, ''), undefined)
  })

  const end = `LOG:  recovery stopping before WAL location (LSN) "0/5000100"
LOG:  redo done at 0/5000100 system usage: CPU: user: 0.00 s, system: 0.00 s, elapsed: 0.02 s
LOG:  last completed transaction was at log time 2026-11-22 03:14:15.1+00
LOG:  selected new timeline ID: 4
LOG:  redo done at 0/6000000 system usage: CPU: user: 0.00 s, system: 0.00 s, elapsed: 0.02 s
Database system identifier:           7000000000000000001
Database cluster state:               shut down
Latest checkpoint's TimeLineID:       4
`
  test('is read at its end: where it stopped first', () => {
    assert.deepEqual(readReplayed(order, end), {
      lsn: '0/5000100',
      lastTransactionAt: '2026-11-22 03:14:15.1+00',
      stoppedAt: 'before WAL location (LSN) "0/5000100"',
      timeline: 4,
    })
  })

  for (const [what, more, text] of [
    ['a server that was not stopped', {}, end.replace('shut down', 'in production')],
    ['the old timeline', {}, end.replace('TimeLineID:       4', 'TimeLineID:       3')],
    ['an end before the place', { target: { kind: 'lsn', lsn: '0/5000200', inclusive: true } }, end],
    ['no word of a target', {}, end.replace(/^.*recovery stopping.*$/m, '')],
    ['an early end of the log', { target: { kind: 'latest' }, end: '0/8000000' }, end],
    ['nothing', {}, ''],
  ] as const) {
    test(`is not what was asked for: ${what}`, () => {
      assert.throws(() => readReplayed({ ...order, ...more }, text), { code: 'restore.proof-failed' })
    })
  }

  test('fails in words', () => {
    const code = (words: string, exit?: number) =>
      explainReplay(said(`holdfast: recovery ended with 1\n${words}`, exit), order) ?? assert.fail(words)
    const early = code(
      'LOG:  last completed transaction was at log time 2026-11-22 03:14:15.1+00\nFATAL:  recovery ended before configured recovery target was reached',
    )
    assert.equal(early.code, 'pitr.not-reached')
    assert.match(early.message, /the last transaction in it is of 2026-11-22 03:14:15\.1\+00/)
    assert.doesNotMatch(early.hint, /pg_switch_wal/)
    const idle = {
      ...order,
      target: { kind: 'time', time: '2026-11-22T04:00:00Z', inclusive: true },
    } as const
    const words =
      'holdfast: recovery ended with 1\nFATAL:  recovery ended before configured recovery target was reached'
    assert.match(explainReplay(said(words), idle)?.hint ?? '', /SELECT pg_switch_wal\(\)/)
    assert.equal(
      code('FATAL:  requested recovery stop point is before consistent recovery point').code,
      'pitr.unreachable',
    )
    const gap = code('error wal.gap: Fetching 1: it is not there.\nhint: x\nFATAL:  could not restore file')
    assert.equal(gap.code, 'wal.gap')
    assert.match(gap.message, /Fetching 1: it is not there\.$/)
    assert.equal(code('', 137).code, 'tool.interrupted')
    assert.equal(
      code('LOG:  startup process (PID 7) was terminated by signal 9: Killed').code,
      'tool.interrupted',
    )
    assert.equal(code('FATAL:  resource manager with ID 128 not registered').code, 'pitr.failed')
    assert.equal(explainReplay(said('tar: broken'), order), undefined)
  })
})
