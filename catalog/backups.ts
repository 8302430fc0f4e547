import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { BackupRecord } from '../model/records.ts'
import type { BackupType, EngineName, MethodName } from '../model/types.ts'
import { afterLook, type Verified } from '../model/verified.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

/** Upserts by id. A deletion, and what a verify found, are not undone by a late or rebuilt row. */
export async function recordBackup(catalog: Catalog, backup: BackupRecord): Promise<'added' | 'known'> {
  return await catalog.transaction(async tx => {
    const known = await tx
      .selectFrom('backups')
      .select(['state', 'operation_id', 'verified'])
      .where('id', '=', backup.id)
      .executeTakeFirst()
    const row = {
      connection: backup.connection,
      engine: backup.engine,
      method: backup.method,
      type: backup.type,
      destination: backup.destination,
      operation_id: backup.operationId ?? known?.operation_id ?? null,
      server_identity: backup.serverIdentity,
      database_name: backup.database,
      state: known?.state === 'deleted' ? 'deleted' : backup.state,
      encrypted: backup.encrypted ? 1 : 0,
      tool_bytes: backup.toolBytes,
      stored_bytes: backup.storedBytes,
      started_at: backup.startedAt,
      ended_at: backup.endedAt,
      labels: JSON.stringify(backup.labels),
      verified: backup.verified ? JSON.stringify(backup.verified) : (known?.verified ?? null),
      manifest: JSON.stringify(backup.manifest),
    }
    await tx
      .insertInto('backups')
      .values({ id: backup.id, ...row })
      .onConflict(conflict => conflict.column('id').doUpdateSet(row))
      .execute()
    return known ? 'known' : 'added'
  })
}

/** Throws `backup.not-found`. */
export async function recordVerification(catalog: Catalog, id: string, found: Verified): Promise<void> {
  await catalog.transaction(async tx => {
    const known = await tx.selectFrom('backups').select('verified').where('id', '=', id).executeTakeFirst()
    if (!known) throw new HoldfastError('backup.not-found', `There is no backup ${id}.`)
    const verified = afterLook(known.verified === null ? null : JSON.parse(known.verified), found)
    await tx
      .updateTable('backups')
      .set({ verified: JSON.stringify(verified) })
      .where('id', '=', id)
      .execute()
  })
}

/** The destination says so: its marker is there. */
export async function markDeleted(catalog: Catalog, id: string, destination: string): Promise<void> {
  await catalog.db
    .updateTable('backups')
    .set({ state: 'deleted' })
    .where('id', '=', id)
    .where('destination', '=', destination)
    .execute()
}

/** Throws `backup.not-found`. */
export async function readBackup(catalog: Catalog, id: string): Promise<BackupRecord> {
  const found = await findBackup(catalog, id)
  if (!found) throw new HoldfastError('backup.not-found', `There is no backup ${id}.`)
  return found
}

export async function findBackup(catalog: Catalog, id: string): Promise<BackupRecord | undefined> {
  const row = await catalog.db.selectFrom('backups').selectAll().where('id', '=', id).executeTakeFirst()
  return row && toBackup(row)
}

/** Newest first. */
export async function listBackups(
  catalog: Catalog,
  filter: { connection?: string; connections?: readonly string[]; state?: BackupRecord['state'] },
  after: { startedAt: string; id: string } | undefined,
  limit: number,
): Promise<BackupRecord[]> {
  let query = catalog.db.selectFrom('backups').selectAll()
  if (filter.connection !== undefined) query = query.where('connection', '=', filter.connection)
  if (filter.connections !== undefined) query = query.where('connection', 'in', filter.connections)
  if (filter.state !== undefined) query = query.where('state', '=', filter.state)
  if (after !== undefined) {
    query = query.where(({ eb, and, or }) =>
      or([
        eb('started_at', '<', after.startedAt),
        and([eb('started_at', '=', after.startedAt), eb('id', '<', after.id)]),
      ]),
    )
  }
  const rows = await query.orderBy('started_at', 'desc').orderBy('id', 'desc').limit(limit).execute()
  return rows.map(toBackup)
}

/** Names of the connections that there are backups of, whether they are still there or not. */
export async function connectionsOfBackups(catalog: Catalog): Promise<string[]> {
  const rows = await catalog.db
    .selectFrom('backups')
    .select('connection')
    .distinct()
    .where('state', '=', 'committed')
    .orderBy('connection')
    .execute()
  return rows.map(row => row.connection)
}

function toBackup(row: Selectable<CatalogTables['backups']>): BackupRecord {
  return {
    id: row.id,
    connection: row.connection,
    engine: row.engine as EngineName,
    method: row.method as MethodName,
    type: row.type as BackupType,
    destination: row.destination,
    operationId: row.operation_id,
    serverIdentity: row.server_identity,
    database: row.database_name,
    state: row.state as BackupRecord['state'],
    encrypted: row.encrypted === 1,
    toolBytes: Number(row.tool_bytes),
    storedBytes: Number(row.stored_bytes),
    startedAt: row.started_at,
    endedAt: row.ended_at,
    labels: JSON.parse(row.labels),
    verified: row.verified === null ? null : JSON.parse(row.verified),
    manifest: JSON.parse(row.manifest),
  }
}
