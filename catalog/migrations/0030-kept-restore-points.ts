import type { Kysely } from 'kysely'

/** Until when what a restore point needs is kept at hand. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('restore_points').addColumn('keep_until', 'text').execute()
}
