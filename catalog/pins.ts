/**
 * Pins: which backups open operations use or make, and where; of a recovery also where its log lies. Put with the operation, taken away when it closes, in the same
 * transactions: whoever wants something gone asks for them within its own.
 */
import { HoldfastError } from '../model/errors.ts'
import type { OperationRecord } from '../model/records.ts'
import type { CatalogDatabase } from './dialect.ts'

export async function pin(tx: CatalogDatabase, { id, kind, backupId, destination, input }: OperationRecord) {
  // About the whole installation: it finds out itself what it uses.
  if (backupId === null || destination === null) return
  if (kind === 'copy') await expectUnclaimed(tx, backupId, destination)
  const destinations = new Set([
    destination,
    ...('copies' in input ? input.copies : []),
    ...('recovery' in input && input.recovery ? [input.recovery.archive] : []),
    ...('destinations' in input ? [...input.destinations, ...Object.values(input.failover)] : []),
  ])
  const values = [...destinations].map(one => ({
    operation_id: id,
    backup_id: backupId,
    destination: one,
  }))
  const needed = [
    ...('parents' in input ? (input.parents ?? []) : []),
    ...('parent' in input ? [input.parent] : []),
  ]
  for (const { backupId: parent, copies } of needed.filter(one => one !== undefined)) {
    values.push(...copies.map(one => ({ operation_id: id, backup_id: parent, destination: one })))
  }
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
export async function isInUse(
  db: CatalogDatabase,
  {
    destination,
    backupId,
    now,
    but,
  }: {
    destination: string
    backupId: string
    now: string
    /** The operation that asks, where it may have claimed it itself. */
    but?: string
  },
): Promise<boolean> {
  const pinned = await db
    .selectFrom('pins')
    .select('backup_id')
    .where('destination', '=', destination)
    .where('backup_id', '=', backupId)
    .where('operation_id', '!=', but ?? '')
    .executeTakeFirst()
  if (pinned) return true
  // One whose time is over is copied by nobody any more, unless somebody asks for it anew.
  const wanted = await db
    .selectFrom('copies')
    .select('backup_id')
    .where('destination', '=', destination)
    .where('backup_id', '=', backupId)
    .where('state', '=', 'missing')
    .where('wanted_until', '>', now)
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
    .where('operations.kind', '!=', 'sweep')
    .orderBy('operations.created_at')
    .limit(1)
    .executeTakeFirst()
  return row?.created_at
}

/**
 * What a sweep has claimed it may be removing right now. Asked with the row of whoever is to write there, in its transaction.
 * Throws `operation.conflict`.
 */
async function expectUnclaimed(tx: CatalogDatabase, backupId: string, destination: string): Promise<void> {
  const sweep = await tx
    .selectFrom('pins')
    .innerJoin('operations', 'operations.id', 'pins.operation_id')
    .select('operations.id')
    .where('pins.destination', '=', destination)
    .where('pins.backup_id', '=', backupId)
    .where('operations.kind', '=', 'sweep')
    .executeTakeFirst()
  if (!sweep) return
  throw new HoldfastError(
    'operation.conflict',
    `Sweep ${sweep.id} is removing what is left of backup ${backupId} at ${destination}.`,
    { hint: 'Ask again in a moment; a sweep that stands still keeps it: resume or cancel that.' },
  )
}
