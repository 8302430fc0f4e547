/**
 * Pins: which backups open operations use or make, and where. Put with the operation, taken away when it closes, in the same
 * transactions: whoever wants something gone asks for them within its own.
 */
import type { OperationRecord } from '../model/records.ts'
import type { CatalogDatabase } from './dialect.ts'

export async function pin(tx: CatalogDatabase, { id, backupId, destination, input }: OperationRecord) {
  // About the whole installation: it finds out itself what it uses.
  if (backupId === null || destination === null) return
  const destinations = new Set([
    destination,
    ...('copies' in input ? input.copies : []),
    ...('destinations' in input ? [...input.destinations, ...Object.values(input.failover)] : []),
  ])
  const values = [...destinations].map(one => ({
    operation_id: id,
    backup_id: backupId,
    destination: one,
  }))
  await tx.insertInto('pins').values(values).execute()
}

export async function unpin(tx: CatalogDatabase, operationId: string): Promise<void> {
  await tx.deleteFrom('pins').where('operation_id', '=', operationId).execute()
}

/** Open operations that use or make something there. */
export async function pinnersOf(db: CatalogDatabase, destination: string): Promise<string[]> {
  const rows = await db
    .selectFrom('pins')
    .select('operation_id')
    .distinct()
    .where('destination', '=', destination)
    .orderBy('operation_id')
    .execute()
  return rows.map(row => row.operation_id)
}

/** Somebody is at work on this backup there, or it is to be copied there: what lies in its folder may be theirs. */
export async function isInUse(db: CatalogDatabase, destination: string, backupId: string): Promise<boolean> {
  const pinned = await db
    .selectFrom('pins')
    .select('backup_id')
    .where('destination', '=', destination)
    .where('backup_id', '=', backupId)
    .executeTakeFirst()
  if (pinned) return true
  const wanted = await db
    .selectFrom('copies')
    .select('backup_id')
    .where('destination', '=', destination)
    .where('backup_id', '=', backupId)
    .where('state', '=', 'missing')
    .executeTakeFirst()
  return wanted !== undefined
}

/** When the oldest open operation began that uses or makes something there. */
export async function oldestOpenSince(db: CatalogDatabase, destination: string): Promise<string | undefined> {
  const row = await db
    .selectFrom('pins')
    .innerJoin('operations', 'operations.id', 'pins.operation_id')
    .select('operations.created_at')
    .where('pins.destination', '=', destination)
    .orderBy('operations.created_at')
    .limit(1)
    .executeTakeFirst()
  return row?.created_at
}
