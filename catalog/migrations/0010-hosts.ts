import type { Kysely } from 'kysely'

/** Machines over SSH that tools run on. Their secrets lie in the `secrets` table. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('hosts')
    .addColumn('name', 'text', column => column.primaryKey())
    .addColumn('settings', 'text', column => column.notNull())
    .addColumn('host_keys', 'text', column => column.notNull())
    .addColumn('request_key', 'text')
    .addColumn('created_at', 'text', column => column.notNull())
    .execute()
}
