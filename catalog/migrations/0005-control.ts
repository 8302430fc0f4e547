import type { Kysely } from 'kysely'

/** What an operator may ask of a running operation. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('operations')
    .addColumn('pause_wanted', 'integer', column => column.notNull().defaultTo(0))
    .execute()
}
