/** Backups of PostgreSQL by pg_dump, and whether they would work. */
import type { CheckResult } from '../../model/types.ts'
import type { BackupPlan, BackupRequest, ServerFacts } from '../engine.ts'
import { safeFileName } from '../names.ts'
import { piped, tool } from './client.ts'
import type { PostgresqlConnection } from './connection.ts'
import { postgresqlFacts } from './facts.ts'
import { majorOf } from './probe.ts'

/** A dump that waits longer than this for a table's lock would make everybody after it wait, too. */
const lockWait = '--lock-wait-timeout=60000'

export function planBackup(
  settings: PostgresqlConnection,
  request: BackupRequest,
  facts: ServerFacts,
): BackupPlan {
  const name = `${safeFileName(facts.database)}.dump`
  // Holdfast compresses, faster and in parallel.
  const argv = (...format: string[]): [string, ...string[]] => ['pg_dump', ...format, '-Z0', '-w', lockWait]
  const dump = (...format: string[]) => ({
    stages: [tool(request.connection, settings, facts.database, argv(...format))] as const,
  })
  if (request.toolFormat === 'directory') {
    const jobs = String(Math.max(1, request.jobs))
    return {
      steps: [
        {
          id: 'dump',
          title: `pg_dump, directory format, ${jobs} jobs`,
          run: dump('-Fd', '-j', jobs, '-f', 'dump'),
          output: { to: 'none' },
          resume: 'attach',
          writesTo: 'staging',
        },
      ],
      artifacts: [{ name: `${name}.tar`, format: 'pgdump-directory-tar', from: { directory: 'dump' } }],
    }
  }
  return {
    steps: [
      {
        id: 'dump',
        title: 'pg_dump, custom format',
        run: piped(dump('-Fc')),
        output: { to: 'artifact', artifact: name },
        resume: 'restart',
      },
    ],
    artifacts: [{ name, format: 'pgdump-custom', from: { step: 'dump' }, header: 'PGDMP' }],
  }
}

export function checks(
  _settings: PostgresqlConnection,
  _request: BackupRequest,
  facts: ServerFacts,
): CheckResult[] {
  const { server, database } = postgresqlFacts.parse(facts.facts)
  return [
    dumpVersion(facts),
    privileges(server.user, database.unreadable, database.rowSecurity),
    locks(server, database.lockableObjects),
    ...(server.inRecovery
      ? [
          {
            id: 'postgresql.standby',
            title: 'Primary or standby',
            answer: 'warn' as const,
            detail: `This server is a standby${lag(server.replayedSecondsAgo)}: replaying a conflicting change may cancel the dump.`,
            hint: 'Raise max_standby_streaming_delay or set hot_standby_feedback on the standby.',
          },
        ]
      : []),
    ...(database.subscriptions > 0
      ? [
          {
            id: 'postgresql.subscriptions',
            title: 'Logical replication',
            answer: 'warn' as const,
            detail: `${database.subscriptions} subscriptions are in the dump; a restore leaves them out, so that a copy does not replicate.`,
          },
        ]
      : []),
  ]
}

const lag = (seconds: number | null) =>
  seconds === null ? '' : `, and what it replayed last was committed ${seconds} s ago`

function dumpVersion(facts: ServerFacts): CheckResult {
  const base = { id: 'postgresql.tool-version', title: 'pg_dump fits the server' }
  const version = facts.tools.find(one => one.name === 'pg_dump')?.version
  if (version === undefined) {
    return {
      ...base,
      answer: 'fail',
      code: 'host.tool-missing',
      detail: 'pg_dump is not installed on this host.',
    }
  }
  if (majorOf(version) < majorOf(facts.version)) {
    return {
      ...base,
      answer: 'fail',
      code: 'host.tool-version',
      detail: `pg_dump ${version} is older than the server (${facts.version}) and would refuse it.`,
      hint: `Install the client tools of PostgreSQL ${majorOf(facts.version)} or newer.`,
    }
  }
  return { ...base, answer: 'pass', detail: `pg_dump ${version}, server ${facts.version}` }
}

interface Listed {
  total: number
  names: string[]
}

function privileges(user: string, unreadable: Listed, rowSecurity: Listed): CheckResult {
  const base = { id: 'postgresql.privileges', title: 'Everything may be read' }
  const shown = (list: Listed) =>
    `${list.names.join(', ')}${list.total > list.names.length ? ` and ${list.total - list.names.length} more` : ''}`
  if (unreadable.total > 0) {
    return {
      ...base,
      answer: 'fail',
      code: 'database.privilege',
      detail: `User "${user}" may not read ${shown(unreadable)}.`,
      hint: `GRANT pg_read_all_data TO the user (PostgreSQL 14 and newer), or SELECT and USAGE on what is named.`,
    }
  }
  if (rowSecurity.total > 0) {
    return {
      ...base,
      answer: 'fail',
      code: 'database.privilege',
      detail: `Row security hides rows of ${shown(rowSecurity)} from user "${user}"; pg_dump refuses such tables.`,
      hint: 'ALTER ROLE … BYPASSRLS for the user of the connection.',
    }
  }
  return { ...base, answer: 'pass', detail: `User "${user}" may read every table and sequence.` }
}

/** pg_dump locks every table at once, in one transaction. */
function locks(
  server: { maxLocksPerTransaction: number; maxConnections: number; maxPreparedTransactions: number },
  objects: number,
): CheckResult {
  const base = { id: 'postgresql.locks', title: 'Room in the lock table' }
  const sessions = server.maxConnections + server.maxPreparedTransactions
  const room = server.maxLocksPerTransaction * sessions
  if (objects <= room / 2)
    return { ...base, answer: 'pass', detail: `${objects} objects, room for ${room} locks.` }
  const setting = Math.ceil((objects * 2) / sessions)
  return {
    ...base,
    answer: objects > room ? 'fail' : 'warn',
    code: 'database.privilege',
    detail: `The dump locks ${objects} objects at once; the lock table has room for about ${room}, shared with every session.`,
    hint: `Set max_locks_per_transaction = ${setting} and restart the server.`,
  }
}
