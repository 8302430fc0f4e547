import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { Overlap, ScheduleKind, ScheduleRecord } from '../model/schedules.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

/** Throws `request.exists` when the name is taken. */
export async function insertSchedule(catalog: Catalog, schedule: ScheduleRecord): Promise<void> {
  await catalog.transaction(async tx => {
    const { numInsertedOrUpdatedRows } = await tx
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
    await putDestinations(tx, schedule)
  })
}

/** What stands in for them is there, too: a destination that a schedule counts on is not removed. */
async function putDestinations(
  tx: CatalogDatabase,
  { id, destinations, options }: ScheduleRecord,
): Promise<void> {
  await tx.deleteFrom('schedule_destinations').where('schedule_id', '=', id).execute()
  const failover = 'failover' in options ? options.failover : undefined
  const rows = [
    ...destinations.map((destination, position) => ({ schedule_id: id, destination, position })),
    ...(failover ? [{ schedule_id: id, destination: failover, position: null }] : []),
  ]
  if (rows.length > 0) await tx.insertInto('schedule_destinations').values(rows).execute()
}

/** What an edit may change. */
const columnsOf = (schedule: ScheduleRecord) => ({
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
export async function replaceSchedule(tx: CatalogDatabase, schedule: ScheduleRecord): Promise<void> {
  await putDestinations(tx, schedule)
  await tx
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
  return row && toSchedule(row, await destinationsOf(db, row.id))
}

export async function listSchedules(catalog: Catalog): Promise<ScheduleRecord[]> {
  const rows = await catalog.db.selectFrom('schedules').selectAll().orderBy('name').execute()
  const destinations = Map.groupBy(await destinationRows(catalog.db).execute(), row => row.schedule_id)
  return rows.map(row => toSchedule(row, destinations.get(row.id) ?? []))
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
  const rows = await ('connection' in what
    ? db.selectFrom('schedules').select('name').where('connection', '=', what.connection)
    : db
        .selectFrom('schedules')
        .innerJoin('schedule_destinations', 'schedule_destinations.schedule_id', 'schedules.id')
        .select('schedules.name')
        .where('schedule_destinations.destination', '=', what.destination)
  )
    .orderBy('name')
    .execute()
  return rows.map(row => row.name)
}

const destinationRows = (db: CatalogDatabase) =>
  db
    .selectFrom('schedule_destinations')
    .select(['schedule_id', 'destination'])
    .where('position', 'is not', null)
    .orderBy('schedule_id')
    .orderBy('position')

const destinationsOf = (db: CatalogDatabase, id: string) =>
  destinationRows(db).where('schedule_id', '=', id).execute()

const toSchedule = (
  row: Selectable<CatalogTables['schedules']>,
  destinations: readonly { destination: string }[],
): ScheduleRecord => ({
  id: row.id,
  name: row.name,
  kind: row.kind as ScheduleKind,
  connection: row.connection,
  destinations: destinations.map(({ destination }) => destination),
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
