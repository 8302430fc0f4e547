import type { Kysely } from 'kysely'

/** Several API processes: who starts an operation, and one operation for one request. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('operations').addColumn('starter', 'text').execute()
  await db.schema
    .createIndex('operations_by_request')
    .on('operations')
    .column('request_key')
    .unique()
    .execute()
}
