import type { Kysely } from 'kysely'

/** Limits of bandwidth, and who shares them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('bandwidth_limits')
    .addColumn('scope', 'text', column => column.primaryKey())
    .addColumn('rules', 'text', column => column.notNull())
    .addColumn('changed_at', 'text', column => column.notNull())
    .execute()
  await db.schema
    .createTable('bandwidth_transfers')
    .addColumn('transfer', 'text', column => column.notNull())
    .addColumn('scope', 'text', column => column.notNull())
    .addColumn('until', 'text', column => column.notNull())
    .addColumn('wanted', 'bigint')
    .addPrimaryKeyConstraint('bandwidth_transfers_key', ['transfer', 'scope'])
    .execute()
}
