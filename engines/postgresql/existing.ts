/** Who has the name that a restore is to write, whether that database may be replaced, and what becomes of the old one. */
import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'
import type { CheckResult } from '../../model/types.ts'
import type { Command, CommandResult, ExistingTarget, Probe, RestoreTarget } from '../engine.ts'
import { answer } from './answer.ts'
import { literal, psql } from './client.ts'
import type { PostgresqlConnection } from './connection.ts'
import { serverFacts, serverSql } from './facts.ts'
import { dropKeptSql, obstacles } from './swap.ts'

export const existingFacts = z.object({
  oid: z.string().regex(/^\d+$/),
  /** '' where the role may not read it. */
  systemIdentifier: z.string(),
  tablespace: z.string(),
})

const there = z.object({
  oid: z.string().regex(/^\d+$/),
  owner: z.string(),
  tablespace: z.string(),
  sizeBytes: z.number(),
  /** The user of the connection may rename it and give the copy to its owner. */
  member: z.boolean(),
  sessions: z.int(),
  /** Users of sessions that this user may not end. */
  beyond: z.array(z.string()),
  obstacles: z.array(z.string()),
})

/** One line of JSON: `{"there": …}`, null for nobody. */
const existingSql = (database: string) => `SET search_path = pg_catalog;
SELECT json_build_object('there', (SELECT json_build_object(
  'oid', d.oid::text,
  'owner', pg_get_userbyid(d.datdba),
  'tablespace', (SELECT spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace),
  'sizeBytes', CASE WHEN has_database_privilege(d.oid, 'CONNECT') THEN pg_database_size(d.oid) ELSE 0 END,
  'member', pg_has_role(d.datdba, 'MEMBER'),
  'sessions', (SELECT count(*)::int FROM pg_stat_activity WHERE datid = d.oid AND usesysid IS NOT NULL),
  'beyond', (SELECT coalesce(json_agg(DISTINCT a.usename), '[]') FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid, pg_roles me
     WHERE a.datid = d.oid AND me.rolname = current_user AND NOT me.rolsuper
       AND (r.rolsuper OR NOT (pg_has_role(a.usesysid, 'MEMBER') OR pg_has_role('pg_signal_backend', 'MEMBER')))),
  'obstacles', (SELECT coalesce(json_agg(obstacle), '[]') FROM (${obstacles('d.oid')}) o)
) FROM pg_database d WHERE d.datname = ${literal(database)}));
`

export const askExisting = (settings: PostgresqlConnection, connection: string, database: string): Command =>
  psql(connection, settings, settings.maintenanceDatabase, existingSql(database))

function readThere(result: CommandResult | undefined, doing: string): z.infer<typeof there> | null {
  return there.nullable().parse(answer(result, doing).there)
}

const identityOf = (systemIdentifier: string, oid: string) => `postgresql:${systemIdentifier}:${oid}`

export function existing(
  settings: PostgresqlConnection,
  connection: string,
  database: string,
): Probe<ExistingTarget | undefined> {
  const place = `${settings.host}:${settings.port}`
  return {
    commands: {
      there: askExisting(settings, connection, database),
      server: psql(connection, settings, settings.maintenanceDatabase, serverSql),
    },
    read(outputs) {
      const found = readThere(outputs.there, `looking for the database "${database}" on ${place}`)
      if (found === null) return undefined
      const { systemIdentifier } = serverFacts.parse(answer(outputs.server, `asking ${place} who it is`))
      return {
        identity: identityOf(systemIdentifier, found.oid),
        words: `Database "${database}" on ${place} (OID ${found.oid}, owner ${found.owner}, ${Math.ceil(found.sizeBytes / 1e6)} MB, ${found.sessions} sessions)`,
        sizeBytes: found.sizeBytes,
        facts: { oid: found.oid, systemIdentifier, tablespace: found.tablespace },
      }
    },
  }
}

/** May it be replaced, and is it still the one that the plan names? */
export function replaceable(
  result: CommandResult | undefined,
  target: RestoreTarget,
  place: string,
): CheckResult[] {
  const planned = existingFacts.parse(target.replaces?.facts)
  const found = readThere(result, `looking for the database "${target.database}" on ${place}`)
  const name = `"${target.database}"`
  if (found?.oid !== planned.oid) {
    return [
      {
        id: 'target.same',
        title: 'Target is the one to replace',
        answer: 'fail',
        code: 'restore.target-changed',
        detail: `The plan replaces ${name} with OID ${planned.oid}; on ${place} ${found === null ? 'it is not there' : `its OID is ${found.oid}`}.`,
      },
    ]
  }
  const check = (
    id: string,
    title: string,
    ok: boolean,
    good: string,
    bad: Pick<CheckResult, 'code' | 'detail' | 'hint'>,
  ): CheckResult => (ok ? { id, title, answer: 'pass', detail: good } : { id, title, answer: 'fail', ...bad })
  return [
    check('target.same', 'Target is the one to replace', true, `OID ${found.oid}`, { detail: '' }),
    check(
      'target.replaceable',
      'Target may be renamed',
      found.obstacles.length === 0,
      'No logical slots, subscriptions or prepared transactions.',
      {
        code: 'restore.swap-refused',
        detail: `${name} cannot be replaced by a rename: ${found.obstacles.join(', ')}.`,
      },
    ),
    check('target.owner', 'Target may be given away', found.member, `This user may act for ${found.owner}.`, {
      code: 'database.privilege',
      detail: `The user of the connection is neither superuser nor member of ${found.owner}, who owns ${name}.`,
      hint: 'Restore as a superuser, or grant membership in the owner.',
    }),
    check(
      'target.sessions',
      'Sessions may be ended',
      found.beyond.length === 0,
      `${found.sessions} sessions now.`,
      {
        code: 'database.privilege',
        detail: `The user of the connection may not end the sessions of ${found.beyond.join(', ')} on ${name}.`,
        hint: 'GRANT pg_signal_backend TO the user; sessions of superusers only a superuser can end.',
      },
    ),
  ]
}

/** Throws `internal` for an identity that is no OID: it goes into SQL as it is. */
export function dropKept(
  settings: PostgresqlConnection,
  connection: string,
  kept: { name: string; identity: string },
): Command {
  if (!/^\d+$/.test(kept.identity)) throw new HoldfastError('internal', `"${kept.identity}" is no OID.`)
  return psql(connection, settings, settings.maintenanceDatabase, dropKeptSql(kept.name, kept.identity))
}
