/** What is planned to make a server archive, as data; and what is refused, with words. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { postgresql } from '../../engines/postgresql/index.ts'
import { hasCode } from '../../model/errors.ts'

const { archiving, parseUrl } = postgresql
const { settings } = parseUrl('postgres://dba@db1/postgres')
const request = { program: 'holdfast', config: null, timeoutSeconds: null, replace: false }

const plain = (value: string, more: object = {}) => ({
  value,
  source: 'default',
  byAlterSystem: false,
  mayAlter: true,
  ...more,
})
const state = (changed: Record<string, unknown> = {}, more: object = {}) => ({
  systemIdentifier: '7',
  inRecovery: false,
  by: 'nobody',
  mayReload: true,
  maySwitch: true,
  alterSystem: true,
  standbys: 0,
  slots: 0,
  settings: {
    wal_level: plain('replica'),
    archive_command: plain(''),
    archive_library: plain(''),
    archive_timeout: plain('0'),
    max_wal_senders: plain('10'),
    max_replication_slots: plain('10'),
    archive_mode: plain('on'),
    ...changed,
  },
  ...more,
})
const plan = (found: object, asked: object = {}) =>
  archiving?.plan('shop', settings, { ...request, ...asked }, found as never) ?? assert.fail('no archiving')

describe('enabling archiving', () => {
  test('sets what is missing, in an order in which the server starts after each', () => {
    const { changes, destroys } = plan(state({ wal_level: plain('minimal'), archive_mode: plain('off') }))
    assert.deepEqual(
      changes.map(({ name, to, restart }) => [name, to, restart]),
      [
        ['wal_level', 'replica', true],
        ['archive_command', 'holdfast wal push %p', false],
        ['archive_timeout', '60', false],
        ['archive_mode', 'on', true],
      ],
    )
    assert.deepEqual(destroys, [])
  })

  test('makes room for the slot that a base backup takes, beside those that are there', () => {
    const raised = (slots: number, most: string) =>
      plan(state({ max_replication_slots: plain(most) }, { slots })).changes.find(
        ({ name }) => name === 'max_replication_slots',
      )
    assert.deepEqual(raised(0, '0'), {
      name: 'max_replication_slots',
      to: '10',
      restart: true,
      former: null,
    })
    assert.equal(raised(12, '12')?.to, '13')
    assert.equal(raised(9, '10'), undefined)
  })

  test('leaves alone what is as it should be, and a timeout that somebody chose', () => {
    const command = 'holdfast wal push --config /etc/holdfast/a.json %p'
    const set = { archive_command: plain(command), archive_timeout: plain('900') }
    assert.deepEqual(plan(state(set, { by: 'holdfast' }), { config: '/etc/holdfast/a.json' }).changes, [])
  })

  test('puts back what stood in postgresql.auto.conf, and takes away what did not', () => {
    const auto = { source: 'configuration file', byAlterSystem: true }
    const { changes } = plan(state({ archive_timeout: plain('0', auto) }))
    assert.deepEqual(
      changes.map(({ name, former }) => [name, former]),
      [
        ['archive_command', null],
        ['archive_timeout', '0'],
      ],
    )
  })

  test('who archives already is left in charge, or replaced without its words being read', () => {
    const theirs = { source: 'configuration file', mayAlter: true, value: null }
    for (const by of ['pgbackrest', 'wal-g', 'barman', 'other']) {
      const found = state({ archive_command: { ...theirs, byAlterSystem: false } }, { by })
      assert.throws(
        () => plan(found),
        error => hasCode(error, 'wal.other-archiver'),
      )
      const { changes, destroys } = plan(found, { replace: true })
      assert.equal(changes[0]?.former, null)
      assert.equal(destroys.length, 1)
      // It would be lost: nobody has read it.
      for (const byAlterSystem of [true, null]) {
        const lost = state({ archive_command: { ...theirs, byAlterSystem } }, { by })
        assert.throws(
          () => plan(lost, { replace: true }),
          error => hasCode(error, 'wal.refused'),
        )
      }
    }
  })

  test('refuses what could not take effect', () => {
    const off = plain('off')
    const cases: [object, 'wal.refused' | 'database.privilege', RegExp][] = [
      [state({}, { inRecovery: true }), 'wal.refused', /standby/],
      [state({ archive_mode: { ...off, source: 'command line' } }), 'wal.refused', /command line/],
      [state({}, { alterSystem: false }), 'wal.refused', /ALTER SYSTEM/],
      [state({ archive_mode: { ...off, mayAlter: false } }), 'database.privilege', /archive_mode/],
      [state({}, { mayReload: false }), 'database.privilege', /archive_command/],
    ]
    for (const [found, code, words] of cases) {
      assert.throws(
        () => plan(found),
        error => hasCode(error, code) && words.test(String(error)),
      )
    }
  })
})
