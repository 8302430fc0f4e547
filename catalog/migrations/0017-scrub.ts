import type { Kysely } from 'kysely'

type Tables = Record<string, Record<string, unknown>>

/** A schedule may be about no single connection: both tables are made anew, as no column can be changed where it is. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('schedules_next')
    .addColumn('id', 'text', column => column.primaryKey())
    .addColumn('name', 'text', column => column.notNull().unique())
    .addColumn('kind', 'text', column => column.notNull())
    .addColumn('connection', 'text', column => column.references('connections.name'))
    .addColumn('destination', 'text', column => column.references('destinations.name'))
    .addColumn('options', 'text', column => column.notNull())
    .addColumn('spec', 'text', column => column.notNull())
    .addColumn('jitter_seconds', 'integer', column => column.notNull())
    .addColumn('overlap', 'text', column => column.notNull())
    .addColumn('catch_up_seconds', 'integer', column => column.notNull())
    .addColumn('start_deadline_seconds', 'integer', column => column.notNull())
    .addColumn('start_at', 'text')
    .addColumn('end_at', 'text')
    .addColumn('paused', 'integer', column => column.notNull())
    .addColumn('note', 'text')
    .addColumn('revision', 'integer', column => column.notNull())
    .addColumn('checked_until', 'text', column => column.notNull())
    .addColumn('carried', 'text')
    .addColumn('drift', 'text')
    .addColumn('request_key', 'text')
    .addColumn('created_at', 'text', column => column.notNull())
    .addColumn('updated_at', 'text', column => column.notNull())
    .execute()
  await db.schema
    .createTable('schedule_runs_next')
    .addColumn('schedule_id', 'text', column =>
      column.notNull().references('schedules_next.id').onDelete('cascade'),
    )
    .addColumn('due_at', 'text', column => column.notNull())
    .addColumn('operation_id', 'text', column => column.notNull().unique())
    .addColumn('state', 'text', column => column.notNull())
    .addColumn('taken_at', 'text')
    .addColumn('deadline_at', 'text')
    .addColumn('reason', 'text')
    .addColumn('detail', 'text')
    .addColumn('holder', 'text')
    .addColumn('triggered_by', 'text')
    .addPrimaryKeyConstraint('schedule_runs_due', ['schedule_id', 'due_at'])
    .execute()
  await copyRows(db as Kysely<Tables>, 'schedules', schedules)
  await copyRows(db as Kysely<Tables>, 'schedule_runs', runs)
  // The referring one first: dropping the other would take its rows along.
  for (const table of ['schedule_runs', 'schedules']) await db.schema.dropTable(table).execute()
  for (const table of ['schedules', 'schedule_runs']) {
    await db.schema.alterTable(`${table}_next`).renameTo(table).execute()
  }
  await db.schema
    .createIndex('schedule_runs_by_state')
    .on('schedule_runs')
    .columns(['schedule_id', 'state'])
    .execute()
}

const schedules = [
  'id',
  'name',
  'kind',
  'connection',
  'destination',
  'options',
  'spec',
  'jitter_seconds',
  'overlap',
  'catch_up_seconds',
  'start_deadline_seconds',
  'start_at',
  'end_at',
  'paused',
  'note',
  'revision',
  'checked_until',
  'carried',
  'drift',
  'request_key',
  'created_at',
  'updated_at',
]
const runs = [
  'schedule_id',
  'due_at',
  'operation_id',
  'state',
  'taken_at',
  'deadline_at',
  'reason',
  'detail',
  'holder',
  'triggered_by',
]

async function copyRows(db: Kysely<Tables>, table: string, columns: string[]): Promise<void> {
  await db
    .insertInto(`${table}_next`)
    .columns(columns)
    .expression(from => from.selectFrom(table).select(columns))
    .execute()
}
