/** Which copies are old enough for a colder class of their store, and into which one they were moved. */
import { dueTier, tierList } from '../model/keeping.ts'
import type { TierMove } from '../model/records.ts'
import { readDestination } from './destinations.ts'
import { keptBackups } from './kept-points.ts'
import type { Catalog } from './open.ts'
import { isInUse } from './pins.ts'

/** By their age then; what is known to be there already, what open operations use, and what kept restore points need is left out. The oldest first. */
export async function dueMoves(catalog: Catalog, name: string, asOf: string): Promise<TierMove[]> {
  const { settings } = await readDestination(catalog, name)
  const parsed = tierList.safeParse(settings.tiers)
  if (!parsed.success) return []
  const rows = await catalog.db
    .selectFrom('copies')
    .innerJoin('backups', 'backups.id', 'copies.backup_id')
    .select(['backups.id', 'backups.connection', 'backups.stored_bytes'])
    .select(['copies.committed_at', 'copies.tier'])
    .where('copies.state', '=', 'committed')
    .where('copies.destination', '=', name)
    .orderBy('copies.committed_at')
    .orderBy('backups.id')
    .execute()
  const moves: TierMove[] = []
  const now = new Date().toISOString()
  const kept = await keptBackups(catalog, now)
  for (const { id, connection, stored_bytes, committed_at, tier } of rows) {
    const due = committed_at === null ? undefined : dueTier(parsed.data, committed_at, asOf)
    if (
      due === undefined ||
      due.class === tier ||
      kept.has(id) ||
      (await isInUse(catalog.db, { destination: name, backupId: id, now }))
    )
      continue
    moves.push({ backupId: id, connection, bytes: Number(stored_bytes), to: due.class, colder: due.colder })
  }
  return moves
}

/** Asked right before it is moved: an operation may have begun since. */
export async function mayMove(catalog: Catalog, destination: string, backupId: string): Promise<boolean> {
  const copy = await catalog.db
    .selectFrom('copies')
    .select('state')
    .where('backup_id', '=', backupId)
    .where('destination', '=', destination)
    .executeTakeFirst()
  const now = new Date().toISOString()
  if (copy?.state !== 'committed' || (await isInUse(catalog.db, { destination, backupId, now }))) return false
  return !(await keptBackups(catalog, now)).has(backupId)
}

/** null: where it lies is to be looked at again. */
export async function recordTier(
  catalog: Catalog,
  backupId: string,
  destination: string,
  tier: string | null,
): Promise<void> {
  await catalog.db
    .updateTable('copies')
    .set({ tier })
    .where('backup_id', '=', backupId)
    .where('destination', '=', destination)
    .execute()
}
