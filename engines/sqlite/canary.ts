/** The canary in a SQLite database: one row per connection, in a table of its own. */
import { type Canary, canarySchema } from '../../model/canary.ts'
import type { Command } from '../engine.ts'
import type { SqliteConnection } from './connection.ts'
import { writingShell } from './shell.ts'

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

export function writeCanary(
  connection: string,
  settings: SqliteConnection,
  { backup, writtenAt }: Omit<Canary, 'lsn'>,
): Command {
  const sql = `BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS holdfast_canary (connection TEXT PRIMARY KEY, backup TEXT NOT NULL, written_at TEXT NOT NULL);
REPLACE INTO holdfast_canary VALUES (${[connection, backup, writtenAt].map(literal).join(', ')});
COMMIT;
`
  return writingShell(settings.path, sql)
}

/** Prints one line of JSON, or none; fails where there is no such table. */
export const readCanarySql = (connection: string): string =>
  `SELECT json_object('backup', backup, 'writtenAt', written_at, 'lsn', NULL) FROM holdfast_canary WHERE connection = ${literal(connection)};\n`

export function canaryIn(answer: string): Canary | null {
  const line = answer.trim()
  return line === '' ? null : canarySchema.parse(JSON.parse(line))
}
