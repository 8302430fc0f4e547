/**
 * Forward only, one transaction each, run when the catalog is opened, by one process at a time. A catalog of a newer
 * Holdfast is refused: an older program would drop what it does not know.
 *
 * One file serves SQLite and PostgreSQL. Columns are `text`, `integer`, `bigint` or `blob` (a generated id: `integer`,
 * primary key, autoIncrement); catalog/postgresql/compiler.ts says what they are there. No raw SQL types, no booleans,
 * JSON as text, times as ISO text, no `LIKE` (its case rules differ), no change of a column that is there (SQLite has
 * none): add one, with a default where it is not null. `npm test -- catalog` runs them on both.
 */
import type { Kysely } from 'kysely'
import { HoldfastError } from '../../model/errors.ts'
import type { OpenDialect } from '../dialect.ts'
import type { CatalogTables } from '../schema.ts'
import { up as first } from './0001-first.ts'
import { up as access } from './0002-access.ts'
import { up as consent } from './0003-consent.ts'
import { up as schedules } from './0004-schedules.ts'
import { up as control } from './0005-control.ts'
import { up as shared } from './0006-shared.ts'
import { up as limits } from './0007-limits.ts'
import { up as moves } from './0008-moves.ts'
import { up as hosts } from './0010-hosts.ts'
import { up as keys } from './0013-keys.ts'
import { up as copies } from './0014-copies.ts'
import { up as severalDestinations } from './0015-several-destinations.ts'
import { up as bandwidth } from './0016-bandwidth.ts'
import { up as scrub } from './0017-scrub.ts'
import { up as foreign } from './0018-foreign.ts'
import { up as schedulesAndTiers } from './0019-schedules-and-tiers.ts'
import { up as staging } from './0020-staging.ts'
import { up as restorePoints } from './0022-restore-points.ts'
import { up as drills } from './0024-drills.ts'
import { up as logWatch } from './0026-log-watch.ts'
import { up as canary } from './0027-canary.ts'
import { up as keptRestorePoints } from './0030-kept-restore-points.ts'
import { up as logStreams } from './0031-log-streams.ts'

export interface Migration {
  version: number
  up(db: Kysely<unknown>): Promise<void>
}

export const migrations: readonly Migration[] = [
  { version: 1, up: first },
  { version: 2, up: access },
  { version: 3, up: consent },
  { version: 4, up: schedules },
  { version: 5, up: control },
  { version: 6, up: shared },
  { version: 7, up: limits },
  { version: 8, up: moves },
  { version: 10, up: hosts },
  { version: 13, up: keys },
  { version: 14, up: copies },
  { version: 15, up: severalDestinations },
  { version: 16, up: bandwidth },
  { version: 17, up: scrub },
  { version: 18, up: foreign },
  { version: 19, up: schedulesAndTiers },
  { version: 20, up: staging },
  { version: 22, up: restorePoints },
  { version: 24, up: drills },
  { version: 26, up: logWatch },
  { version: 27, up: canary },
  { version: 30, up: keptRestorePoints },
  { version: 31, up: logStreams },
]

/** Brings the schema up to date; returns the versions that were applied now. */
export async function migrate(
  migration: OpenDialect['migration'],
  steps: readonly Migration[] = migrations,
): Promise<number[]> {
  const applied: number[] = []
  for (;;) {
    const version = await migration(tx => next(tx, steps))
    if (version === undefined) return applied
    applied.push(version)
  }
}

/** Where we are is asked anew in each transaction: another process may have gone on meanwhile. */
async function next(tx: Kysely<CatalogTables>, steps: readonly Migration[]): Promise<number | undefined> {
  await tx.schema
    .createTable('schema_version')
    .ifNotExists()
    .addColumn('version', 'integer', column => column.primaryKey())
    .addColumn('applied_at', 'text', column => column.notNull())
    .execute()
  const row = await tx
    .selectFrom('schema_version')
    .select(({ fn }) => fn.max('version').as('version'))
    .executeTakeFirst()
  const current = Number(row?.version ?? 0)
  const newest = steps.at(-1)?.version ?? 0
  if (current > newest) {
    throw new HoldfastError(
      'catalog.newer',
      `The catalog's schema is version ${current}; this Holdfast knows versions up to ${newest}.`,
    )
  }
  const step = steps.find(({ version }) => version > current)
  if (!step) return undefined
  await step.up(tx as unknown as Kysely<unknown>)
  await tx
    .insertInto('schema_version')
    .values({ version: step.version, applied_at: new Date().toISOString() })
    .execute()
  return step.version
}
