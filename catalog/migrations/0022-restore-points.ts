import type { Kysely } from 'kysely'

/** Named places in the log of servers. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('restore_points')
    .addColumn('connection', 'text', column => column.notNull())
    .addColumn('name', 'text', column => column.notNull())
    .addColumn('server_name', 'text', column => column.notNull())
    .addColumn('system_identifier', 'text')
    .addColumn('timeline', 'integer')
    .addColumn('lsn', 'text')
    .addColumn('created_at', 'text')
    .addColumn('asked_at', 'text', column => column.notNull())
    .addColumn('asked_by', 'text', column => column.notNull())
    .addColumn('note', 'text')
    .addPrimaryKeyConstraint('restore_points_key', ['connection', 'name'])
    .execute()
}
