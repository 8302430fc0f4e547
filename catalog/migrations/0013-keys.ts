import type { Kysely } from 'kysely'

/** Which key opens which backup where, what became of keys, and whom a destination's backups are for. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('wrapped_keys')
    .addColumn('destination', 'text', column => column.notNull())
    .addColumn('backup_id', 'text', column => column.notNull())
    .addColumn('kid', 'text', column => column.notNull())
    .addColumn('connection', 'text', column => column.notNull())
    .addPrimaryKeyConstraint('wrapped_keys_key', ['destination', 'backup_id', 'kid'])
    .execute()
  await db.schema
    .createTable('key_states')
    .addColumn('kid', 'text', column => column.primaryKey())
    .addColumn('name', 'text', column => column.notNull())
    .addColumn('successor_kid', 'text')
    .addColumn('replaced_at', 'text')
    .addColumn('retired_at', 'text')
    .execute()
  await db.schema.alterTable('destinations').addColumn('encrypt_to', 'text').execute()
}
