/**
 * What a server says of archiving its log, and what a DBA should hear of it before the disk is full. Asked with a role's own rights:
 * how far archiving is behind is told by the last file that was archived and the one that is written.
 */
import {
  type ArchivingFacts,
  archiverNames,
  archivingFacts,
  usualBacklog,
  waitingSegments,
} from '../../../model/archiving.ts'
import type { CheckResult } from '../../../model/types.ts'
import type { CommandResult, Probe } from '../../engine.ts'
import { answer } from '../answer.ts'
import { archiverSql } from '../archiving/state.ts'
import { psql } from '../client.ts'
import { isHere, type PostgresqlConnection } from '../connection.ts'

const setting = (name: string) => `(SELECT setting FROM pg_settings WHERE name = '${name}')`

/** One line of JSON. */
export const archivingSql = `SET search_path = pg_catalog;
SELECT CASE WHEN has_function_privilege('pg_ls_waldir()', 'EXECUTE')
  THEN '(SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir())' ELSE 'NULL' END AS kept \\gset
SELECT json_build_object(
  'mode', current_setting('archive_mode'),
  'by', CASE WHEN program = '(disabled)' THEN 'nobody' ELSE ${archiverSql('program')} END,
  'timeoutSeconds', coalesce(${setting('archive_timeout')}::int, 0),
  'pendingRestart', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings
      WHERE pending_restart AND name IN ('archive_mode', 'wal_level', 'max_wal_senders', 'max_replication_slots')),
  'segmentBytes', ${setting('wal_segment_size')}::int,
  'current', CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END,
  'lastArchived', last_archived_wal,
  'failingSeconds', CASE WHEN last_failed_time > coalesce(last_archived_time, '-infinity')
      THEN greatest(0, extract(epoch FROM now() - coalesce(last_archived_time, last_failed_time)))::int END,
  'failed', failed_count,
  'walBytes', :kept,
  'maxWalBytes', ${setting('max_wal_size')}::bigint << 20,
  'dataDirectory', ${setting('data_directory')}
) FROM pg_stat_archiver, (SELECT coalesce(${setting('archive_command')}, '') || coalesce(${setting('archive_library')}, '') AS program) AS told;
`

export const archivingNow = (connection: string, settings: PostgresqlConnection): Probe<ArchivingFacts> => ({
  commands: { archiving: psql(connection, settings, settings.maintenanceDatabase, archivingSql) },
  read: ({ archiving }) => readArchiving(settings, archiving, `asking ${connection} how it archives`),
})

export function readArchiving(
  settings: PostgresqlConnection,
  said: CommandResult | undefined,
  doing: string,
): ArchivingFacts {
  const facts = archivingFacts.parse(answer(said, doing))
  return isHere(settings) ? facts : { ...facts, dataDirectory: null }
}

const enable =
  '`holdfast pitr enable` sets what it needs; archive_mode and wal_level need a restart of the server.'
export function archivingChecks(facts: ArchivingFacts): CheckResult[] {
  const base = { id: 'postgresql.archiving', title: 'The log is archived' }
  const warn = (detail: string, hint: string): CheckResult[] => [{ ...base, answer: 'warn', detail, hint }]
  if (facts.mode === 'off') {
    if (facts.pendingRestart.includes('archive_mode')) {
      return warn('archive_mode was set and waits for a restart of the server.', 'Restart it when it suits.')
    }
    return warn('WAL archiving is off: only the moment of a backup can be recovered.', enable)
  }
  if (facts.by === 'nobody') {
    return warn(
      `archive_mode is ${facts.mode}, and there is no archive_command: pg_wal grows until the disk is full.`,
      "Set archive_command = 'holdfast wal push %p'; a reload is enough.",
    )
  }
  const left = facts.by === 'holdfast' ? '' : ', which is left in charge'
  const timeout =
    facts.timeoutSeconds === 0 ? ' archive_timeout is 0: a quiet server may keep hours to itself.' : ''
  const archived: CheckResult = {
    ...base,
    answer: timeout === '' ? 'pass' : 'warn',
    detail: `By ${archiverNames[facts.by]}${left}.${timeout}`,
    ...(timeout === '' ? {} : { hint: 'Set archive_timeout = 60s; a reload is enough.' }),
  }
  return [archived, ...lag(facts)]
}

function lag(facts: ArchivingFacts): CheckResult[] {
  if (facts.current === null) return []
  const base = { id: 'postgresql.archive-lag', title: 'Archiving keeps up' }
  const waiting = waitingSegments(facts)
  const words =
    waiting === undefined
      ? 'Nothing was archived yet'
      : `${waiting} segments (${Math.round((waiting * facts.segmentBytes) / 2 ** 20)} MB) wait in pg_wal`
  if (facts.failingSeconds !== null) {
    return [
      {
        ...base,
        answer: 'warn',
        detail: `Archiving has failed for ${facts.failingSeconds} s. ${words}, and pg_wal grows until it works again.`,
        hint: 'See the log of the server for what its archive_command said; do not remove anything from pg_wal.',
      },
    ]
  }
  if (waiting !== undefined && waiting > usualBacklog) {
    return [
      {
        ...base,
        answer: 'warn',
        detail: `${words}: the archive is behind.`,
        hint: 'Let `holdfast wal agent` run on the host, and look at what the destination takes per second.',
      },
    ]
  }
  return [{ ...base, answer: 'pass', detail: `${words}.` }]
}
