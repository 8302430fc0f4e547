import type { Kysely } from 'kysely'

/** Consent to what destroys: requests and their approvals, destructive steps that began or ended, what a swap keeps. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const table = (name: string) => db.schema.createTable(name)
  await table('approvals')
    .addColumn('operation_id', 'text', column =>
      column.primaryKey().references('operations.id').onDelete('cascade'),
    )
    .addColumn('state', 'text', column => column.notNull())
    .addColumn('requested_by', 'text', column => column.notNull())
    .addColumn('requested_user', 'text')
    .addColumn('requested_at', 'text', column => column.notNull())
    .addColumn('request_reason', 'text')
    .addColumn('expires_at', 'text', column => column.notNull())
    .addColumn('plan_digest', 'text')
    .addColumn('target_name', 'text')
    .addColumn('approval_id', 'text')
    .addColumn('decided_by', 'text')
    .addColumn('decided_at', 'text')
    .addColumn('decision_reason', 'text')
    .addColumn('break_glass', 'integer', column => column.notNull())
    .addColumn('used_by_run', 'text')
    .addColumn('used_at', 'text')
    .execute()
  await db.schema.createIndex('approvals_by_state').on('approvals').column('state').execute()
  await table('destructive_steps')
    .addColumn('operation_id', 'text', column =>
      column.notNull().references('operations.id').onDelete('cascade'),
    )
    .addColumn('step', 'text', column => column.notNull())
    .addColumn('started_at', 'text', column => column.notNull())
    .addColumn('finished_at', 'text')
    .addPrimaryKeyConstraint('destructive_steps_key', ['operation_id', 'step'])
    .execute()
  await table('kept_copies')
    .addColumn('operation_id', 'text', column =>
      column.primaryKey().references('operations.id').onDelete('cascade'),
    )
    .addColumn('state', 'text', column => column.notNull())
    .addColumn('connection', 'text', column => column.notNull())
    .addColumn('name', 'text', column => column.notNull())
    .addColumn('identity', 'text', column => column.notNull())
    .addColumn('look', 'text', column => column.notNull())
    .addColumn('go_back', 'text', column => column.notNull())
    .addColumn('keep_until', 'text', column => column.notNull())
    .addColumn('ended_at', 'text')
    .execute()
  await db.schema
    .alterTable('connections')
    .addColumn('two_person', 'integer', column => column.notNull().defaultTo(0))
    .execute()
}
