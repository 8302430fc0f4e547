import type { Kysely } from 'kysely'

/** Tokens that are limited to connections; an audit whose oldest rows may go. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('tokens').addColumn('connections', 'text').execute()
  await db.schema
    .alterTable('audit_head')
    .addColumn('pruned_seq', 'integer', column => column.notNull().defaultTo(0))
    .execute()
  await db.schema
    .alterTable('audit_head')
    .addColumn('pruned_hash', 'text', column => column.notNull().defaultTo(''))
    .execute()
}
