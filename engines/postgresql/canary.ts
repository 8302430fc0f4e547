/** The canary in a PostgreSQL database: one row per connection, in a schema of its own. */
import { type Canary, canarySchema } from '../../model/canary.ts'
import type { Command } from '../engine.ts'
import { literal, psql } from './client.ts'
import type { PostgresqlConnection } from './connection.ts'

const schema = 'holdfast_canary'
const table = `${schema}.written`

/** A commit that waits for a standby, or a lock that somebody holds, is not worth holding up a backup. */
export function writeCanary(
  connection: string,
  settings: PostgresqlConnection,
  { backup, writtenAt }: Omit<Canary, 'lsn'>,
): Command {
  const row = [connection, backup, writtenAt].map(literal).join(', ')
  const sql = `SET search_path = pg_catalog;
SET lock_timeout = '5s';
SET statement_timeout = '20s';
SET synchronous_commit = local;
SET client_min_messages = warning;
BEGIN;
SELECT to_regclass('${table}') IS NULL AS missing \\gset
\\if :missing
CREATE SCHEMA IF NOT EXISTS ${schema};
CREATE TABLE IF NOT EXISTS ${table} (connection text PRIMARY KEY, backup text NOT NULL, written_at timestamptz NOT NULL, lsn pg_lsn NOT NULL);
COMMENT ON SCHEMA ${schema} IS 'Written by Holdfast before backups; drills look for it in the copy.';
\\endif
INSERT INTO ${table} VALUES (${row}, pg_current_wal_insert_lsn())
  ON CONFLICT (connection) DO UPDATE SET backup = EXCLUDED.backup, written_at = EXCLUDED.written_at, lsn = EXCLUDED.lsn
  RETURNING lsn;
COMMIT;
`
  return psql(connection, settings, settings.database, sql)
}

/** Prints one line of JSON, or none. */
export const readCanarySql = (
  connection: string,
): string => `SELECT to_regclass('${table}') IS NOT NULL AS canary \\gset
\\if :canary
SELECT json_build_object('backup', backup, 'writtenAt', to_char(written_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'lsn', lsn::text) FROM ${table} WHERE connection = ${literal(connection)};
\\endif
`

export function canaryIn(answer: string | undefined): Canary | null {
  const line = (answer ?? '').trim()
  return line === '' ? null : canarySchema.parse(JSON.parse(line))
}
