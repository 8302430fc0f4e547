/** What a server has set of archiving, who archives, and whether this role may change it. */
import { z } from 'zod'
import { archivers } from '../../../model/archiving.ts'
import type { ArchivingState, Probe } from '../../engine.ts'
import { answer } from '../answer.ts'
import { psql } from '../client.ts'
import type { PostgresqlConnection } from '../connection.ts'

/** In the order in which they may be set: a server with archive_mode and wal_level = minimal does not start. */
export const settingNames = [
  'wal_level',
  'archive_command',
  'archive_library',
  'archive_timeout',
  'max_wal_senders',
  'max_replication_slots',
  'archive_mode',
] as const
export type SettingName = (typeof settingNames)[number]

const setting = z.object({
  /** null: a command of somebody else's, which may hold a secret and stays on the server. */
  value: z.string().nullable(),
  /** `pg_settings.source`. */
  source: z.string(),
  /** In postgresql.auto.conf; null: the role may not know. */
  byAlterSystem: z.boolean().nullable(),
  mayAlter: z.boolean(),
})

export const enableFacts = z.object({
  systemIdentifier: z.string(),
  inRecovery: z.boolean(),
  by: z.enum(archivers),
  settings: z.partialRecord(z.enum(settingNames), setting),
  mayReload: z.boolean(),
  maySwitch: z.boolean(),
  /** PostgreSQL 17 can be told to refuse it. */
  alterSystem: z.boolean(),
  standbys: z.int(),
  /** Slots that there are, used or not. */
  slots: z.int(),
})
export type EnableFacts = z.infer<typeof enableFacts>

/** Of ours everything but the paths is known; nothing in it is a secret. */
const ours = '^[^ ]+ wal push( --config [^ ]+)? %p$'

const names = settingNames.map(name => `'${name}'`).join(', ')

/** Who archives, by the text of the command or the name of the library. */
export const archiverSql = (program: string): string =>
  `CASE WHEN ${program} ~ 'pgbackrest' THEN 'pgbackrest' WHEN ${program} ~ 'wal-[ge]\\M' THEN 'wal-g' WHEN ${program} ~ 'barman' THEN 'barman'
    WHEN ${program} ~ 'holdfast\\S* +wal +push' THEN 'holdfast' WHEN ${program} = '' THEN 'nobody' ELSE 'other' END`

/**
 * One line of JSON. While archive_mode is off the server says "(disabled)" for the command, whatever it is; then the files
 * are asked, where the role may.
 */
export const stateSql = `SET search_path = pg_catalog;
SELECT CASE WHEN current_setting('server_version_num')::int >= 150000 THEN 'has_parameter_privilege(name, ''ALTER SYSTEM'')'
    ELSE '(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)' END AS may,
  CASE WHEN has_function_privilege('pg_show_all_file_settings()', 'EXECUTE')
    THEN 'coalesce((SELECT f.setting FROM pg_file_settings f WHERE f.name = s.name AND f.applied ORDER BY seqno DESC LIMIT 1), '''')'
    ELSE 'CASE s.source WHEN ''default'' THEN '''' ELSE ''unknown'' END' END AS filed \\gset
WITH told AS (
  SELECT s.name, s.source, s.sourcefile, :may AS may_alter,
    CASE WHEN s.setting = '(disabled)' THEN :filed ELSE s.setting END AS value
  FROM pg_settings s WHERE s.name IN (${names})
), archiver AS (SELECT coalesce(string_agg(value, '' ORDER BY name), '') AS program FROM told WHERE name IN ('archive_command', 'archive_library'))
SELECT json_build_object(
  'systemIdentifier', (SELECT system_identifier::text FROM pg_control_system()),
  'inRecovery', pg_is_in_recovery(),
  'by', ${archiverSql('program')},
  'settings', (SELECT json_object_agg(name, json_build_object(
      'value', CASE WHEN name NOT IN ('archive_command', 'archive_library') OR value = '' OR value ~ '${ours}' THEN value END,
      'source', source,
      'byAlterSystem', CASE WHEN source <> 'configuration file' THEN false ELSE sourcefile LIKE '%/postgresql.auto.conf' END,
      'mayAlter', may_alter)) FROM told),
  'mayReload', has_function_privilege('pg_reload_conf()', 'EXECUTE'),
  'maySwitch', has_function_privilege('pg_switch_wal()', 'EXECUTE'),
  'alterSystem', coalesce((SELECT setting = 'on' FROM pg_settings WHERE name = 'allow_alter_system'), true),
  'standbys', (SELECT count(*)::int FROM pg_stat_replication),
  'slots', (SELECT count(*)::int FROM pg_replication_slots)
) FROM archiver;
`

export function archivingState(connection: string, settings: PostgresqlConnection): Probe<ArchivingState> {
  const doing = `asking ${connection} how it archives`
  return {
    commands: { state: psql(connection, settings, settings.maintenanceDatabase, stateSql) },
    read({ state }) {
      return enableFacts.parse(answer(state, doing))
    },
  }
}
