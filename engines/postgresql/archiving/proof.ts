/** Whether what was set is in effect, and whether a segment of the server arrives. */
import { z } from 'zod'
import type { ArchivedSoFar, Probe, SettingChange } from '../../engine.ts'
import { answer } from '../answer.ts'
import { psql } from '../client.ts'
import type { PostgresqlConnection } from '../connection.ts'

const settingsNow = z.record(z.string(), z.string())

/** Names of those that do not have their value yet. */
export function notInEffect(
  connection: string,
  settings: PostgresqlConnection,
  changes: readonly SettingChange[],
): Probe<string[]> {
  const names = [...changes.map(({ name }) => name), 'archive_mode'].map(name => `'${name}'`).join(', ')
  const sql = `SET search_path = pg_catalog;
SELECT coalesce(json_object_agg(name, setting), '{}') FROM pg_settings WHERE name IN (${names});
`
  return {
    commands: { now: psql(connection, settings, settings.maintenanceDatabase, sql) },
    read({ now }) {
      const values = settingsNow.parse(answer(now, `asking ${connection} what is in effect`))
      // The command is not shown before archiving is on; it is shown then.
      const hidden = (name: string) => values.archive_mode === 'off' && values[name] === '(disabled)'
      return changes.filter(({ name, to }) => values[name] !== to && !hidden(name)).map(({ name }) => name)
    },
  }
}

const soFar = z.object({
  segment: z.string().nullable(),
  lastArchived: z.string().nullable(),
  archived: z.int(),
  failed: z.int(),
  lastFailed: z.string().nullable(),
})

const archiver = `'lastArchived', last_archived_wal, 'archived', archived_count, 'failed', failed_count, 'lastFailed', last_failed_wal`

/** Ends the segment that is written, in which is something by then, and names it. */
export function endSegment(connection: string, settings: PostgresqlConnection): Probe<ArchivedSoFar> {
  const sql = `SET search_path = pg_catalog;
SELECT FROM pg_logical_emit_message(false, 'holdfast', 'this segment is to be archived');
SELECT json_build_object('segment', pg_walfile_name(pg_switch_wal()), ${archiver}) FROM pg_stat_archiver;
`
  return archiverProbe(connection, settings, sql)
}

export function archivedSoFar(connection: string, settings: PostgresqlConnection): Probe<ArchivedSoFar> {
  const sql = `SET search_path = pg_catalog;
SELECT json_build_object('segment', NULL, ${archiver}) FROM pg_stat_archiver;
`
  return archiverProbe(connection, settings, sql)
}

const archiverProbe = (
  connection: string,
  settings: PostgresqlConnection,
  sql: string,
): Probe<ArchivedSoFar> => ({
  commands: { archiver: psql(connection, settings, settings.maintenanceDatabase, sql) },
  read: ({ archiver: said }) => soFar.parse(answer(said, `asking ${connection} what it archived`)),
})

const taken = z.object({ left: z.array(z.string()) })

/** Of the script that takes back: what goes with the next restart only. */
export const leftBy = (said: Parameters<typeof answer>[0], connection: string): string[] =>
  taken.parse(answer(said, `taking back the settings of ${connection}`)).left
