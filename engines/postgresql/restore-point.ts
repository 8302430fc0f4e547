/** A named place in the log, and the end of the segment that holds it, so that it is archived soon. */
import { z } from 'zod'
import type { Probe, RestorePoint } from '../engine.ts'
import { answer } from './answer.ts'
import { literal, psql } from './client.ts'
import type { PostgresqlConnection } from './connection.ts'

const made = z.object({
  systemIdentifier: z.string(),
  timeline: z.int(),
  lsn: z.string(),
  createdAt: z.string(),
})

/** `name`: at most 63 bytes; the server does not mind one that it has already. */
export function restorePoint(
  connection: string,
  settings: PostgresqlConnection,
  name: string,
): Probe<RestorePoint> {
  // Two statements: a switch in the transaction of the first would be part of it. Who may not switch has the place all the same.
  const make = `SET search_path = pg_catalog;
SELECT json_build_object(
  'lsn', pg_create_restore_point(${literal(name)})::text,
  'timeline', (SELECT timeline_id FROM pg_control_checkpoint()),
  'systemIdentifier', (SELECT system_identifier::text FROM pg_control_system()),
  'createdAt', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
);
\\set ON_ERROR_STOP 0
SELECT FROM pg_switch_wal();
`
  return {
    commands: { point: psql(connection, settings, settings.maintenanceDatabase, make) },
    read: ({ point }) => made.parse(answer(point, `making the restore point ${name} of ${connection}`)),
  }
}
