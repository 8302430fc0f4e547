import type { Kysely } from 'kysely'

interface Before {
  attempts: { attempt_id: string; destination: string }
  attempt_destinations: { attempt_id: string; destination: string }
}

/** One attempt at several destinations; which destination stands in for another, and which are elsewhere. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('attempt_destinations')
    .addColumn('attempt_id', 'text', column =>
      column.notNull().references('attempts.attempt_id').onDelete('cascade'),
    )
    .addColumn('destination', 'text', column => column.notNull())
    .addPrimaryKeyConstraint('attempt_destinations_key', ['attempt_id', 'destination'])
    .execute()
  await db.schema
    .createIndex('attempt_destinations_by_destination')
    .on('attempt_destinations')
    .column('destination')
    .execute()
  await (db as Kysely<Before>)
    .insertInto('attempt_destinations')
    .columns(['attempt_id', 'destination'])
    .expression(eb => eb.selectFrom('attempts').select(['attempt_id', 'destination']))
    .execute()
  await db.schema.alterTable('attempts').dropColumn('destination').execute()
  await db.schema.alterTable('destinations').addColumn('failover', 'text').execute()
  await db.schema.alterTable('destinations').addColumn('off_site', 'integer').execute()
}
