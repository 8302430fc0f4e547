import type { Kysely } from 'kysely'

/** Backups that were not made here, and destinations that nothing is written to: directories where such files lie. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('backups').addColumn('foreign_file', 'text').execute()
  await db.schema.alterTable('backups').addColumn('foreign_key', 'text').execute()
  await db.schema.createIndex('backups_by_foreign_key').on('backups').column('foreign_key').execute()
  await db.schema
    .alterTable('destinations')
    .addColumn('foreign_only', 'integer', column => column.notNull().defaultTo(0))
    .execute()
}
