import type { ExpressionBuilder, Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { BackupFacts, BackupRecord, CopyRecord, FoundCopy } from '../model/records.ts'
import type { BackupType, EngineName, MethodName } from '../model/types.ts'
import { copiesOf, putCopy } from './copies.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

/** Upserts the backup by its id and these copies of it. Answers whether one of them is new here. */
export async function recordBackup(
  catalog: Catalog,
  backup: BackupFacts,
  copies: readonly FoundCopy[],
): Promise<'added' | 'known'> {
  return await catalog.transaction(async tx => {
    const known = await tx
      .selectFrom('backups')
      .select('operation_id')
      .where('id', '=', backup.id)
      .executeTakeFirst()
    const row = {
      connection: backup.connection,
      engine: backup.engine,
      method: backup.method,
      type: backup.type,
      operation_id: backup.operationId ?? known?.operation_id ?? null,
      server_identity: backup.serverIdentity,
      database_name: backup.database,
      encrypted: backup.encrypted ? 1 : 0,
      tool_bytes: backup.toolBytes,
      stored_bytes: backup.storedBytes,
      started_at: backup.startedAt,
      ended_at: backup.endedAt,
      labels: JSON.stringify(backup.labels),
      manifest: JSON.stringify(backup.manifest),
    }
    await tx
      .insertInto('backups')
      .values({ id: backup.id, ...row })
      .onConflict(conflict => conflict.column('id').doUpdateSet(row))
      .execute()
    let added = false
    for (const copy of copies) added = (await putCopy(tx, backup.id, copy)) || added
    return added ? 'added' : 'known'
  })
}

/** Throws `backup.not-found`. */
export async function readBackup(catalog: Catalog, id: string): Promise<BackupRecord> {
  const found = await findBackup(catalog, id)
  if (!found) throw new HoldfastError('backup.not-found', `There is no backup ${id}.`)
  return found
}

export async function findBackup(catalog: Catalog, id: string): Promise<BackupRecord | undefined> {
  const row = await catalog.db.selectFrom('backups').selectAll().where('id', '=', id).executeTakeFirst()
  return row && toBackup(row, (await copiesOf(catalog.db, [id])).get(id) ?? [])
}

/** Newest first. */
export async function listBackups(
  catalog: Catalog,
  filter: { connection?: string; connections?: readonly string[]; committed?: boolean },
  after: { startedAt: string; id: string } | undefined,
  limit: number,
): Promise<BackupRecord[]> {
  let query = catalog.db.selectFrom('backups').selectAll()
  if (filter.connection !== undefined) query = query.where('connection', '=', filter.connection)
  if (filter.connections !== undefined) query = query.where('connection', 'in', filter.connections)
  if (filter.committed) query = query.where(({ exists, selectFrom }) => exists(committedCopy(selectFrom)))
  if (after !== undefined) {
    query = query.where(({ eb, and, or }) =>
      or([
        eb('started_at', '<', after.startedAt),
        and([eb('started_at', '=', after.startedAt), eb('id', '<', after.id)]),
      ]),
    )
  }
  const rows = await query.orderBy('started_at', 'desc').orderBy('id', 'desc').limit(limit).execute()
  const ids = rows.map(row => row.id)
  const copies = await copiesOf(catalog.db, ids)
  return rows.map(row => toBackup(row, copies.get(row.id) ?? []))
}

const committedCopy = (selectFrom: ExpressionBuilder<CatalogTables, 'backups'>['selectFrom']) =>
  selectFrom('copies')
    .select('copies.backup_id')
    .whereRef('copies.backup_id', '=', 'backups.id')
    .where('copies.state', '=', 'committed')

/** Names of the connections that there are backups of, whether they are still there or not. */
export async function connectionsOfBackups(catalog: Catalog): Promise<string[]> {
  const rows = await catalog.db
    .selectFrom('backups')
    .select('connection')
    .distinct()
    .where('foreign_file', 'is', null)
    .where(({ exists, selectFrom }) => exists(committedCopy(selectFrom)))
    .orderBy('connection')
    .execute()
  return rows.map(row => row.connection)
}

function toBackup(row: Selectable<CatalogTables['backups']>, copies: CopyRecord[]): BackupRecord {
  return {
    id: row.id,
    connection: row.connection,
    engine: row.engine as EngineName,
    method: row.method as MethodName,
    type: row.type as BackupType,
    operationId: row.operation_id,
    serverIdentity: row.server_identity,
    database: row.database_name,
    state: copies.some(copy => copy.state === 'committed') ? 'committed' : 'deleted',
    encrypted: row.encrypted === 1,
    toolBytes: Number(row.tool_bytes),
    storedBytes: Number(row.stored_bytes),
    startedAt: row.started_at,
    endedAt: row.ended_at,
    labels: JSON.parse(row.labels),
    manifest: JSON.parse(row.manifest),
    foreign: row.foreign_file === null ? null : JSON.parse(row.foreign_file),
    copies,
  }
}
