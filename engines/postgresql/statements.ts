/** The SQL of a restore beside. All names come in quoted by `identifier` and `literal`. */
import { HoldfastError } from '../../model/errors.ts'
import { identifier, literal } from './client.ts'
import type { PostgresqlFacts, TargetServerFacts } from './facts.ts'

export interface RestoreNames {
  temporary: string
  final: string
  /** The comment of the temporary database: with the token in it, it says whose it is. */
  mark: string
}

export const markOf = (token: string): string => `holdfast restore ${token}`

const comment = "shobj_description(oid, 'pg_database')"

/** Drops the temporary database if it is ours: our random name, and our mark or (killed right after CREATE) none yet. */
export function clearSql(names: RestoreNames, versionNum: number): string {
  const ours = `datname = ${literal(names.temporary)} AND coalesce(${comment}, ${literal(names.mark)}) = ${literal(names.mark)}`
  // FORCE ends the sessions of a load that a killed worker left; before 13 they are ended first.
  const force = versionNum >= 130000
  const end = `SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_database d ON d.oid = a.datid WHERE ${ours.replace('datname', 'd.datname').replace('(oid', '(d.oid')};\n`
  return `SET search_path = pg_catalog;
${force ? '' : end}SELECT format('DROP DATABASE %I${force ? ' WITH (FORCE)' : ''}', datname) FROM pg_database WHERE ${ours} \\gexec
`
}

/** An empty database, marked, closed to others. */
export function createSql(
  names: RestoreNames,
  facts: PostgresqlFacts,
  server: TargetServerFacts,
  tablespace: string,
): string {
  const database = identifier(names.temporary)
  return `${clearSql(names, server.versionNum)}CREATE DATABASE ${database} TEMPLATE template0${localeClause(facts, server)}${tablespaceClause(tablespace, server)};
COMMENT ON DATABASE ${database} IS ${literal(names.mark)};
REVOKE ALL ON DATABASE ${database} FROM PUBLIC;
`
}

/**
 * The whole finish, tried and rolled back: what would fail there (a missing role, a setting the server refuses, a name that
 * is taken) fails before the data is loaded.
 */
export const tryRenameSql = (names: RestoreNames, facts: PostgresqlFacts, noOwner: boolean): string =>
  `BEGIN;\n${finishStatements(names, facts, noOwner)}ROLLBACK;\n`

function localeClause(facts: PostgresqlFacts, server: TargetServerFacts): string {
  const { encoding, collate, ctype, localeProvider, locale, icuRules } = facts.database
  if (encoding === '') return ''
  const base = ` ENCODING ${literal(encoding)} LC_COLLATE ${literal(collate)} LC_CTYPE ${literal(ctype)}`
  if (server.versionNum < 150000) {
    if (localeProvider === 'c') return base
    throw new HoldfastError(
      'restore.mismatch',
      `The database uses an ICU or built-in locale; the target is PostgreSQL ${server.version}, which knows them from 15 and 17 on.`,
    )
  }
  if (localeProvider === 'c') return `${base} LOCALE_PROVIDER libc`
  if (localeProvider === 'i') {
    const rules = icuRules === null ? '' : ` ICU_RULES ${literal(icuRules)}`
    return `${base} LOCALE_PROVIDER icu ICU_LOCALE ${literal(locale ?? '')}${rules}`
  }
  return `${base} LOCALE_PROVIDER builtin BUILTIN_LOCALE ${literal(locale ?? 'C')}`
}

function tablespaceClause(tablespace: string, server: TargetServerFacts): string {
  if (tablespace === 'pg_default' || !server.tablespaces.includes(tablespace)) return ''
  return ` TABLESPACE ${identifier(tablespace)}`
}

/** Owner, grants, settings and the final name, in one transaction of which the rename is the last act. */
export const renameSql = (names: RestoreNames, facts: PostgresqlFacts, noOwner: boolean): string =>
  `SET search_path = pg_catalog;\nBEGIN;\n${finishStatements(names, facts, noOwner)}COMMIT;\n`

function finishStatements(names: RestoreNames, facts: PostgresqlFacts, noOwner: boolean): string {
  const database = identifier(names.temporary)
  const { owner, connectionLimit, isTemplate, settings } = facts.database
  const statements = [
    ...(noOwner || owner === '' ? [] : [`ALTER DATABASE ${database} OWNER TO ${identifier(owner)}`]),
    ...grants(database, facts, noOwner),
    ...settings
      .filter(setting => setting.role === null || !noOwner)
      .map(setting => {
        const who =
          setting.role === null
            ? `ALTER DATABASE ${database}`
            : `ALTER ROLE ${identifier(setting.role)} IN DATABASE ${database}`
        return `${who} SET ${settingName(setting.name)} TO ${settingValue(setting.name, setting.value)}`
      }),
    ...(connectionLimit === -1 ? [] : [`ALTER DATABASE ${database} CONNECTION LIMIT ${connectionLimit}`]),
    ...(isTemplate ? [`ALTER DATABASE ${database} IS_TEMPLATE true`] : []),
    `ALTER DATABASE ${database} RENAME TO ${identifier(names.final)}`,
  ]
  return statements.map(statement => `${statement};\n`).join('')
}

function grants(database: string, facts: PostgresqlFacts, noOwner: boolean): string[] {
  const { acl, owner } = facts.database
  if (acl === null || noOwner) return [`GRANT CONNECT, TEMPORARY ON DATABASE ${database} TO PUBLIC`]
  return [
    `REVOKE ALL ON DATABASE ${database} FROM PUBLIC, ${identifier(owner)}`,
    ...acl.map(({ grantee, privilege, grantable }) => {
      if (!['CREATE', 'CONNECT', 'TEMPORARY'].includes(privilege)) {
        throw new HoldfastError(
          'manifest.invalid',
          `The backup names an unknown privilege "${privilege}" on its database.`,
        )
      }
      const to = grantee === null ? 'PUBLIC' : identifier(grantee)
      return `GRANT ${privilege} ON DATABASE ${database} TO ${to}${grantable ? ' WITH GRANT OPTION' : ''}`
    }),
  ]
}

/** Custom settings have dots, each part an identifier of its own. */
const settingName = (name: string): string => name.split('.').map(identifier).join('.')

/** Lists of quoted names are kept as they were written: given as one string they would become one name (as pg_dump knows). */
export const listSettings = [
  'local_preload_libraries',
  'search_path',
  'session_preload_libraries',
  'shared_preload_libraries',
  'temp_tablespaces',
]

function settingValue(name: string, value: string): string {
  if (!listSettings.includes(name.toLowerCase())) return literal(value)
  const parts = Array.from(value.matchAll(/\s*(?:"((?:[^"]|"")*)"|([^,"]*))\s*(?:,|$)/g))
    .filter(part => part[0] !== '')
    .map(part => part[1]?.replaceAll('""', '"') ?? part[2]?.trim() ?? '')
  return parts.length === 0 ? "''" : parts.map(literal).join(', ')
}

/** Fails (division by zero) unless the final name is there and carries our mark. */
export const doneSql = (names: RestoreNames): string => `SET search_path = pg_catalog;
SELECT 1 / count(*) FROM pg_database WHERE datname = ${literal(names.final)} AND ${comment} = ${literal(names.mark)};
`

/** Only while our mark is there: run again later it changes nothing. */
export function originalCommentSql(names: RestoreNames, facts: PostgresqlFacts): string {
  const original = facts.database.comment === null ? 'NULL' : literal(facts.database.comment)
  return `SET search_path = pg_catalog;
SELECT format('COMMENT ON DATABASE %I IS %L', datname, ${original}::text) FROM pg_database WHERE datname = ${literal(names.final)} AND ${comment} = ${literal(names.mark)} \\gexec
`
}
