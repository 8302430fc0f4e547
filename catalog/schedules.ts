import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { Overlap, ScheduleKind, ScheduleRecord } from '../model/schedules.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

/** Throws `request.exists` when the name is taken. */
export async function insertSchedule(catalog: Catalog, schedule: ScheduleRecord): Promise<void> {
  const { numInsertedOrUpdatedRows } = await catalog.db
    .insertInto('schedules')
    .values({
      id: schedule.id,
      name: schedule.name,
      kind: schedule.kind,
      connection: schedule.connection,
      ...columnsOf(schedule),
      revision: schedule.revision,
      checked_until: schedule.checkedUntil,
      carried: schedule.carried,
      drift: null,
      request_key: schedule.requestKey,
      created_at: schedule.createdAt,
    })
    .onConflict(conflict => conflict.column('name').doNothing())
    .executeTakeFirst()
  if (numInsertedOrUpdatedRows === 0n) {
    throw new HoldfastError('request.exists', `There is a schedule named ${schedule.name} already.`)
  }
}

/** What an edit may change. */
const columnsOf = (schedule: ScheduleRecord) => ({
  destination: schedule.destination,
  options: JSON.stringify(schedule.options),
  spec: JSON.stringify(schedule.spec),
  jitter_seconds: schedule.jitterSeconds,
  overlap: schedule.overlap,
  catch_up_seconds: schedule.catchUpSeconds,
  start_deadline_seconds: schedule.startDeadlineSeconds,
  start_at: schedule.startAt,
  end_at: schedule.endAt,
  paused: schedule.paused ? 1 : 0,
  note: schedule.note,
  updated_at: schedule.updatedAt,
})

/** Writes an edited schedule as its next revision. */
export async function replaceSchedule(db: CatalogDatabase, schedule: ScheduleRecord): Promise<void> {
  await db
    .updateTable('schedules')
    .set({ ...columnsOf(schedule), revision: schedule.revision + 1, checked_until: schedule.checkedUntil })
    .where('id', '=', schedule.id)
    .execute()
}

/** What Temporal was told, and how it differed from what it had been told before. Nothing of the schedule changes. */
export async function noteCarried(
  catalog: Catalog,
  id: string,
  carried: string | null,
  drift?: ScheduleRecord['drift'],
): Promise<void> {
  await catalog.db
    .updateTable('schedules')
    .set({ carried, ...(drift ? { drift: JSON.stringify(drift) } : {}) })
    .where('id', '=', id)
    .execute()
}

/** Throws `request.not-found`. */
export async function readSchedule(catalog: Catalog, name: string): Promise<ScheduleRecord> {
  const found = await findSchedule(catalog.db, { name })
  if (!found) throw new HoldfastError('request.not-found', `There is no schedule named ${name}.`)
  return found
}

export async function findSchedule(
  db: CatalogDatabase,
  which: { name: string } | { id: string },
): Promise<ScheduleRecord | undefined> {
  const query = db.selectFrom('schedules').selectAll()
  const row = await ('id' in which
    ? query.where('id', '=', which.id)
    : query.where('name', '=', which.name)
  ).executeTakeFirst()
  return row && toSchedule(row)
}

export async function listSchedules(catalog: Catalog): Promise<ScheduleRecord[]> {
  const rows = await catalog.db.selectFrom('schedules').selectAll().orderBy('name').execute()
  return rows.map(toSchedule)
}

/** Forgets a schedule and what became of its due times; the operations stay. Throws `request.not-found`. */
export async function removeSchedule(catalog: Catalog, name: string): Promise<void> {
  const { numDeletedRows } = await catalog.db
    .deleteFrom('schedules')
    .where('name', '=', name)
    .executeTakeFirst()
  if (numDeletedRows === 0n) {
    throw new HoldfastError('request.not-found', `There is no schedule named ${name}.`)
  }
}

/** Names of schedules that use a connection or a destination. */
export async function schedulesUsing(
  db: CatalogDatabase,
  what: { connection: string } | { destination: string },
): Promise<string[]> {
  const query = db.selectFrom('schedules').select('name').orderBy('name')
  const rows = await ('connection' in what
    ? query.where('connection', '=', what.connection)
    : query.where('destination', '=', what.destination)
  ).execute()
  return rows.map(row => row.name)
}

const toSchedule = (row: Selectable<CatalogTables['schedules']>): ScheduleRecord => ({
  id: row.id,
  name: row.name,
  kind: row.kind as ScheduleKind,
  connection: row.connection,
  destination: row.destination,
  options: JSON.parse(row.options),
  spec: JSON.parse(row.spec),
  jitterSeconds: row.jitter_seconds,
  overlap: row.overlap as Overlap,
  catchUpSeconds: row.catch_up_seconds,
  startDeadlineSeconds: row.start_deadline_seconds,
  startAt: row.start_at,
  endAt: row.end_at,
  paused: row.paused === 1,
  note: row.note,
  revision: row.revision,
  checkedUntil: row.checked_until,
  carried: row.carried,
  drift: row.drift === null ? null : JSON.parse(row.drift),
  requestKey: row.request_key,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
})
