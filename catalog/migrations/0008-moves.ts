import type { Kysely } from 'kysely'

/** Where this catalog went, and where it came from. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('moves')
    .addColumn('id', 'text', column => column.primaryKey())
    .addColumn('way', 'text', column => column.notNull())
    .addColumn('place', 'text', column => column.notNull())
    .addColumn('state', 'text', column => column.notNull())
    .addColumn('at', 'text', column => column.notNull())
    .execute()
}
