import type { Kysely } from 'kysely'

interface Before {
  operations: { id: string; backup_id: string; destination: string; state: string }
  pins: { operation_id: string; backup_id: string; destination: string }
  backups: { id: string; destination: string; state: string; ended_at: string; verified: string | null }
  copies: {
    backup_id: string
    destination: string
    state: string
    committed_at: string | null
    verified: string | null
  }
}

/** One backup, copies of it at several destinations; and what operations hold on to. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('copies')
    .addColumn('backup_id', 'text', column => column.notNull().references('backups.id').onDelete('cascade'))
    .addColumn('destination', 'text', column => column.notNull())
    .addColumn('state', 'text', column => column.notNull())
    .addColumn('committed_at', 'text')
    .addColumn('verified', 'text')
    .addColumn('wanted_until', 'text')
    .addColumn('trouble', 'text')
    .addColumn('operation_id', 'text')
    .addPrimaryKeyConstraint('copies_key', ['backup_id', 'destination'])
    .execute()
  await db.schema.createIndex('copies_by_destination').on('copies').column('destination').execute()
  await (db as Kysely<Before>)
    .insertInto('copies')
    .columns(['backup_id', 'destination', 'state', 'committed_at', 'verified'])
    .expression(eb => eb.selectFrom('backups').select(['id', 'destination', 'state', 'ended_at', 'verified']))
    .execute()
  for (const column of ['destination', 'state', 'verified']) {
    await db.schema.alterTable('backups').dropColumn(column).execute()
  }
  await db.schema
    .createTable('pins')
    .addColumn('operation_id', 'text', column =>
      column.notNull().references('operations.id').onDelete('cascade'),
    )
    .addColumn('backup_id', 'text', column => column.notNull())
    .addColumn('destination', 'text', column => column.notNull())
    .addPrimaryKeyConstraint('pins_key', ['operation_id', 'backup_id', 'destination'])
    .execute()
  await db.schema.createIndex('pins_by_destination').on('pins').column('destination').execute()
  // Of operations that are under way while the catalog becomes a newer one.
  await (db as Kysely<Before>)
    .insertInto('pins')
    .columns(['operation_id', 'backup_id', 'destination'])
    .expression(eb =>
      eb
        .selectFrom('operations')
        .select(['id', 'backup_id', 'destination'])
        .where('state', 'not in', ['succeeded', 'partial', 'failed', 'cancelled']),
    )
    .execute()
}
