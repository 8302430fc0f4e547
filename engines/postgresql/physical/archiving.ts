/**
 * What a server says of archiving its log, and what a DBA should hear of it before the disk is full. Asked with a role's own rights:
 * how far archiving is behind is told by the last file that was archived and the one that is written.
 */
import { z } from 'zod'
import type { CheckResult } from '../../../model/types.ts'
import { logFileOf, segmentNumber } from '../../../model/wal.ts'

export const archivingFacts = z.object({
  mode: z.string(),
  /** Who archives. The command itself may hold a secret and stays on the server. */
  by: z.enum(['holdfast', 'pgbackrest', 'other', 'nobody']),
  timeoutSeconds: z.int(),
  /** Settings that were changed and wait for a restart. */
  pendingRestart: z.array(z.string()),
  segmentBytes: z.int(),
  /** The segment that is written; null on a standby. */
  current: z.string().nullable(),
  lastArchived: z.string().nullable(),
  /** Since nothing was archived, if the last try failed. */
  failingSeconds: z.int().nullable(),
})
export type ArchivingFacts = z.infer<typeof archivingFacts>

const setting = (name: string) => `(SELECT setting FROM pg_settings WHERE name = '${name}')`

/** One line of JSON. */
export const archivingSql = `SET search_path = pg_catalog;
SELECT json_build_object(
  'mode', current_setting('archive_mode'),
  'by', CASE WHEN program ~ 'pgbackrest' THEN 'pgbackrest' WHEN program ~ 'holdfast\\S* +wal +push' THEN 'holdfast'
      WHEN program IN ('', '(disabled)') THEN 'nobody' ELSE 'other' END,
  'timeoutSeconds', coalesce(${setting('archive_timeout')}::int, 0),
  'pendingRestart', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings
      WHERE pending_restart AND name IN ('archive_mode', 'wal_level', 'max_wal_senders', 'max_replication_slots')),
  'segmentBytes', ${setting('wal_segment_size')}::int,
  'current', CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END,
  'lastArchived', last_archived_wal,
  'failingSeconds', CASE WHEN last_failed_time > coalesce(last_archived_time, '-infinity')
      THEN greatest(0, extract(epoch FROM now() - coalesce(last_archived_time, last_failed_time)))::int END
) FROM pg_stat_archiver, (SELECT coalesce(${setting('archive_command')}, '') || coalesce(${setting('archive_library')}, '') AS program) AS told;
`

const enable = 'docs/log-archiving.md says how; archive_mode and wal_level need a restart of the server.'
/** Segments that wait without anybody being told: a burst of writing is no trouble. */
const usualBacklog = 16

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
  const who = {
    holdfast: 'By Holdfast',
    pgbackrest: 'By pgBackRest, which is left in charge',
    other: 'By another program',
  }
  const timeout =
    facts.timeoutSeconds === 0 ? ' archive_timeout is 0: a quiet server may keep hours to itself.' : ''
  const archived: CheckResult = {
    ...base,
    answer: timeout === '' ? 'pass' : 'warn',
    detail: `${who[facts.by]}.${timeout}`,
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

/** Finished and not archived; undefined: nobody can say. */
function waitingSegments({ current, lastArchived, segmentBytes }: ArchivingFacts): number | undefined {
  const last = lastArchived === null ? undefined : logFileOf(lastArchived)
  if (current === null || last === undefined || last.kind === 'history') return undefined
  const now = segmentNumber(current, segmentBytes)
  const then = segmentNumber(last.segment, segmentBytes)
  return now === undefined || then === undefined ? undefined : Math.max(0, Number(now - then) - 1)
}
