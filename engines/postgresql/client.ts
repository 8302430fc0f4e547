/** How PostgreSQL's client tools are called: by environment, never prompting, no file of the user's read. */
import type { Command, Stage, Tool } from '../engine.ts'
import type { PostgresqlConnection } from './connection.ts'

/**
 * libpq reads a database name that looks like a connection string as one only when it is an argument; from PGDATABASE
 * it is taken as it is.
 */
function environment(settings: PostgresqlConnection, database: string): Record<string, string> {
  return {
    PGHOST: settings.host,
    // Inherited values would redirect the connection or change the session.
    PGHOSTADDR: '',
    PGOPTIONS: '',
    PGPORT: String(settings.port),
    PGUSER: settings.user,
    PGDATABASE: database,
    PGAPPNAME: 'holdfast',
    PGCONNECT_TIMEOUT: '5',
    // A path that cannot exist: the user's ~/.pgpass is not asked, and no warning is printed.
    PGPASSFILE: '/dev/null/none',
    // Messages are read by engines/postgresql/explain.ts.
    LC_ALL: 'C',
    ...(settings.sslmode === undefined ? {} : { PGSSLMODE: settings.sslmode }),
    ...(settings.sslrootcert === undefined ? {} : { PGSSLROOTCERT: settings.sslrootcert }),
    ...(settings.sslcert === undefined ? {} : { PGSSLCERT: settings.sslcert }),
    ...(settings.sslkey === undefined ? {} : { PGSSLKEY: settings.sslkey }),
  }
}

/** A client tool connected to `database`; the password reaches only this program. */
export function tool(
  connection: string,
  settings: PostgresqlConnection,
  database: string,
  argv: readonly [string, ...string[]],
  env: Record<string, string> = {},
): Stage {
  return {
    argv,
    env: { ...environment(settings, database), ...env },
    secretEnv: { PGPASSWORD: { connection, field: 'password' } },
  }
}

/** pg_dump and pg_restore move 4 KiB at a time when they write to a pipe or read from one. */
export const piped = (command: Command): Command => {
  const [first, ...rest] = command.stages
  return { ...command, stages: [{ ...first, smallPieces: true }, ...rest] }
}

/** A script of SQL: unaligned, tuples only, stopping with exit 3 at the first error, errors with their SQLSTATE. */
export function psql(
  connection: string,
  settings: PostgresqlConnection,
  database: string,
  sql: string,
): Command {
  return {
    stages: [
      tool(
        connection,
        settings,
        database,
        ['psql', '-X', '-A', '-t', '-q', '-w', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose'],
        { PGCLIENTENCODING: 'UTF8' },
      ),
    ],
    input: sql,
  }
}

/** Quotes an identifier for SQL. */
export const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** Quotes a string for SQL, whatever standard_conforming_strings says. */
export const literal = (text: string): string => {
  const quoted = `'${text.replaceAll("'", "''")}'`
  return quoted.includes('\\') ? `E${quoted.replaceAll('\\', '\\\\')}` : quoted
}

/** For `pg_restore -d`, which reads its argument as a connection string: only the name, quoted. */
export const conninfo = (database: string): string =>
  `dbname='${database.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`

const client =
  'Install the PostgreSQL client tools of the server version or newer (Debian, Ubuntu: apt install postgresql-client; macOS: brew install libpq).'
export const installs: Record<string, string> = {
  pg_dump: client,
  pg_restore: client,
  pg_basebackup: client,
  pg_receivewal: client,
  psql: client,
}

const packages = {
  apt: 'postgresql-client',
  dnf: 'postgresql',
  brew: 'libpq',
  apk: 'postgresql-client',
}
const major = (text: string): number => Number(/(\d+)(?:\.\d+|\s|$)/.exec(text)?.[1] ?? Number.NaN)
/** pg_dump refuses servers that are newer than itself. */
const reaches = (said: string, serverVersion: string) => !(major(said) < major(serverVersion))

export const tools: readonly Tool[] = [
  { program: 'psql', purpose: 'asks servers' },
  { program: 'pg_dump', purpose: 'makes backups' },
  { program: 'pg_restore', purpose: 'restores them' },
  { program: 'pg_basebackup', purpose: 'makes physical backups', method: 'physical' as const },
].map(tool => ({ ...tool, versionArgs: ['--version'], packages, reaches }))
