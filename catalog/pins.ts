/**
 * Pins: which backups open operations use or make, and where. Put with the operation, taken away when it closes, in the same
 * transactions: whoever wants something gone asks for them within its own.
 */
import type { OperationRecord } from '../model/records.ts'
import type { CatalogDatabase } from './dialect.ts'

export async function pin(tx: CatalogDatabase, { id, backupId, destination, input }: OperationRecord) {
  // About the whole installation: it finds out itself what it uses.
  if (backupId === null || destination === null) return
  const destinations = new Set([destination, ...('copies' in input ? input.copies : [])])
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
