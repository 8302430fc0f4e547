/** Servers whose log is streamed. The row is the wish: an empty Temporal gets its workflow from it again. */
import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { LogStreamRecord, LogStreamState, SlotEnd } from '../model/log-stream.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

export async function findLogStream(
  { db }: { db: CatalogDatabase },
  connection: string,
): Promise<LogStreamRecord | undefined> {
  const row = await db
    .selectFrom('log_streams')
    .selectAll()
    .where('connection', '=', connection)
    .executeTakeFirst()
  return row && toRecord(row)
}

/** Throws `request.not-found`. */
export async function readLogStream(catalog: Catalog, connection: string): Promise<LogStreamRecord> {
  const found = await findLogStream(catalog, connection)
  if (!found) throw none(connection)
  return found
}

export async function listLogStreams({ db }: { db: CatalogDatabase }): Promise<LogStreamRecord[]> {
  const rows = await db.selectFrom('log_streams').selectAll().orderBy('connection').execute()
  return rows.map(toRecord)
}

export type WantedStream = Pick<
  LogStreamRecord,
  'connection' | 'destinations' | 'recipients' | 'slot' | 'spoolLimitBytes' | 'slotLimitBytes'
>

/**
 * From now on it is to run as this says, whether it was there or not. Throws `request.in-use` where it has another slot: that
 * one would keep the server's log for ever.
 */
export async function wantLogStream(catalog: Catalog, wanted: WantedStream): Promise<LogStreamRecord> {
  return await catalog.transaction(async tx => {
    const known = await findLogStream({ db: tx }, wanted.connection)
    if (known && known.slot !== wanted.slot) {
      throw new HoldfastError(
        'request.in-use',
        `The log of ${wanted.connection} is streamed by the slot ${known.slot}, which keeps the log of the server.`,
        { hint: `First: holdfast wal stream stop ${wanted.connection} --drop-slot` },
      )
    }
    for (const name of wanted.destinations) {
      const there = await tx
        .selectFrom('destinations')
        .select('name')
        .where('name', '=', name)
        .executeTakeFirst()
      if (!there) throw new HoldfastError('request.not-found', `There is no destination named ${name}.`)
    }
    const columns = {
      destinations: JSON.stringify(wanted.destinations),
      recipients: JSON.stringify(wanted.recipients),
      slot: wanted.slot,
      spool_limit_bytes: wanted.spoolLimitBytes,
      slot_limit_bytes: wanted.slotLimitBytes,
      wanted: 'running',
      slot_end: 'keep',
      stopped_at: null,
    }
    const createdAt = new Date().toISOString()
    await tx
      .insertInto('log_streams')
      .values({ connection: wanted.connection, ...columns, state: null, created_at: createdAt })
      .onConflict(conflict => conflict.column('connection').doUpdateSet(columns))
      .execute()
    return { ...wanted, wanted: 'running', slotEnd: 'keep', stoppedAt: null, ...stands(known, createdAt) }
  })
}

const stands = (known: LogStreamRecord | undefined, createdAt: string) => ({
  state: known?.state ?? null,
  createdAt: known?.createdAt ?? createdAt,
})

/** From now on it is to be stopped. Throws `request.not-found`. */
export async function stopLogStream(
  catalog: Catalog,
  connection: string,
  slotEnd: SlotEnd,
): Promise<LogStreamRecord> {
  return await catalog.transaction(async tx => {
    const known = await findLogStream({ db: tx }, connection)
    if (!known) throw none(connection)
    // One that was stopped and is to lose its slot now has something to do again.
    const stoppedAt = slotEnd === known.slotEnd ? known.stoppedAt : null
    await tx
      .updateTable('log_streams')
      .set({ wanted: 'stopped', slot_end: slotEnd, stopped_at: stoppedAt })
      .where('connection', '=', connection)
      .execute()
    return { ...known, wanted: 'stopped', slotEnd, stoppedAt }
  })
}

/** Answers what is wanted now; null: there is none any more. */
export async function noteLogStream(
  catalog: Catalog,
  connection: string,
  state: LogStreamState,
): Promise<LogStreamRecord | null> {
  await catalog.db
    .updateTable('log_streams')
    .set({ state: JSON.stringify(state) })
    .where('connection', '=', connection)
    .execute()
  return (await findLogStream(catalog, connection)) ?? null
}

/** It was stopped as wanted: what has no slot any more is forgotten. One that is wanted again meanwhile stays. */
export async function endLogStream(catalog: Catalog, connection: string, slotEnd: SlotEnd): Promise<void> {
  await catalog.transaction(async tx => {
    const known = await findLogStream({ db: tx }, connection)
    if (known?.wanted !== 'stopped' || known.slotEnd !== slotEnd) return
    if (slotEnd === 'keep') {
      await tx
        .updateTable('log_streams')
        .set({ stopped_at: new Date().toISOString() })
        .where('connection', '=', connection)
        .execute()
    } else await tx.deleteFrom('log_streams').where('connection', '=', connection).execute()
  })
}

/** Connections whose log goes to this destination, or is to. */
export const streamsTo = async (db: CatalogDatabase, destination: string): Promise<string[]> =>
  (await listLogStreams({ db }))
    .filter(({ destinations }) => destinations.includes(destination))
    .map(({ connection }) => connection)

const none = (connection: string) =>
  new HoldfastError('request.not-found', `The log of ${connection} is not streamed.`, {
    hint: `holdfast wal stream start ${connection} --to DESTINATION`,
  })

const toRecord = (row: Selectable<CatalogTables['log_streams']>): LogStreamRecord => ({
  connection: row.connection,
  destinations: JSON.parse(row.destinations),
  recipients: JSON.parse(row.recipients),
  slot: row.slot,
  spoolLimitBytes: row.spool_limit_bytes,
  slotLimitBytes: row.slot_limit_bytes,
  wanted: row.wanted as LogStreamRecord['wanted'],
  slotEnd: row.slot_end as SlotEnd,
  stoppedAt: row.stopped_at,
  state: row.state === null ? null : JSON.parse(row.state),
  createdAt: row.created_at,
})
