import type { Kysely } from 'kysely'

/** Room in staging that operations are promised. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('staging_promises')
    .addColumn('operation_id', 'text', column =>
      column.notNull().references('operations.id').onDelete('cascade'),
    )
    .addColumn('purpose', 'text', column => column.notNull())
    .addColumn('file_system', 'text', column => column.notNull())
    .addColumn('bytes', 'bigint', column => column.notNull())
    .addColumn('written', 'bigint', column => column.notNull())
    .addPrimaryKeyConstraint('staging_promises_key', ['operation_id', 'purpose'])
    .execute()
}
