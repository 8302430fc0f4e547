/**
 * Forward only, one transaction each, run when the catalog is opened. A catalog of a newer Holdfast is refused: an
 * older program would drop what it does not know.
 */
import type { Kysely } from 'kysely'
import { HoldfastError } from '../../model/errors.ts'
import type { CatalogTables } from '../schema.ts'
import { up as first } from './0001-first.ts'

export interface Migration {
  version: number
  up(db: Kysely<unknown>): Promise<void>
}

export const migrations: readonly Migration[] = [{ version: 1, up: first }]

/** Brings the schema up to date; returns the versions that were applied now. */
export async function migrate(
  db: Kysely<CatalogTables>,
  steps: readonly Migration[] = migrations,
): Promise<number[]> {
  await db.schema
    .createTable('schema_version')
    .ifNotExists()
    .addColumn('version', 'integer', column => column.primaryKey())
    .addColumn('applied_at', 'text', column => column.notNull())
    .execute()
  const row = await db
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
  const applied: number[] = []
  for (const step of steps) {
    if (step.version <= current) continue
    await db.transaction().execute(async transaction => {
      await step.up(transaction as unknown as Kysely<unknown>)
      await transaction
        .insertInto('schema_version')
        .values({ version: step.version, applied_at: new Date().toISOString() })
        .execute()
    })
    applied.push(step.version)
  }
  return applied
}
