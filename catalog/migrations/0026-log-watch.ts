import type { Kysely } from 'kysely'

/** What was last seen of the archiving of servers, and what is wrong with it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('log_watch')
    .addColumn('connection', 'text', column =>
      column.primaryKey().notNull().references('connections.name').onDelete('cascade'),
    )
    .addColumn('watched', 'text', column => column.notNull())
    .execute()
}
