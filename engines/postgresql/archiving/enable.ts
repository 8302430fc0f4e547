/** Which settings a server needs to archive by push, and the script that sets them; the one that takes them back. */
import { archiverNames } from '../../../model/archiving.ts'
import { HoldfastError } from '../../../model/errors.ts'
import type { ArchivingPlan, ArchivingRequest, ArchivingState, SettingChange } from '../../engine.ts'
import { literal, psql } from '../client.ts'
import type { PostgresqlConnection } from '../connection.ts'
import { type EnableFacts, enableFacts, type SettingName, settingNames } from './state.ts'

const usualTimeoutSeconds = 60
/** One base backup that streams its log takes two. */
const fewestSenders = 2
const usualSenders = 10
/** The same; those of standbys and of streamed log are taken already. */
const fewestFreeSlots = 1
const usualSlots = 10

const restarts: ReadonlySet<SettingName> = new Set([
  'wal_level',
  'max_wal_senders',
  'max_replication_slots',
  'archive_mode',
])

/** Throws `wal.other-archiver`, `wal.refused`, `database.privilege`. */
export function planArchiving(
  connection: string,
  settings: PostgresqlConnection,
  request: ArchivingRequest,
  state: ArchivingState,
): ArchivingPlan {
  const facts = enableFacts.parse(state)
  if (facts.inRecovery) {
    throw refused(`${connection} is a standby, which takes its settings of archiving from nobody.`, [
      'Name the primary; its standbys archive nothing before they are promoted.',
      'Give them the same archive_command, so that they do then.',
    ])
  }
  const taken = !['holdfast', 'nobody'].includes(facts.by)
  const who = facts.by === 'other' ? 'Another program' : archiverNames[facts.by]
  if (taken && !request.replace) {
    throw new HoldfastError(
      'wal.other-archiver',
      `${who} archives the log of ${connection}, and is left in charge.`,
    )
  }
  const changes = changesOf(connection, request, facts)
  return {
    systemIdentifier: facts.systemIdentifier,
    changes,
    destroys: taken
      ? [
          `${who} gets no log of this server any more: what it can recover ends here, and its backups may fail.`,
        ]
      : [],
    warnings: [
      ...(taken
        ? ['What was archived until now lies elsewhere: a new base backup begins what can be recovered here.']
        : []),
      ...(facts.standbys > 0 && changes.some(({ name }) => name === 'max_wal_senders')
        ? ['Standbys need max_wal_senders at least as large, and before this server: set it there first.']
        : []),
    ],
    set: psql(connection, settings, settings.maintenanceDatabase, setScript(facts, changes)),
    takeBack: psql(connection, settings, settings.maintenanceDatabase, takeBackScript(facts, changes)),
  }
}

function changesOf(connection: string, request: ArchivingRequest, facts: EnableFacts): SettingChange[] {
  const value = (name: SettingName) => facts.settings[name]?.value ?? undefined
  const wanted: Partial<Record<SettingName, string>> = {
    archive_command: commandOf(request),
    ...(value('wal_level') === 'minimal' ? { wal_level: 'replica' } : {}),
    ...(value('archive_mode') === 'off' ? { archive_mode: 'on' } : {}),
    ...(facts.settings.archive_library && value('archive_library') !== '' ? { archive_library: '' } : {}),
    ...timeoutOf(request, Number(value('archive_timeout') ?? 0)),
    ...(Number(value('max_wal_senders') ?? usualSenders) < fewestSenders
      ? { max_wal_senders: String(usualSenders) }
      : {}),
    ...(Number(value('max_replication_slots') ?? usualSlots) < facts.slots + fewestFreeSlots
      ? { max_replication_slots: String(Math.max(usualSlots, facts.slots + fewestFreeSlots)) }
      : {}),
  }
  return settingNames.flatMap(name => {
    const to = wanted[name]
    const now = facts.settings[name]
    if (to === undefined || now === undefined || now.value === to) return []
    if (now.source === 'command line') {
      throw refused(
        `${name} of ${connection} is given on the server's command line, which nothing overrides.`,
        ['Set it where the server is started from (Patroni, a unit file, an operator):', `${name} = ${to}`],
      )
    }
    if (!facts.alterSystem) {
      throw refused(`${connection} refuses ALTER SYSTEM (allow_alter_system is off).`, [
        `Set ${name} = ${to} where its configuration is made.`,
      ])
    }
    if (!now.mayAlter || !facts.mayReload || !facts.maySwitch) throw lacking(connection, name)
    return [{ name, to, restart: restarts.has(name), former: formerOf(connection, name, now) }]
  })
}

/** What takes it back: the line goes, or is as it was. A command of somebody else's is not read, so it is not written over. */
function formerOf(
  connection: string,
  name: SettingName,
  now: NonNullable<EnableFacts['settings'][SettingName]>,
): string | null {
  if (now.byAlterSystem === false) return null
  if (now.value !== null) return now.byAlterSystem ? now.value : null
  throw refused(
    `The ${name} of ${connection} stands in postgresql.auto.conf, where it would be written over, or this role may not know where.`,
    [`Keep it elsewhere, and take it out: ALTER SYSTEM RESET ${name}.`, 'Then ask again.'],
  )
}

const refused = (detail: string, hint: string[]): HoldfastError =>
  new HoldfastError('wal.refused', detail, { hint: hint.join(' ') })

const lacking = (connection: string, name: string): HoldfastError =>
  new HoldfastError('database.privilege', `The role of ${connection} may not set ${name}.`, {
    hint: `Connect as a superuser; or, on PostgreSQL 15 and newer: GRANT ALTER SYSTEM ON PARAMETER ${settingNames.join(', ')} TO …, and EXECUTE on pg_reload_conf() and pg_switch_wal().`,
  })

/** Words without a blank or a quote, as the request has them. */
const commandOf = ({ program, config }: ArchivingRequest): string =>
  [program, 'wal', 'push', ...(config === null ? [] : ['--config', config]), '%p'].join(' ')

function timeoutOf({ timeoutSeconds }: ArchivingRequest, now: number): { archive_timeout?: string } {
  if (timeoutSeconds !== null) return { archive_timeout: String(timeoutSeconds) }
  return now === 0 ? { archive_timeout: String(usualTimeoutSeconds) } : {}
}

const assignment = (name: string, value: string | null): string =>
  value === null ? `ALTER SYSTEM RESET ${name};` : `ALTER SYSTEM SET ${name} = ${literal(value)};`

/** Each statement for itself: ALTER SYSTEM takes no transaction. Run again it sets the same. */
function setScript({ systemIdentifier, by }: EnableFacts, changes: readonly SettingChange[]): string {
  const other = ['holdfast', 'nobody'].includes(by) ? '' : by
  return `SET search_path = pg_catalog;
DO $holdfast$ BEGIN
  IF (SELECT system_identifier::text FROM pg_control_system()) <> ${literal(systemIdentifier)} THEN
    RAISE EXCEPTION 'holdfast database.changed: it is server % now', (SELECT system_identifier FROM pg_control_system());
  END IF;
  IF pg_is_in_recovery() THEN RAISE EXCEPTION 'holdfast database.changed: it is a standby now'; END IF;
  IF (SELECT string_agg(setting, '') FROM pg_settings WHERE name IN ('archive_command', 'archive_library')) ~ ${literal(strangers(other))} THEN
    RAISE EXCEPTION 'holdfast wal.other-archiver: another archiver was set meanwhile';
  END IF;
END $holdfast$;
${changes.map(({ name, to }) => assignment(name, to)).join('\n')}
SELECT FROM pg_reload_conf();
`
}

/** All that the plan does not know of. */
const strangers = (known: string): string => {
  const names = { pgbackrest: 'pgbackrest', 'wal-g': 'wal-[ge]\\M', barman: 'barman' }
  const others = Object.entries(names).flatMap(([name, pattern]) => (name === known ? [] : [pattern]))
  return others.join('|')
}

/**
 * The last that was set first, and only what is still as it was set. Prints what has taken effect and goes with the next
 * restart only.
 */
function takeBackScript({ systemIdentifier }: EnableFacts, changes: readonly SettingChange[]): string {
  const each = changes
    .toReversed()
    .map(
      ({ name, to, former }) => `SELECT EXISTS (SELECT FROM pg_settings WHERE name = ${literal(name)}
  AND (setting IN (${literal(to)}, '(disabled)') OR pending_restart)) AS ours \\gset
\\if :ours
${assignment(name, former)}
\\endif`,
    )
    .join('\n')
  const late = changes.filter(({ restart }) => restart)
  const left = late.map(({ name, to }) => `(${literal(name)}, ${literal(to)})`).join(', ')
  return `SET search_path = pg_catalog;
SELECT (SELECT system_identifier::text FROM pg_control_system()) = ${literal(systemIdentifier)} AND NOT pg_is_in_recovery() AS same \\gset
\\if :same
${each}
SELECT FROM pg_reload_conf();
\\endif
SELECT json_build_object('left', ${
    late.length === 0
      ? "'[]'::json"
      : `(SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE (name, setting) IN (${left}))`
  });
`
}
