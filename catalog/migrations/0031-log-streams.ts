import type { Kysely } from 'kysely'

/** Servers whose log is streamed: what is wanted, and how far each is. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('log_streams')
    .addColumn('connection', 'text', column =>
      column.primaryKey().notNull().references('connections.name').onDelete('cascade'),
    )
    .addColumn('destinations', 'text', column => column.notNull())
    .addColumn('recipients', 'text', column => column.notNull())
    .addColumn('slot', 'text', column => column.notNull())
    .addColumn('spool_limit_bytes', 'bigint', column => column.notNull())
    .addColumn('slot_limit_bytes', 'bigint', column => column.notNull())
    .addColumn('wanted', 'text', column => column.notNull())
    .addColumn('slot_end', 'text', column => column.notNull())
    .addColumn('stopped_at', 'text')
    .addColumn('state', 'text')
    .addColumn('created_at', 'text', column => column.notNull())
    .execute()
}
