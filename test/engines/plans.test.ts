/** Plans as data: exact programs and arguments, hostile names, nothing secret, and what failures mean. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Command, CommandResult, RestorePlan, ServerFacts } from '../../engines/engine.ts'
import { engineOf } from '../../engines/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import { type ForeignFile, manifestOfForeign } from '../../model/foreign.ts'
import type { Manifest } from '../../model/manifest.ts'

const postgresql = engineOf('postgresql')
const logical = postgresql.methods.logical ?? assert.fail()
const sqlite = engineOf('sqlite')
const physical = sqlite.methods.physical ?? assert.fail()
const sqliteDump = sqlite.methods.logical ?? assert.fail()

const server = {
  systemIdentifier: '7',
  versionNum: 150018,
  version: '15.18',
  inRecovery: false,
  user: 'u',
  superuser: true,
  createDatabases: true,
  tablespaces: ['pg_default'],
  maxLocksPerTransaction: 64,
  maxConnections: 100,
  maxPreparedTransactions: 0,
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
  owner: `o"; DROP DATABASE x; --`,
  tablespace: 'pg_default',
  tablespaces: ['gone'],
  connectionLimit: -1,
  isTemplate: false,
  comment: `it's \\ a "comment"`,
  acl: null,
  settings: [{ role: null, name: 'search_path', value: '"a, ""b""", public' }],
  extensions: [],
  roles: [],
  neededRoles: [],
  counts: Object.fromEntries(kinds.split(' ').map(kind => [kind, 0])),
  lockableObjects: 0,
  unreadable: { total: 0, names: [] },
  rowSecurity: { total: 0, names: [] },
  subscriptions: 0,
}
const hostile = `dbname='x' host=evil "q" -e \\`
const facts: ServerFacts = {
  identity: 'postgresql:7/h:5432',
  version: '15.18',
  database: hostile,
  sizeBytes: 1,
  facts: { server, database },
  tools: [{ name: 'pg_dump', version: '15.18' }],
}
const settings = { ...(postgresql.parseUrl('postgres://u@h/db').settings as object), database: hostile }
const request = (toolFormat: string, jobs = 3) => ({
  connection: 'shop',
  type: 'full' as const,
  toolFormat,
  jobs,
})
const manifest = (format: string, engine = 'postgresql'): Manifest =>
  ({
    backupId: 'b',
    engine,
    facts: { server, database },
    artifacts: [{ name: 'x.dump', format }],
    tools: [],
  }) as unknown as Manifest
const target = (name: string, noOwner = false) => ({
  connection: 'shop',
  database: name,
  token: 'Tok3n77',
  jobs: 3,
  noOwner,
})
const planned = (format: string, name = `a"b'c`, noOwner = false): RestorePlan =>
  logical.planRestore(settings, target(name, noOwner), manifest(format), facts)
const commandsOf = (plan: RestorePlan): Command[] => [
  ...plan.steps.map(step => step.run),
  ...plan.finish.flatMap(step => (step.done ? [step.run, step.done] : [step.run])),
  ...plan.undo,
]

describe('PostgreSQL plans', () => {
  test('custom: streamed, the name in the environment only', () => {
    const plan = logical.planBackup(settings, request('custom'), facts)
    const stage = plan.steps[0]?.run.stages[0]
    assert.deepEqual(stage?.argv, ['pg_dump', '-Fc', '-Z0', '-w', '--lock-wait-timeout=60000'])
    assert.equal(stage?.env?.PGDATABASE, hostile)
    assert.deepEqual(stage?.secretEnv, { PGPASSWORD: { connection: 'shop', field: 'password' } })
    assert.deepEqual(plan.artifacts, [
      {
        name: 'dbname_x_host_evil_q_-e_.dump',
        format: 'pgdump-custom',
        from: { step: 'dump' },
        header: 'PGDMP',
      },
    ])
    assert.deepEqual(plan.steps[0]?.output, { to: 'artifact', artifact: plan.artifacts[0]?.name })
  })
  test('directory: staged, with jobs', () => {
    const plan = logical.planBackup(settings, request('directory'), facts)
    assert.deepEqual(plan.steps[0]?.run.stages[0].argv, [
      'pg_dump',
      '-Fd',
      '-j',
      '3',
      '-f',
      'dump',
      '-Z0',
      '-w',
      '--lock-wait-timeout=60000',
    ])
    assert.equal(plan.steps[0]?.resume, 'attach')
    assert.deepEqual(plan.artifacts[0]?.from, { directory: 'dump' })
  })
  test('restore: create and load restart together, the name comes last', () => {
    const plan = planned('pgdump-custom')
    assert.deepEqual(
      plan.steps.map(step => [step.id, step.group]),
      [
        ['create', 'load'],
        ['load', 'load'],
      ],
    )
    assert.deepEqual(
      plan.finish.map(step => step.id),
      ['name', 'comment'],
    )
    assert.deepEqual(plan.steps[1]?.run.stages[0].argv, [
      'pg_restore',
      '-d',
      `dbname='holdfast_tok3n77'`,
      '-w',
      '--exit-on-error',
      '--no-subscriptions',
      '--no-tablespaces',
      '-Fc',
    ])
    assert.deepEqual(plan.destroys, [])
    const without = planned('pgdump-directory-tar', 'x', true)
    assert.deepEqual(
      without.steps.map(step => step.id),
      ['clear-staging', 'make-staging', 'unpack', 'create', 'load'],
    )
    assert.deepEqual(without.steps[4]?.run.stages[0].argv.slice(-6), [
      '--no-acl',
      '--no-tablespaces',
      '-Fd',
      '-j',
      '3',
      'dump',
    ])
  })
  test('hostile names are quoted everywhere', () => {
    const name = planned('pgdump-custom').finish[0]?.run.input ?? ''
    assert.ok(name.includes('RENAME TO "a""b\'c";'), name)
    assert.ok(name.includes('OWNER TO "o""; DROP DATABASE x; --";'), name)
    assert.ok(name.includes(`SET "search_path" TO 'a, "b"', 'public';`), name)
    const comment = planned('pgdump-custom').finish[1]?.run.input ?? ''
    assert.ok(comment.includes(`E'it''s \\\\ a "comment"'`), comment)
  })
  test('undo drops only what carries the token and the mark', () => {
    const [command] = planned('pgdump-custom').undo
    assert.match(command?.input ?? '', /DROP DATABASE %I WITH \(FORCE\)/)
    assert.match(command?.input ?? '', /datname = 'holdfast_tok3n77' AND .* = 'holdfast restore Tok3n77'/)
  })
  test('no shell, no secret, in any command', () => {
    for (const format of ['pgdump-custom', 'pgdump-directory-tar']) {
      for (const command of commandsOf(planned(format))) {
        for (const stage of command.stages) {
          assert.ok(!['sh', 'bash', 'env', 'xargs'].includes(stage.argv[0]))
          assert.equal('PGPASSWORD' in (stage.env ?? {}), false)
        }
      }
    }
  })
  test('what does not fit is refused', () => {
    const mismatch = (error: unknown) => error instanceof HoldfastError && error.code === 'restore.mismatch'
    assert.throws(() => planned('sqlite-file'), mismatch)
    assert.throws(
      () => logical.planRestore(settings, target('x'), manifest('pgdump-custom', 'sqlite'), facts),
      mismatch,
    )
    assert.throws(() => planned('pgdump-custom', 'é'.repeat(32)), /longer than 63 bytes/)
    assert.throws(
      () =>
        logical.planRestore(settings, { ...target('x'), token: `a';--` }, manifest('pgdump-custom'), facts),
      HoldfastError,
    )
  })
  test('a pg_dump that is older than the server', () => {
    const old = { ...facts, version: '17.2' }
    const check = logical
      .checks(settings, request('custom'), old)
      .find(one => one.id === 'postgresql.tool-version')
    assert.equal(check?.code, 'host.tool-version')
    assert.match(check?.hint ?? '', /PostgreSQL 17 or newer/)
  })
})

describe('PostgreSQL plans of foreign backups', () => {
  const id = '20261121T031400Z-foreign-9f3kq2'
  const foreign = (format: string, more: Partial<ForeignFile> = {}): Manifest =>
    manifestOfForeign(id, {
      key: 'old/shop.sql',
      bytes: 10,
      modifiedAt: '2026-11-21T03:14:00.000Z',
      tag: 't',
      sha256: 'a'.repeat(64),
      contentBytes: 10,
      engine: 'postgresql',
      format,
      wrapping: null,
      facts: {},
      ...more,
    })
  const loadOf = (manifest: Manifest, noOwner = false) =>
    logical
      .planRestore(settings, target('copy', noOwner), manifest, facts)
      .steps.find(step => step.id === 'load')?.run.stages

  test('nothing is made up of what is not known', () => {
    const plan = logical.planRestore(settings, target('copy', false), foreign('pgdump-custom'), facts)
    const sql = commandsOf(plan)
      .map(command => command.input ?? '')
      .join('')
    assert.doesNotMatch(sql, /OWNER TO|ENCODING|LC_COLLATE|TABLESPACE/)
    assert.match(sql, /TEMPLATE template0;/)
  })
  test('plain SQL: psql refuses its own commands from the beginning', () => {
    const [sed, psql, ...more] = loadOf(foreign('pgdump-plain')) ?? []
    assert.deepEqual(more, [])
    assert.deepEqual(sed?.argv, ['sed', '-e', '/\\\\unrestrict/Q3'])
    const restrict = psql?.argv.findIndex(word => /^\\restrict [A-Za-z0-9]+$/.test(word)) ?? -1
    assert.ok(restrict > 0)
    assert.equal(psql?.argv[restrict - 1], '-c')
    assert.deepEqual(psql?.argv.slice(restrict + 1), ['-f', '-'])
    assert.ok(psql?.argv.includes('--single-transaction'))
  })
  test("plain SQL: the dump's own restriction is taken out, and no other line", () => {
    const key = 'k7'.repeat(10)
    const [sed] = loadOf(foreign('pgdump-plain', { facts: { restrictKey: key } })) ?? []
    assert.deepEqual(sed?.argv, [
      'sed',
      '-e',
      `/^\\\\restrict ${key}$/d`,
      '-e',
      `/^\\\\unrestrict ${key}$/d`,
      '-e',
      '/\\\\unrestrict/Q3',
    ])
    assert.throws(() => loadOf(foreign('pgdump-plain', { facts: { restrictKey: 'a/d;e' } })), HoldfastError)
    assert.throws(() => loadOf(foreign('pgdump-plain'), true), /owners/)
  })
  test('plain SQL that goes to databases of its own choice is refused, with what to do', () => {
    for (const [makes, said] of [
      ['cluster', /pg_dumpall/],
      ['database', /--create/],
    ] as const) {
      assert.throws(
        () => loadOf(foreign('pgdump-plain', { facts: { makes } })),
        (error: unknown) =>
          error instanceof HoldfastError &&
          error.code === 'restore.mismatch' &&
          said.test(error.message) &&
          /server of its own/.test(error.hint),
      )
    }
  })
  test('what cannot be unpacked on the way is refused', () => {
    assert.throws(() => loadOf(foreign('pgdump-custom', { wrapping: 'xz' })), /pgdump-custom\+xz/)
  })
})

test('SQLite: backups run what the docs say', () => {
  // Guards against a plan that would read the user's own start-up file or create what is missing.
  const facts = {
    facts: {
      path: '/x/a b.db',
      pageSize: 1,
      pageCount: 1,
      freePages: 0,
      journalMode: 'wal',
      encoding: 'UTF-8',
      autoVacuum: 0,
      userVersion: 0,
      applicationId: 0,
      tables: 0,
      indexes: 0,
      views: 0,
      triggers: 0,
      virtualTables: 0,
      schemaDigest: '',
      mode: '644',
    },
    identity: '',
    version: '',
    database: '',
    sizeBytes: 0,
    tools: [],
  }
  const request = { connection: 'c', type: 'full' as const, toolFormat: 'copy', jobs: 1 }
  const copy = physical.planBackup({ path: '/x/a b.db' }, request, facts)
  assert.deepEqual(copy.steps[0]?.run, {
    stages: [
      {
        argv: [
          'sqlite3',
          '-init',
          '/dev/null',
          '-batch',
          '-bail',
          '-readonly',
          '-cmd',
          '.timeout 30000',
          '/x/a b.db',
        ],
      },
    ],
    input: 'BEGIN;\nSELECT count(*) FROM sqlite_schema;\n.backup database.sqlite\nROLLBACK;\n',
  })
  assert.deepEqual(copy.artifacts, [
    { name: 'a_b.db', format: 'sqlite-file', from: { file: 'database.sqlite' }, header: 'SQLite format 3' },
  ])
  const dump = sqliteDump.planBackup({ path: '/x/a b.db' }, request, facts)
  assert.deepEqual(dump.steps[0]?.run.stages[0].argv, [
    'sqlite3',
    '-init',
    '/dev/null',
    '-batch',
    '-bail',
    '-readonly',
    '-safe',
    '-cmd',
    '.timeout 30000',
    '/x/a b.db',
  ])
  assert.equal(dump.artifacts[0]?.trailer, 'COMMIT;')
})

describe('what failures mean', () => {
  const result = (stderrTail: string, exit = 1): CommandResult => ({ exits: [exit], stdout: '', stderrTail })
  const cases: [string, string | undefined, CommandResult, ('staging' | 'target')?][] = [
    [
      'postgresql',
      'database.unreachable',
      result('connection to server at "h" failed: FATAL:  the database system is starting up'),
    ],
    [
      'postgresql',
      'database.unreachable',
      result('psql: error: connection to server at "127.0.0.1", port 1 failed: Connection refused'),
    ],
    [
      'postgresql',
      'database.unreachable',
      result(
        'pg_dump: error: Dumping the contents of table "t" failed: PQgetCopyData() failed.\nserver closed the connection unexpectedly',
      ),
    ],
    [
      'postgresql',
      'database.authentication',
      result('connection to server at "h" failed: FATAL:  password authentication failed for user "u"', 2),
    ],
    [
      'postgresql',
      'host.tool-version',
      result('pg_dump: error: aborting because of server version mismatch'),
    ],
    [
      'postgresql',
      'restore.target-full',
      result(
        'pg_restore: error: could not execute query: ERROR:  could not extend file "base/1/2": No space left on device',
      ),
      'target',
    ],
    [
      'postgresql',
      'staging.full',
      result('pg_dump: error: could not write to output file: No space left on device'),
      'staging',
    ],
    [
      'postgresql',
      'database.full',
      result(
        'pg_dump: error: query failed: ERROR:  could not write to file "base/pgsql_tmp": No space left on device',
      ),
      'staging',
    ],
    [
      'postgresql',
      'staging.quota',
      result('pg_dump: error: could not write to output file: Disk quota exceeded'),
      'staging',
    ],
    [
      'postgresql',
      'staging.read-only',
      result('pg_dump: error: could not create directory "d": Read-only file system'),
      'staging',
    ],
    ['postgresql', 'staging.permission', result('tar: ./toc.dat: Cannot open: Permission denied'), 'staging'],
    [
      'postgresql',
      'database.privilege',
      result('pg_dump: error: query failed: ERROR:  permission denied for table secrets'),
      'staging',
    ],
    [
      'postgresql',
      'restore.target-quota',
      result(
        'pg_restore: error: could not execute query: ERROR:  could not extend file "base/1/2": Disk quota exceeded',
      ),
      'target',
    ],
    ['sqlite', 'restore.target-quota', result("dd: error writing 'x': Disk quota exceeded"), 'target'],
    ['sqlite', 'restore.target-read-only', result("dd: failed to open 'x': Read-only file system"), 'target'],
    [
      'sqlite',
      'restore.target-permission',
      result("install: cannot create regular file 'x': Operation not permitted"),
      'target',
    ],
    ['sqlite', 'restore.mismatch', result("ln: failed to create 'x': Operation not permitted"), 'target'],
    [
      'postgresql',
      'restore.target-permission',
      result('ERROR:  could not create directory "base/1": Permission denied'),
      'target',
    ],
    [
      'postgresql',
      'database.unreachable',
      result('psql: error: connection to server on socket "/x" failed: Permission denied'),
      'target',
    ],
    [
      'postgresql',
      undefined,
      result('pg_dump: error: query failed: ERROR:  could not write file "x": Read-only file system'),
      'staging',
    ],
    [
      'postgresql',
      'database.full',
      result('pg_dump: error: query failed: ERROR:  could not write to file "x": No space left on device'),
    ],
    ['postgresql', 'host.tool-missing', result('holdfast: line 1: pg_dump: not found', 127)],
    ['postgresql', 'tool.interrupted', result('', 137)],
    ['postgresql', undefined, result('something never seen')],
    ['sqlite', 'database.busy', result('Error: near line 1: database is locked')],
    ['sqlite', 'database.corrupted', result('Error: database disk image is malformed')],
    ['sqlite', 'staging.full', result('Error: database or disk is full'), 'staging'],
    ['sqlite', 'restore.target-full', result("dd: error writing 'x': No space left on device"), 'target'],
    ['sqlite', 'restore.target-exists', result("ln: failed to create hard link 'x': File exists")],
    ['sqlite', 'host.tool-missing', result('sh: 1: exec: sqlite3: not found', 127)],
  ]
  for (const [engine, code, failed, writesTo] of cases) {
    test(`${engine}: ${failed.stderrTail.slice(-60) || failed.exits} → ${code}`, () => {
      const step = { title: 'the step', ...(writesTo ? { writesTo } : {}) }
      const error = engineOf(engine).explain(failed, step)
      assert.equal(error?.code, code)
      if (error) assert.match(error.message, /^the step: /)
    })
  }
  test('a missing program says how to get it', () => {
    const error = sqlite.explain(result('sqlite3: not found', 127), { title: 'x' })
    assert.match(error?.hint ?? '', /apt install sqlite3/)
  })
  test('secrets in the last words are left out', () => {
    const said =
      "connection to postgres://u:canary@h/db failed; password=canary host=h; password = 'canary \\' x'"
    const error = postgresql.explain(result(`${said}\nConnection refused`), { title: 'x' })
    assert.doesNotMatch(JSON.stringify(error?.facts()), /canary/)
  })
})
