/** Which files of a spool are archived, and in which order; when its receiver is held; how it is called. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { streaming } from '../../engines/postgresql/archiving/streaming.ts'
import type { PostgresqlConnection } from '../../engines/postgresql/connection.ts'
import { finishedFiles, heldBy, isSpoolOf, slotOf, slotPattern, spoolOf } from '../../model/log-stream.ts'

const segment = (timeline: number, number: number, suffix = '') =>
  `${String(timeline).padStart(8, '0')}00000000${String(number).padStart(8, '0')}${suffix}`
const names = (files: string[], open = true) => finishedFiles(files, open).map(({ name }) => name)
const staying = (files: string[], open = true) =>
  finishedFiles(files, open).flatMap(({ name, stays }) => (stays ? [name] : []))

describe('a spool', () => {
  it('gives what is finished in the order of the log, a history before the segments of its timeline', () => {
    const files = [segment(2, 4), segment(1, 3), '00000002.history', segment(1, 2), segment(2, 5, '.partial')]
    assert.deepEqual(names(files), [segment(1, 2), segment(1, 3), '00000002.history', segment(2, 4)])
    // Whoever goes on there looks at the segment that is not finished, and at the history.
    assert.deepEqual(staying(files), ['00000002.history'])
  })

  it('keeps its newest segment where there is nothing after it', () => {
    assert.deepEqual(staying([segment(1, 2), segment(1, 3)]), [segment(1, 3)])
    assert.deepEqual(staying([segment(1, 2), segment(1, 3)], false), [])
  })

  it('gives the segment in which a timeline was left, and that of a spool where nobody goes on', () => {
    const left = segment(1, 3, '.partial')
    assert.deepEqual(names([left, segment(2, 3, '.partial')]), [left])
    assert.deepEqual(names([left]), [])
    assert.deepEqual(names([left], false), [left])
  })

  it('gives nothing that is no log', () =>
    assert.deepEqual(names(['archive_status', 'x', segment(1, 1, '.gz')]), []))

  it('is known by its connection', () => {
    assert.ok(isSpoolOf(spoolOf('shop-2', '7123'), 'shop-2'))
    assert.ok(!isSpoolOf(spoolOf('shop-2', '7123'), 'shop'))
    assert.match(slotOf('a-shop-with-a-very-long-name-that-nobody-would-type-in-the-night-1'), slotPattern)
  })

  it('holds its receiver at the limit, and until half of it is free again', () => {
    const limit = { spoolLimitBytes: 1000 }
    const at = (spoolBytes: number, freeBytes = 2 ** 40) => ({ spoolBytes, freeBytes })
    assert.equal(heldBy(at(1000), limit, null), null)
    assert.equal(heldBy(at(1001), limit, null), 'spool')
    assert.equal(heldBy(at(501), limit, 'spool'), 'spool')
    assert.equal(heldBy(at(500), limit, 'spool'), null)
    assert.equal(heldBy(at(0, 1 << 20), limit, null), 'disk')
    assert.equal(heldBy(at(0, 300 << 20), limit, 'disk'), 'disk')
  })
})

describe('the receiver', () => {
  const settings: PostgresqlConnection = {
    host: '127.0.0.1',
    port: 5432,
    user: 'backup',
    database: 'shop',
    maintenanceDatabase: 'postgres',
  }
  it('is called with its slot and directory, and its password by the environment', () => {
    const [stage] = streaming.receive('shop', settings, 'holdfast_shop', 'room-1').stages
    assert.deepEqual(stage.argv, [
      'pg_receivewal',
      ...['-D', 'room-1', '-S', 'holdfast_shop', '--synchronous', '--no-loop', '--no-password'],
    ])
    assert.deepEqual(stage.secretEnv, { PGPASSWORD: { connection: 'shop', field: 'password' } })
  })

  it('says why it has ended', () => {
    const ended = (stderrTail: string) => streaming.endedBecause({ exits: [1], stdout: '', stderrTail })
    const removed = 'ERROR:  requested WAL segment 000000010000000000000003 has already been removed'
    assert.equal(ended(removed), 'lost')
    assert.equal(ended("requested starting point 0/9 on timeline 1 is not in this server's history"), 'lost')
    assert.equal(ended('ERROR:  replication slot "holdfast_shop" is active for PID 4711'), 'taken')
    const atItsEnd = 'pg_receivewal: error: could not send replication command "START_REPLICATION": '
    assert.equal(ended(`${atItsEnd}\npg_receivewal: error: disconnected`), 'left')
    assert.equal(ended(`${atItsEnd}ERROR:  no\n`), 'other')
    assert.equal(ended('pg_receivewal: error: disconnected'), 'other')
  })
})
