/**
 * What became of each time at which a schedule came due. A row is there from the moment it came due, so that no due time
 * can be forgotten; each change of a row names the states it may come from, so that two API processes, a starter that
 * asks again and a round of the reconciler never settle one run twice.
 */
import { createHash } from 'node:crypto'
import type { Selectable } from 'kysely'
import { dueTimes } from '../model/due.ts'
import { readable } from '../model/ids.ts'
import type { OperationRecord } from '../model/records.ts'
import type { MissedReason, RunState, ScheduleRecord, ScheduleRun } from '../model/schedules.ts'
import type { OperationState } from '../model/types.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import { insertOperationRow } from './operations.ts'
import { findSchedule, readSchedule, replaceSchedule } from './schedules.ts'
import type { CatalogTables } from './schema.ts'

/** Due times entered in one transaction; a longer absence takes several. */
const chunk = 500

/** One due time of one schedule is one operation, whoever asks, however often. */
const operationIdFor = (scheduleId: string, dueAt: string): string =>
  `op-${readable(createHash('sha256').update(`${scheduleId} ${dueAt}`).digest().subarray(0, 14))}`

/**
 * Enters every time at which the schedule came due up to `now`. A paused schedule does not come due. Read anew in the
 * transaction: an edit enters the due times of the former spec before it changes it.
 */
export async function enterDueTimes(catalog: Catalog, id: string, now: Date): Promise<void> {
  for (;;) {
    const more = await catalog.transaction(async tx => await enterChunk(tx, id, now))
    if (!more) return
  }
}

async function enterChunk(tx: CatalogDatabase, id: string, now: Date): Promise<boolean> {
  const schedule = await findSchedule(tx, { id })
  if (!schedule || schedule.checkedUntil >= now.toISOString()) return false
  const due = schedule.paused ? [] : boundedTimes(schedule, Date.parse(schedule.checkedUntil), now, chunk)
  const full = due.length === chunk
  const until = full ? (due.at(-1) ?? now.toISOString()) : now.toISOString()
  if (due.length > 0) {
    await tx
      .insertInto('schedule_runs')
      .values(due.map(dueAt => newRun(id, dueAt)))
      .onConflict(conflict => conflict.columns(['schedule_id', 'due_at']).doNothing())
      .execute()
  }
  await tx
    .updateTable('schedules')
    .set({ checked_until: until })
    .where('id', '=', id)
    .where('revision', '=', schedule.revision)
    .where('checked_until', '<', until)
    .execute()
  return full
}

/** Due times between the schedule's own start and end. */
export function boundedTimes(
  { spec, startAt, endAt }: Pick<ScheduleRecord, 'spec' | 'startAt' | 'endAt'>,
  after: number,
  until: Date | null,
  limit: number,
): string[] {
  const first = startAt === null ? after : Math.max(after, Date.parse(startAt) - 1)
  const last = Math.min(
    until?.getTime() ?? Number.POSITIVE_INFINITY,
    endAt === null ? Number.POSITIVE_INFINITY : Date.parse(endAt),
  )
  return dueTimes(spec, first, last, limit).map(time => new Date(time).toISOString())
}

/**
 * Changes a schedule from `now` on: what came due before, came due by the schedule as it was. Pausing settles what has not
 * started. `change` may be asked several times. Throws `request.not-found`.
 */
export async function changeSchedule(
  catalog: Catalog,
  name: string,
  now: Date,
  change: (schedule: ScheduleRecord) => ScheduleRecord,
): Promise<void> {
  await enterDueTimes(catalog, (await readSchedule(catalog, name)).id, now)
  const at = now.toISOString()
  await catalog.transaction(async tx => {
    const schedule = await readSchedule({ ...catalog, db: tx }, name)
    await replaceSchedule(tx, { ...change(schedule), checkedUntil: at, updatedAt: at })
    const { paused, note, id } = change(schedule)
    if (!paused) return
    await tx
      .updateTable('schedule_runs')
      .set({
        state: 'missed',
        reason: 'paused',
        detail: `Paused at ${at}${note === null ? '' : `: ${note}`}.`,
      })
      .where('schedule_id', '=', id)
      .where('state', 'in', ['due', 'waiting'])
      .execute()
  })
}

const newRun = (scheduleId: string, dueAt: string) => ({
  schedule_id: scheduleId,
  due_at: dueAt,
  operation_id: operationIdFor(scheduleId, dueAt),
  state: 'due',
  taken_at: null,
  deadline_at: null,
  reason: null,
  detail: null,
  holder: null,
  triggered_by: null,
})

export async function findRun(
  catalog: Catalog,
  scheduleId: string,
  dueAt: string,
): Promise<ScheduleRun | undefined> {
  const row = await runs(catalog.db)
    .where('schedule_id', '=', scheduleId)
    .where('due_at', '=', dueAt)
    .executeTakeFirst()
  return row && toRun(row)
}

/** Runs that may still start, oldest first. */
export async function pendingRuns(catalog: Catalog, scheduleId: string): Promise<ScheduleRun[]> {
  const rows = await runs(catalog.db)
    .where('schedule_id', '=', scheduleId)
    .where('schedule_runs.state', 'in', ['due', 'waiting'])
    .orderBy('due_at')
    .execute()
  return rows.map(toRun)
}

/** Newest first. `missed`: only those. */
export async function listRuns(
  catalog: Catalog,
  scheduleId: string,
  options: { before?: string; missed?: boolean; limit: number },
): Promise<ScheduleRun[]> {
  let query = runs(catalog.db).where('schedule_id', '=', scheduleId)
  if (options.before !== undefined) query = query.where('due_at', '<', options.before)
  if (options.missed === true) query = query.where('schedule_runs.state', '=', 'missed')
  return (await query.orderBy('due_at', 'desc').limit(options.limit).execute()).map(toRun)
}

/** The newest run before this one that is an operation or waits to become one. */
export async function formerRun(
  catalog: Catalog,
  scheduleId: string,
  dueAt: string,
): Promise<ScheduleRun | undefined> {
  const row = await runs(catalog.db)
    .where('schedule_id', '=', scheduleId)
    .where('due_at', '<', dueAt)
    .where('schedule_runs.state', 'in', ['waiting', 'started'])
    .orderBy('due_at', 'desc')
    .executeTakeFirst()
  return row && toRun(row)
}

/** The newest time at which the schedule came due after this one. */
export async function newerDueTime(
  catalog: Catalog,
  scheduleId: string,
  dueAt: string,
): Promise<string | undefined> {
  const row = await catalog.db
    .selectFrom('schedule_runs')
    .select('due_at')
    .where('schedule_id', '=', scheduleId)
    .where('due_at', '>', dueAt)
    .where('triggered_by', 'is', null)
    .orderBy('due_at', 'desc')
    .executeTakeFirst()
  return row?.due_at
}

/** Taken up: its wait for the server is over at `deadlineAt`. Only the first time counts. */
export async function takeUpRun(
  catalog: Catalog,
  run: ScheduleRun,
  takenAt: string,
  deadlineAt: string,
): Promise<void> {
  await changeRun(catalog.db, run, ['due'], {
    state: 'waiting',
    taken_at: takenAt,
    deadline_at: deadlineAt,
  })
}

export async function noteWaiting(
  catalog: Catalog,
  run: ScheduleRun,
  detail: string,
  holder: string | null,
): Promise<void> {
  await changeRun(catalog.db, run, ['waiting'], { detail, holder })
}

/** False when it was settled meanwhile. */
export const missRun = (
  catalog: Catalog,
  run: ScheduleRun,
  reason: MissedReason,
  detail: string,
): Promise<boolean> => changeRun(catalog.db, run, ['due', 'waiting'], { state: 'missed', reason, detail })

/** The run becomes its operation, in one transaction. False when it was settled meanwhile; then there is no operation. */
export async function startRun(
  catalog: Catalog,
  run: ScheduleRun,
  operation: OperationRecord,
): Promise<boolean> {
  return await catalog.transaction(async tx => {
    const ours = await changeRun(tx, run, ['due', 'waiting'], {
      state: 'started',
      detail: null,
      holder: null,
    })
    if (ours) await insertOperationRow(tx, operation, null, catalog.presence.process)
    return ours
  })
}

/** An operation whose lock turned out to be taken before it ran: the row goes, its run waits again. False: not a schedule's. */
export async function giveRunBack(
  catalog: Catalog,
  operationId: string,
  detail: string,
  holder: string | null,
): Promise<boolean> {
  return await catalog.transaction(async tx => {
    const row = await runs(tx)
      .where('operation_id', '=', operationId)
      .where('triggered_by', 'is', null)
      .executeTakeFirst()
    if (!row) return false
    const { numDeletedRows } = await tx
      .deleteFrom('operations')
      .where('id', '=', operationId)
      .where('state', '=', 'queued')
      .executeTakeFirst()
    if (numDeletedRows > 0n)
      await changeRun(tx, toRun(row), ['started'], { state: 'waiting', detail, holder })
    return true
  })
}

/** A run that somebody asked for now. Its operation has an id of its own. */
export async function recordTriggered(
  catalog: Catalog,
  scheduleId: string,
  operation: { id: string; createdAt: string },
  by: string,
): Promise<void> {
  await catalog.db
    .insertInto('schedule_runs')
    .values({
      ...newRun(scheduleId, operation.createdAt),
      operation_id: operation.id,
      state: 'started',
      taken_at: operation.createdAt,
      triggered_by: by,
    })
    .onConflict(conflict => conflict.doNothing())
    .execute()
}

/** Keeps a schedule's history from growing for ever: settled runs older than the newest `keep` go. */
export async function forgetOldRuns(catalog: Catalog, scheduleId: string, keep: number): Promise<void> {
  const last = await catalog.db
    .selectFrom('schedule_runs')
    .select('due_at')
    .where('schedule_id', '=', scheduleId)
    .orderBy('due_at', 'desc')
    .offset(keep)
    .limit(1)
    .executeTakeFirst()
  if (!last) return
  await catalog.db
    .deleteFrom('schedule_runs')
    .where('schedule_id', '=', scheduleId)
    .where('due_at', '<=', last.due_at)
    .where('state', 'in', ['started', 'missed'])
    .execute()
}

async function changeRun(
  db: CatalogDatabase,
  { scheduleId, dueAt }: ScheduleRun,
  from: readonly RunState[],
  changes: Partial<CatalogTables['schedule_runs']>,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('schedule_runs')
    .set(changes)
    .where('schedule_id', '=', scheduleId)
    .where('due_at', '=', dueAt)
    .where('state', 'in', [...from])
    .executeTakeFirst()
  return numUpdatedRows > 0n
}

const runs = (db: CatalogDatabase) =>
  db
    .selectFrom('schedule_runs')
    .leftJoin('operations', 'operations.id', 'schedule_runs.operation_id')
    .selectAll('schedule_runs')
    .select('operations.state as outcome')

const toRun = (
  row: Selectable<CatalogTables['schedule_runs']> & { outcome: string | null },
): ScheduleRun => ({
  scheduleId: row.schedule_id,
  dueAt: row.due_at,
  operationId: row.operation_id,
  state: row.state as RunState,
  takenAt: row.taken_at,
  deadlineAt: row.deadline_at,
  reason: row.reason as MissedReason | null,
  detail: row.detail,
  holder: row.holder,
  triggeredBy: row.triggered_by,
  outcome: row.outcome as OperationState | null,
})
