import type { Kysely } from 'kysely'

interface Before {
  schedules: { id: string; destination: string | null }
  schedule_destinations: { schedule_id: string; destination: string; position: number | null }
}

/** A schedule names several destinations, and what stands in for them; in which class of its store a copy lies, and when a scrub last passed it over. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('schedule_destinations')
    .addColumn('schedule_id', 'text', column =>
      column.notNull().references('schedules.id').onDelete('cascade'),
    )
    .addColumn('destination', 'text', column => column.notNull().references('destinations.name'))
    .addColumn('position', 'integer')
    .addPrimaryKeyConstraint('schedule_destinations_key', ['schedule_id', 'destination'])
    .execute()
  await db.schema
    .createIndex('schedule_destinations_by_destination')
    .on('schedule_destinations')
    .column('destination')
    .execute()
  await (db as Kysely<Before>)
    .insertInto('schedule_destinations')
    .columns(['schedule_id', 'destination', 'position'])
    .expression(eb =>
      eb
        .selectFrom('schedules')
        .select(['id', eb.ref('destination').$notNull().as('destination'), eb.lit(0).as('position')])
        .where('destination', 'is not', null),
    )
    .execute()
  await db.schema.alterTable('schedules').dropColumn('destination').execute()
  await db.schema.alterTable('copies').addColumn('tier', 'text').execute()
  await db.schema.alterTable('copies').addColumn('passed_over_at', 'text').execute()
}
