import type { Kysely } from 'kysely'

/** Drills beside their operations: whether what they made is gone, and their reports. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('drills')
    .addColumn('operation_id', 'text', column =>
      column.primaryKey().references('operations.id').onDelete('cascade'),
    )
    .addColumn('connection', 'text', column => column.notNull())
    .addColumn('created_at', 'text', column => column.notNull())
    .addColumn('row_counts', 'text', column => column.notNull())
    .addColumn('torn_down_at', 'text')
    .addColumn('report', 'text')
    .execute()
  await db.schema
    .createIndex('drills_by_connection')
    .on('drills')
    .columns(['connection', 'created_at'])
    .execute()
}
