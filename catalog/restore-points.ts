/**
 * Named places in the log. The row comes before the place: a server takes any number of one name, so each try is told a name of its
 * own, and one whose answer was lost is made again under another.
 */
import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { RestorePointView } from '../model/recovery-views.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

/** What the server said of it. */
export interface MadeRestorePoint {
  systemIdentifier: string
  timeline: number
  lsn: string
  createdAt: string
}

/** Before it is made. Throws `request.exists` for one that is there; one that was never made is begun again. */
export async function beginRestorePoint(
  catalog: Catalog,
  asked: {
    connection: string
    name: string
    serverName: string
    by: string
    note: string | null
    keepUntil: string | null
  },
): Promise<void> {
  await catalog.transaction(async tx => {
    const there = await tx
      .selectFrom('restore_points')
      .select('lsn')
      .where('connection', '=', asked.connection)
      .where('name', '=', asked.name)
      .executeTakeFirst()
    if (there && there.lsn !== null) {
      throw new HoldfastError(
        'request.exists',
        `There is a restore point named ${asked.name} of ${asked.connection} already.`,
      )
    }
    const row = {
      server_name: asked.serverName,
      asked_at: new Date().toISOString(),
      asked_by: asked.by,
      note: asked.note,
      keep_until: asked.keepUntil,
    }
    await tx
      .insertInto('restore_points')
      .values({ connection: asked.connection, name: asked.name, ...row })
      .onConflict(conflict => conflict.columns(['connection', 'name']).doUpdateSet(row))
      .execute()
  })
}

/** Of the try that `serverName` names; a later one has taken its place otherwise, and undefined is returned. */
export async function recordRestorePoint(
  catalog: Catalog,
  { connection, name, serverName }: { connection: string; name: string; serverName: string },
  made: MadeRestorePoint,
): Promise<RestorePointView | undefined> {
  return await catalog.transaction(async tx => {
    await tx
      .updateTable('restore_points')
      .set({
        system_identifier: made.systemIdentifier,
        timeline: made.timeline,
        lsn: made.lsn,
        created_at: made.createdAt,
      })
      .where('connection', '=', connection)
      .where('name', '=', name)
      .where('server_name', '=', serverName)
      .execute()
    const row = await tx
      .selectFrom('restore_points')
      .selectAll()
      .where('connection', '=', connection)
      .where('name', '=', name)
      .where('server_name', '=', serverName)
      .executeTakeFirst()
    return row && toView(row)
  })
}

/** Those that were made, the newest first. */
export async function listRestorePoints(catalog: Catalog, connection: string): Promise<RestorePointView[]> {
  const rows = await catalog.db
    .selectFrom('restore_points')
    .selectAll()
    .where('connection', '=', connection)
    .where('lsn', 'is not', null)
    .orderBy('created_at', 'desc')
    .orderBy('name')
    .execute()
  return rows.map(toView)
}

/** `keepUntil` null: what it needs is not kept for it any more. Throws `request.not-found`. */
export async function keepRestorePoint(
  catalog: Catalog,
  { name: connection }: { name: string },
  name: string,
  keepUntil: string | null,
): Promise<RestorePointView> {
  const row = await catalog.db
    .updateTable('restore_points')
    .set({ keep_until: keepUntil })
    .where('connection', '=', connection)
    .where('name', '=', name)
    .where('lsn', 'is not', null)
    .returningAll()
    .executeTakeFirst()
  if (row) return toView(row)
  throw noSuchPoint(connection, name)
}

/** Also one of which nobody knows whether it was made. Throws `request.not-found`. */
export async function removeRestorePoint(
  catalog: Catalog,
  { name: connection }: { name: string },
  name: string,
): Promise<void> {
  const gone = await catalog.db
    .deleteFrom('restore_points')
    .where('connection', '=', connection)
    .where('name', '=', name)
    .executeTakeFirst()
  if (gone.numDeletedRows === 0n) throw noSuchPoint(connection, name)
}

const noSuchPoint = (connection: string, name: string) =>
  new HoldfastError(
    'request.not-found',
    `There is no restore point named ${name} of connection ${connection}.`,
  )

const toView = (row: Selectable<CatalogTables['restore_points']>): RestorePointView => ({
  connection: row.connection,
  name: row.name,
  serverName: row.server_name,
  systemIdentifier: row.system_identifier ?? '',
  timeline: row.timeline ?? 0,
  lsn: row.lsn ?? '',
  createdAt: row.created_at ?? '',
  by: row.asked_by,
  note: row.note,
  keepUntil: row.keep_until,
})
