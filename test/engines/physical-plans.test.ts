/** Physical backups of PostgreSQL as data: the tool's arguments, what is refused, and that a copy reaches nobody. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ServerFacts } from '../../engines/engine.ts'
import { engineOf } from '../../engines/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { Manifest } from '../../model/manifest.ts'
import { scratch } from '../support/temporary.ts'

const engine = engineOf('postgresql')
const physical = engine.methods.physical ?? assert.fail()

const cluster = {
  sizeBytes: 1000,
  databases: ['postgres', 'shop'],
  tablespaces: [] as { oid: string; name: string; location: string }[],
  bootstrapUser: 'postgres',
  replication: true,
  walLevel: 'replica',
  maxWalSenders: 10,
  walSenders: 0,
  freeSlots: 10,
  walKeepMegabytes: 2048,
  maxWalMegabytes: 1024,
  walSegmentBytes: 16 << 20,
  summarizeWal: false,
  pageChecksums: true,
  clockMs: 1_780_000_000_000,
  standbyLagSeconds: 0 as number | null,
  dataDirectory: '/var/lib/postgresql/15/main',
  configFiles: ['/var/lib/postgresql/15/main/postgresql.conf'],
}
const archiving = {
  mode: 'on',
  by: 'holdfast',
  timeoutSeconds: 60,
  pendingRestart: [] as string[],
  segmentBytes: 16 << 20,
  current: '000000010000000000000009' as string | null,
  lastArchived: '000000010000000000000008' as string | null,
  failingSeconds: null as number | null,
  failed: 0,
  walBytes: 16 << 20,
  maxWalBytes: 1 << 30,
  dataDirectory: null,
}
const server = {
  systemIdentifier: '7',
  versionNum: 150018,
  version: '15.18',
  inRecovery: false,
  user: 'u',
  superuser: false,
  createDatabases: false,
  tablespaces: ['pg_default'],
  maxLocksPerTransaction: 64,
  maxConnections: 100,
  maxPreparedTransactions: 5,
}
const kinds =
  'schemas tables indexes sequences views materializedViews foreignTables functions types triggers constraints policies eventTriggers largeObjects'
const database = {
  encoding: 'UTF8',
  collate: 'C',
  ctype: 'C',
  localeProvider: 'c',
  locale: null,
  icuRules: null,
  owner: 'o',
  tablespace: 'pg_default',
  tablespaces: [],
  connectionLimit: -1,
  isTemplate: false,
  comment: null,
  acl: null,
  settings: [],
  extensions: [],
  roles: [],
  neededRoles: [],
  counts: Object.fromEntries(kinds.split(' ').map(kind => [kind, 1])),
  lockableObjects: 0,
  unreadable: { total: 0, names: [] },
  rowSecurity: { total: 0, names: [] },
  subscriptions: 0,
}
const factsWith = (
  changes: Partial<typeof cluster> = {},
  more: Partial<typeof server> = {},
): ServerFacts => ({
  identity: 'postgresql:7/h:5432',
  version: more.version ?? '15.18',
  database: 'shop',
  sizeBytes: 1000,
  facts: { server: { ...server, ...more }, database, cluster: { ...cluster, ...changes }, archiving },
  tools: [{ name: 'pg_basebackup', version: '15.18' }],
})
const settingsOf = (query = '') => engine.parseUrl(`postgres://u:canary@h/shop${query}`).settings
const request = (toolFormat = 'tar') => ({ connection: 'shop', type: 'full' as const, toolFormat, jobs: 1 })
const warm = { oid: '16401', name: 'warm', location: '/srv/warm' }
const answerOf = (id: string, facts: ServerFacts, toolFormat = 'tar', query = '') =>
  physical
    .checks(settingsOf(query), request(toolFormat), facts)
    .find(check => check.id === `postgresql.${id}`)
const code = (expected: string, said: RegExp) => (error: unknown) => {
  assert.ok(error instanceof HoldfastError, String(error))
  assert.equal(error.code, expected, error.message)
  assert.match(error.message, said)
  return true
}

describe('archiving', () => {
  const answers = (changes: Partial<typeof archiving>) => {
    const facts = factsWith()
    const changed = { ...facts, facts: { ...facts.facts, archiving: { ...archiving, ...changes } } }
    return physical
      .checks(settingsOf(), request(), changed)
      .filter(({ id }) => id.startsWith('postgresql.archiv'))
      .map(({ answer, detail }) => `${answer} ${detail}`)
  }
  test('whose it is, and what is missing for it', () => {
    assert.deepEqual(answers({}), ['pass By Holdfast.', 'pass 0 segments (0 MB) wait in pg_wal.'])
    assert.match(answers({ by: 'pgbackrest' })[0] ?? '', /^pass By pgBackRest, which is left in charge/)
    assert.match(answers({ timeoutSeconds: 0 })[0] ?? '', /^warn .*archive_timeout is 0/)
    assert.match(answers({ by: 'nobody' }).join(), /^warn .*pg_wal grows/)
    assert.match(answers({ mode: 'off' }).join(), /^warn WAL archiving is off/)
    assert.match(answers({ mode: 'off', pendingRestart: ['archive_mode'] }).join(), /^warn .*restart/)
  })
  test('how far it is behind', () => {
    assert.match(
      answers({ failingSeconds: 90, current: '00000001000000000000000C' })[1] ?? '',
      /^warn .*90 s\. 3 segments \(48 MB\)/,
    )
    assert.match(answers({ current: '000000010000000000000029' })[1] ?? '', /^warn 32 segments \(512 MB\)/)
    assert.match(answers({ lastArchived: null })[1] ?? '', /^pass Nothing was archived yet/)
    assert.equal(answers({ current: null }).length, 1)
  })
})

describe('backups', () => {
  test('without tablespaces: one tar on standard output, WAL fetched into it', () => {
    const plan = physical.planBackup(settingsOf(), request(), factsWith())
    assert.equal(
      plan.steps[0]?.run.stages[0].argv.join(' '),
      'pg_basebackup -D - -Ft -X fetch -c fast -l holdfast shop --manifest-checksums=CRC32C -v -w',
    )
    assert.deepEqual(plan.steps[0]?.output, { to: 'artifact', artifact: 'base.tar' })
    assert.deepEqual(plan.artifacts, [
      { name: 'base.tar', format: 'pgbasebackup-tar', from: { step: 'base' } },
    ])
    assert.doesNotMatch(JSON.stringify(plan), /canary/)
  })
  test('checkpoint and rate of the connection', () => {
    const plan = physical.planBackup(settingsOf('?checkpoint=spread&maxrate=32M'), request(), factsWith())
    assert.match(plan.steps[0]?.run.stages[0].argv.join(' ') ?? '', / -c spread .* -r 32M /)
    for (const query of [
      '?checkpoint=now',
      '?maxrate=0',
      '?maxrate=1G',
      '?maxlag=',
      '?maxlag=-1',
      '?maxlag=1.5',
    ]) {
      assert.throws(() => settingsOf(query), code('request.invalid', /url: /))
    }
  })
  test('with tablespaces, or asked for: staged, WAL streamed, backup_manifest an artifact of its own', () => {
    for (const [facts, format, tablespaces] of [
      [factsWith({ tablespaces: [warm] }), 'tar', ['16401.tar']],
      [factsWith(), 'staged-tar', []],
    ] as const) {
      const plan = physical.planBackup(settingsOf(), request(format), facts)
      assert.match(plan.steps[0]?.run.stages[0].argv.join(' ') ?? '', /^pg_basebackup -D base -Ft -X stream /)
      assert.ok(plan.steps.every(step => step.resume === 'attach' && step.writesTo === 'staging'))
      assert.deepEqual(
        plan.artifacts.map(({ name }) => name),
        ['backup_manifest', 'base.tar', ...tablespaces, 'pg_wal.tar'],
      )
      // Whatever else lies there fails the backup.
      const look = plan.steps[1]?.run.stages[0].argv.join(' ') ?? ''
      for (const { name } of plan.artifacts) assert.ok(look.includes(`! -name ${name}`), look)
    }
  })
  test('positions are read from what the tool said', () => {
    const said = `pg_basebackup: initiating base backup, waiting for checkpoint to complete
pg_basebackup: checkpoint completed
pg_basebackup: write-ahead log start point: 16/B3000028 on timeline 3
pg_basebackup: write-ahead log end point: 16/B4000100
pg_basebackup: base backup completed`
    assert.deepEqual(physical.collect?.({ base: said, complete: '' }), {
      positions: { startLsn: '16/B3000028', stopLsn: '16/B4000100', timeline: 3 },
    })
    assert.deepEqual(physical.collect?.({ base: '' }), {})
  })
})

describe('prechecks', () => {
  test('all is well', () => {
    for (const check of physical.checks(settingsOf(), request(), factsWith())) {
      assert.equal(check.answer, 'pass', JSON.stringify(check))
    }
  })
  const refused: [string, ServerFacts, string, string][] = [
    ['replication', factsWith({ replication: false }), 'fail', 'database.privilege'],
    ['wal', factsWith({ walLevel: 'minimal' }), 'fail', 'database.privilege'],
    ['wal', factsWith({ maxWalSenders: 3, walSenders: 3 }), 'fail', 'database.privilege'],
    ['tool-version', factsWith({}, { versionNum: 120000, version: '12.1' }), 'fail', 'database.version'],
    ['tool-version', factsWith({}, { versionNum: 170000, version: '17.1' }), 'fail', 'host.tool-version'],
    ['tool-version', { ...factsWith(), tools: [] }, 'fail', 'host.tool-missing'],
    ['standby', factsWith({ standbyLagSeconds: 301 }, { inRecovery: true }), 'fail', 'database.busy'],
    ['standby', factsWith({ standbyLagSeconds: null }, { inRecovery: true }), 'fail', 'database.busy'],
    ['page-checksums', factsWith({ pageChecksums: false }), 'warn', ''],
    ['wal-kept', factsWith({ walKeepMegabytes: 0 }), 'warn', ''],
    ['config', factsWith({ configFiles: ['/etc/postgresql/15/main/pg_hba.conf'] }), 'warn', ''],
  ]
  for (const [id, facts, answer, errorCode] of refused) {
    test(`${id}: ${answer} ${errorCode}`, () => {
      const check = answerOf(id, facts)
      assert.equal(check?.answer, answer, JSON.stringify(check))
      assert.equal(check?.code ?? '', errorCode)
      assert.ok(check?.hint)
    })
  }
  test('a sender more where WAL is streamed, and no word of what is kept', () => {
    const facts = factsWith({ maxWalSenders: 1, walKeepMegabytes: 0 })
    assert.equal(answerOf('wal', facts)?.answer, 'pass')
    assert.equal(answerOf('wal', facts, 'staged-tar')?.answer, 'fail')
    assert.equal(answerOf('wal-kept', facts, 'staged-tar'), undefined)
    const withoutSlots = factsWith({ freeSlots: 0 })
    assert.equal(answerOf('wal', withoutSlots)?.answer, 'pass')
    assert.match(answerOf('wal', withoutSlots, 'staged-tar')?.detail ?? '', /slot/)
  })
  test('a standby may be as late as its connection says', () => {
    const facts = factsWith({ standbyLagSeconds: 301 }, { inRecovery: true })
    assert.equal(answerOf('standby', facts, 'tar', '?maxlag=600')?.answer, 'pass')
  })
})

describe('restores', () => {
  const manifest = (names: string[], tablespaces = [warm]): Manifest =>
    ({
      backupId: 'b',
      type: 'full',
      parent: null,
      engine: 'postgresql',
      method: 'physical',
      server: { identity: 'i', version: '15.18', database: 'shop' },
      facts: factsWith({ tablespaces }).facts,
      artifacts: names.map(name => ({ name, format: 'pgbasebackup-tar', toolBytes: 1 })),
    }) as unknown as Manifest
  const programs = (version: string, actAs: { user: number; group: number } | null = null): ServerFacts => ({
    ...factsWith(),
    identity: '',
    facts: { programs: { actAs, servers: [{ directory: `/pg/${version}/bin`, version }], container: null } },
  })
  const target = (directory: string) => ({
    connection: 'shop',
    database: directory,
    token: 'Tok3n77',
    jobs: 1,
    noOwner: false,
  })
  const all = ['backup_manifest', 'base.tar', '16401.tar', 'pg_wal.tar']

  test('beside, verified, cut off, and named last', () => {
    const plan = physical.planRestore(settingsOf(), target('/srv/copy'), manifest(all), programs('15.18'))
    assert.ok(plan.steps.every(step => step.group === 'load'))
    assert.equal(
      plan.steps.map(step => step.id).join(' '),
      'make base tablespace-16401 link-16401 wal manifest verify isolate',
    )
    assert.equal(plan.finish.map(step => step.id).join(' '), 'name unmark')
    const argv = (id: string) => plan.steps.find(step => step.id === id)?.run.stages[0].argv.join(' ') ?? ''
    // The map would link the copy to the tablespaces of the server it came from.
    for (const name of ['tablespace_map', 'standby.signal', 'recovery.signal']) {
      assert.ok(argv('base').includes(` --exclude=${name} `), argv('base'))
      assert.ok(argv('verify').includes(` -i ${name} `), argv('verify'))
    }
    assert.match(
      argv('verify'),
      / \/pg\/15\.18\/bin\/pg_verifybackup -q -e .* \/srv\/copy\.holdfast-tok3n77$/,
    )
    assert.equal(
      argv('link-16401'),
      'ln -sT -- /srv/copy.tablespaces-tok3n77/16401 /srv/copy.holdfast-tok3n77/pg_tblspc/16401',
    )
    const isolate = plan.steps.find(step => step.id === 'isolate')?.run.input ?? ''
    assert.match(isolate, /^archive_mode = 'off'$/m)
    assert.match(isolate, /^primary_conninfo = ''$/m)
    assert.equal(plan.swap, undefined)
    assert.deepEqual(plan.destroys, [])
  })
  test('a streamed backup has one tar, with everything in it', () => {
    const plan = physical.planRestore(
      settingsOf(),
      target('/srv/copy'),
      manifest(['base.tar'], []),
      programs('15.4'),
    )
    assert.equal(plan.steps.map(step => step.id).join(' '), 'make base verify isolate')
    assert.doesNotMatch(JSON.stringify(plan.steps), /tablespaces-tok3n77\//)
  })
  test('tools that run as root act as the owner', () => {
    const plan = physical.planRestore(
      settingsOf(),
      target('/srv/copy'),
      manifest(all),
      programs('15.18', { user: 105, group: 110 }),
    )
    for (const step of [...plan.steps, ...plan.finish]) {
      assert.match(step.run.stages[0].argv.join(' '), /^setpriv --reuid=105 --regid=110 --init-groups sh -c /)
    }
  })
  test('taken back while an agent goes on laying log into it', async () => {
    await using place = await scratch()
    const { undo } = physical.planRestore(
      settingsOf(),
      target(join(place.path, 'copy')),
      manifest(all),
      programs('15.18'),
    )
    const [command] = undo[0]?.stages ?? []
    assert.ok(command)
    const copy = join(place.path, 'copy.holdfast-tok3n77')
    const ahead = join(copy, 'pg_wal/ahead')
    await mkdir(ahead, { recursive: true })
    // It makes no directory anew.
    const agent = spawn(
      'sh',
      ['-c', 'cd "$1" && while :; do : >"$1/$((n += 1))" || exit; done', 'sh', ahead],
      {
        stdio: ['ignore', 'ignore', 'ignore'],
      },
    )
    const gone = once(agent, 'exit')
    try {
      while ((await readdir(ahead)).length === 0) await sleep(10)
      const [program, ...words] = command.argv
      const removing = spawn(program, words, { stdio: ['ignore', 'ignore', 'inherit'] })
      assert.deepEqual(await once(removing, 'exit'), [0, null])
      assert.deepEqual(await readdir(place.path), [])
    } finally {
      agent.kill('SIGKILL')
      await gone
    }
  })
  test('what is refused', () => {
    const plan = (directory: string, facts = programs('15.18'), names = all) =>
      physical.planRestore(settingsOf(), target(directory), manifest(names), facts)
    for (const directory of ['shop', '/', '/srv/', '/srv/../etc', '/srv/a\nb', `/srv/${'x'.repeat(181)}`]) {
      assert.throws(() => plan(directory), code('request.invalid', /target\.database/))
    }
    assert.throws(() => plan('/srv/copy', programs('17.1')), code('restore.mismatch', /there is 17\.1/))
    assert.throws(
      () => plan('/srv/copy', programs('15.18'), ['16401.tar']),
      code('restore.mismatch', /no base\.tar/),
    )
  })
  test('in place: what comes after the load acts as the owner of what is there; without it nothing is destroyed', () => {
    const facts = {
      inode: '1:2',
      systemIdentifier: '7',
      owner: { user: 200, group: 201 },
      version: '15',
      isRunning: true,
      isStandby: false,
      elsewhere: [],
      supervisor: { kind: 'pg_ctl', bin: '/pg/15/bin', options: ['-p', "5'4"], log: '' },
      slots: ['cdc'],
    }
    const replaces = { identity: 'i', words: 'The data directory', sizeBytes: 1, facts }
    const plan = physical.planRestore(
      settingsOf(),
      { ...target('/srv/copy'), replaces },
      manifest(all),
      programs('15.18', { user: 105, group: 110 }),
    )
    const { swap } = plan
    assert.ok(swap)
    assert.deepEqual(plan.finish, [])
    for (const step of [...plan.steps, ...swap.prepare]) {
      assert.match(step.run.stages[0].argv.join(' '), /^setpriv --reuid=200 --regid=201 --init-groups sh -c /)
    }
    const args = swap.exchange.run.stages[0].argv.slice(4).join(' ').trimEnd()
    assert.equal(
      args,
      `exchange /srv/copy /srv/copy.holdfast-tok3n77 /srv/copy.old-tok3n77 /srv/copy.holdfast-tok3n77.journal holdfast-restore-tok3n77 1:2 7 200 201 /pg/15/bin pg_ctl  /srv/copy.log '-p' '5'\\''4'`,
    )
    assert.match(plan.destroys.join('\n'), /kept as \/srv\/copy\.old-tok3n77/)
    assert.match(plan.destroys.join('\n'), /Replication slots.*: cdc\./)
  })
  test('a copy of it is a directory beside that of the server', () => {
    assert.equal(
      physical.nameBeside?.(manifest(all), '20261122_0314'),
      '/var/lib/postgresql/15/main_20261122_0314',
    )
  })
})

describe('what the tools mean', () => {
  for (const [said, expected] of [
    [
      'pg_basebackup: error: backup failed: ERROR:  requested WAL segment 00000001000000000000000A has already been removed',
      'tool.failed',
    ],
    ['pg_basebackup: error: can only write single tablespace to stdout, database has 2', 'backup.incomplete'],
    [
      'pg_basebackup: error: backup failed: ERROR:  the standby was promoted during online backup',
      'backup.incomplete',
    ],
    ['holdfast: not in the plan: base/16402.tar', 'backup.incomplete'],
    ['pg_basebackup: error: checksum error occurred', 'database.corrupted'],
    [
      'FATAL:  number of requested standby connections exceeds max_wal_senders (currently 1)',
      'database.busy',
    ],
    ['pg_basebackup: error: incompatible server version 17.1', 'host.tool-version'],
    [
      'FATAL:  no pg_hba.conf entry for replication connection from host "1.2.3.4", user "u"',
      'database.authentication',
    ],
    ['FATAL:  must be superuser or replication role to start walsender', 'database.privilege'],
    ['pg_verifybackup: error: checksum mismatch for file "base/5/1259"', 'restore.proof-failed'],
  ] as const) {
    test(`${expected}: ${said.slice(0, 60)}`, () => {
      const error = engine.explain({ exits: [1], stdout: '', stderrTail: said }, { title: 'x' })
      assert.equal(error?.code, expected)
    })
  }
})
