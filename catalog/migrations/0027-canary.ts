import type { Kysely } from 'kysely'

/** Whether Holdfast may write a row of its own before backups; what a drill has found of it, and where its replay ended. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('connections')
    .addColumn('canary', 'integer', column => column.notNull().defaultTo(0))
    .execute()
  await db.schema.alterTable('drills').addColumn('canary', 'text').execute()
  await db.schema.alterTable('drills').addColumn('replayed', 'text').execute()
}
