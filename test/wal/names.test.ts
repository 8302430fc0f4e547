/** Names, timelines and places of PostgreSQL's log. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  branchesIn,
  formatLsn,
  logFileOf,
  logFileTrouble,
  nextSegment,
  parseLsn,
  segmentAt,
  segmentHeadOf,
  segmentName,
  segmentNumber,
  systemIdentifierIn,
  usualSegmentBytes,
} from '../../model/wal.ts'
import { mebibyte, segmentOf, systemIdentifier } from './segments.ts'

const sizes = fc.integer({ min: 20, max: 30 }).map(power => 2 ** power)
const timelines = fc.integer({ min: 1, max: 0xffffffff })
const lsns = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })

describe('names of log files', () => {
  it('are told apart', () => {
    const segment = '000000010000000A000000FF'
    assert.deepEqual(logFileOf(segment), { kind: 'segment', timeline: 1, segment })
    assert.deepEqual(logFileOf(`${segment}.partial`), { kind: 'partial', timeline: 1, segment })
    assert.deepEqual(logFileOf(`${segment}.00000028.backup`), { kind: 'backup', timeline: 1, segment })
    assert.deepEqual(logFileOf('0000001F.history'), { kind: 'history', timeline: 31 })
  })

  it('are nothing else', () => {
    const segment = '000000010000000A000000FF'
    const others = [
      '',
      segment.slice(1),
      `${segment}0`,
      segment.toLowerCase(),
      `${segment}.backup`,
      `${segment}.partial.partial`,
      '00000001.history.tmp',
      '00000000.history',
      `00000000${segment.slice(8)}`,
      `../${segment}`,
      `${segment}\n`,
      'RECOVERYXLOG',
    ]
    for (const name of others) assert.equal(logFileOf(name), undefined, JSON.stringify(name))
  })

  it('and places are each other, whatever the size of a segment', () => {
    fc.assert(
      fc.property(timelines, lsns, sizes, (timeline, lsn, bytes) => {
        const name = segmentAt(timeline, lsn, bytes)
        const number = segmentNumber(name, bytes)
        assert.equal(logFileOf(name)?.timeline, timeline)
        assert.equal(number, lsn / BigInt(bytes))
        assert.equal(segmentName(timeline, number ?? 0n, bytes), name)
      }),
    )
  })

  it('follow each other, into the next log, and to the end', () => {
    assert.equal(nextSegment('000000010000000000000001', usualSegmentBytes), '000000010000000000000002')
    assert.equal(nextSegment('0000000100000000000000FF', usualSegmentBytes), '000000010000000100000000')
    // With segments of 1 GiB a log has four.
    assert.equal(nextSegment('000000020000000000000003', 1 << 30), '000000020000000100000000')
    assert.equal(nextSegment('000000020000000000000004', 1 << 30), undefined)
    assert.equal(nextSegment('00000001FFFFFFFF000000FF', usualSegmentBytes), undefined)
  })

  it('write LSNs as PostgreSQL does', () => {
    assert.equal(formatLsn(0x16b374d848n), '16/B374D848')
    assert.equal(parseLsn('16/B374D848'), 0x16b374d848n)
    assert.equal(segmentAt(1, 0x16b374d848n, usualSegmentBytes), '0000000100000016000000B3')
    for (const text of ['', '/', '1/', '/1', '1/2/3', 'G/1', '123456789/0', ' 1/2'])
      assert.equal(parseLsn(text), undefined)
    fc.assert(fc.property(lsns, lsn => assert.equal(parseLsn(formatLsn(lsn)), lsn)))
  })
})

describe('timelines', () => {
  it('say where they branched off', () => {
    const text = '1\t0/3000000\tno recovery target specified\n\n2\t0/5000A28\tbefore 2026-11-21 03:14:07+00\n'
    assert.deepEqual(branchesIn(text), [
      { parent: 1, at: 0x3000000n },
      { parent: 2, at: 0x5000a28n },
    ])
  })

  it('of nothing or of another order are none', () => {
    for (const text of ['', '# 1\n', '1\n', 'x 0/1\n', '2\t0/2\tx\n1\t0/3\tx\n', '1\t0/3\tx\n2\t0/2\tx\n'])
      assert.equal(branchesIn(text), undefined, JSON.stringify(text))
  })
})

describe('what a file must be to be archived', () => {
  const name = '000000020000000000000003'
  const trouble = (bytes: Buffer, as = name) => logFileTrouble(as, bytes, systemIdentifier)

  it('is what its name says', () => {
    assert.equal(trouble(segmentOf(name)), undefined)
    assert.equal(trouble(segmentOf(name), `${name}.partial`), undefined)
    // The first segment of a timeline begins with the pages of the one before.
    assert.equal(trouble(segmentOf(name, { timeline: 1 })), undefined)
    assert.equal(trouble(Buffer.from('1\t0/3000000\tx\n'), '00000002.history'), undefined)
    assert.deepEqual(segmentHeadOf(segmentOf(name)), {
      systemIdentifier,
      segmentBytes: mebibyte,
      start: BigInt(3 * mebibyte),
      timeline: 2,
    })
  })

  it('is of this server, whole, and no other segment', () => {
    assert.equal(trouble(segmentOf(name, { server: '7000000000000000001' }))?.foreign, true)
    const others = [
      segmentOf('000000020000000000000004'),
      segmentOf(name, { timeline: 3 }),
      segmentOf(name).subarray(0, mebibyte - 1),
      segmentOf(name).subarray(0, 20),
      Buffer.alloc(mebibyte),
      Buffer.alloc(0),
    ]
    for (const bytes of others) assert.equal(trouble(bytes)?.foreign, false)
    assert.equal(trouble(Buffer.alloc(0), '00000002.history')?.foreign, false)
  })

  it('control files name their server', () => {
    const control = Buffer.alloc(8192)
    control.writeBigUInt64LE(BigInt(systemIdentifier))
    assert.equal(systemIdentifierIn(control), systemIdentifier)
    assert.equal(systemIdentifierIn(control.subarray(0, 7)), undefined)
  })
})
