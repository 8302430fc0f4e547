import type { Kysely } from 'kysely'

/** What an operator may ask of a running operation, hooks around it, and what was printed meanwhile. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const table = (name: string) => db.schema.createTable(name)
  await db.schema
    .alterTable('operations')
    .addColumn('pause_wanted', 'integer', column => column.notNull().defaultTo(0))
    .execute()
  await table('hooks')
    .addColumn('connection', 'text', column =>
      column.primaryKey().references('connections.name').onDelete('cascade'),
    )
    .addColumn('hooks', 'text', column => column.notNull())
    .execute()
  await table('hook_runs')
    .addColumn('operation_id', 'text', column => column.notNull())
    .addColumn('name', 'text', column => column.notNull())
    .addColumn('started_at', 'text', column => column.notNull())
    .addColumn('ended_at', 'text')
    .addColumn('ok', 'integer')
    .addColumn('detail', 'text', column => column.notNull())
    .addPrimaryKeyConstraint('hook_runs_key', ['operation_id', 'name'])
    .execute()
  await table('operation_log')
    .addColumn('operation_id', 'text', column => column.notNull())
    .addColumn('seq', 'integer', column => column.notNull())
    .addColumn('entry_id', 'text', column => column.notNull())
    .addColumn('at', 'text', column => column.notNull())
    .addColumn('source', 'text', column => column.notNull())
    .addColumn('text', 'text', column => column.notNull())
    .addPrimaryKeyConstraint('operation_log_key', ['operation_id', 'seq'])
    .addUniqueConstraint('operation_log_entry', ['operation_id', 'entry_id'])
    .execute()
}
