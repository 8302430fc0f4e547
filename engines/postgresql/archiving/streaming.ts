/**
 * The log as pg_receivewal streams it. docs/engines/postgresql.md says what was checked of it: it goes on after the newest file in
 * its directory, and where there is none at the slot's place (from version 15 on).
 */
import { z } from 'zod'
import { formatLsn, parseLsn } from '../../../model/wal.ts'
import type { Command, LogStreaming, SlotLook } from '../../engine.ts'
import { answer } from '../answer.ts'
import { literal, psql, tool } from '../client.ts'
import type { PostgresqlConnection } from '../connection.ts'

const look = z.object({
  systemIdentifier: z.string(),
  timeline: z.int(),
  lsn: z.string(),
  segmentBytes: z.int(),
  slot: z
    .object({
      active: z.boolean(),
      received: z.string().nullable(),
      retainedBytes: z.int().nullable(),
      walStatus: z.string().nullable(),
    })
    .nullable(),
})

/** One line of JSON. What a version does not know of slots yet is null. */
const lookSql = (slot: string) => `SET search_path = pg_catalog;
WITH place AS (
  SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
    ELSE pg_current_wal_flush_lsn() END AS lsn
), slot AS (
  SELECT s.active, to_jsonb(s) ->> 'wal_status' AS status, s.restart_lsn,
    coalesce((SELECT r.flush_lsn FROM pg_stat_replication r WHERE r.pid = s.active_pid), s.restart_lsn) AS received
  FROM pg_replication_slots s WHERE s.slot_name = ${literal(slot)}
)
SELECT json_build_object(
  'systemIdentifier', (SELECT system_identifier::text FROM pg_control_system()),
  'timeline', (SELECT timeline_id FROM pg_control_checkpoint()),
  'lsn', lsn::text,
  'segmentBytes', (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
  'slot', (SELECT json_build_object('active', active, 'received', received::text, 'walStatus', status,
      'retainedBytes', greatest(0, pg_wal_lsn_diff(lsn, restart_lsn))::bigint) FROM slot)
) FROM place;
`

const asked = (connection: string, settings: PostgresqlConnection, sql: string): Command =>
  psql(connection, settings, settings.maintenanceDatabase, sql)

/** A program that asks for replication; the server sees no database. */
const receiver = (connection: string, settings: PostgresqlConnection, ...words: string[]): Command => ({
  stages: [tool(connection, settings, 'postgres', ['pg_receivewal', ...words, '--no-password'])],
})

/** The server has removed what comes next, or the slot is one of those that it has given up. */
const lost =
  /requested WAL segment \S+ has already been removed|is not in this server's history|can no longer (get changes from|access) replication slot|cannot read from replication slot|slot has been invalidated/i
/**
 * It had received its timeline to the end, which was the end of a segment: the server answers with the next timeline at once, which
 * pg_receivewal takes for an error without words.
 */
const left = /could not send replication command "START_REPLICATION": *$/m
const taken = /replication slot "[^"]*" is active for PID/i

export const streaming: LogStreaming<PostgresqlConnection> = {
  look: (connection, settings, slot) => ({
    commands: { slot: asked(connection, settings, lookSql(slot)) },
    read({ slot: said }): SlotLook {
      const seen = look.parse(answer(said, `asking ${connection} for the slot ${slot}`))
      const lsn = (text: string) => formatLsn(parseLsn(text) ?? 0n)
      return {
        ...seen,
        lsn: lsn(seen.lsn),
        slot: seen.slot && { ...seen.slot, received: seen.slot.received && lsn(seen.slot.received) },
      }
    },
  }),
  // Both end well where there is nothing to do. That of pg_receivewal reserves nothing before somebody has received by it.
  createSlot: (connection, settings, slot) =>
    asked(
      connection,
      settings,
      `SET search_path = pg_catalog;
SELECT pg_create_physical_replication_slot(${literal(slot)}, true)
  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = ${literal(slot)});
`,
    ),
  dropSlot: (connection, settings, slot) =>
    asked(
      connection,
      settings,
      `SET search_path = pg_catalog;
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = ${literal(slot)};
`,
    ),
  // Ends with the connection: whoever starts it again looks first at what has become of the server.
  receive: (connection, settings, slot, directory) =>
    receiver(connection, settings, '-D', directory, '-S', slot, '--synchronous', '--no-loop'),
  endOthers: (connection, settings, slot) =>
    asked(
      connection,
      settings,
      `SET search_path = pg_catalog;
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = ${literal(slot)} AND active_pid IS NOT NULL;
`,
    ),
  endedBecause({ stderrTail }) {
    if (lost.test(stderrTail)) return 'lost'
    if (left.test(stderrTail)) return 'left'
    return taken.test(stderrTail) ? 'taken' : 'other'
  },
}
