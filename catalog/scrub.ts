/** Which copies of backups a scrub looks at: those that were least recently found whole or passed over, as many as its budget allows. */
import type { ScrubInput, ScrubPlan } from '../model/records.ts'
import { provenAt, type Verified } from '../model/verified.ts'
import type { Catalog } from './open.ts'

/** One run looks at so many at most: what it did has to fit into a history. */
const most = 500

/** One that alone is over the budget is taken when its turn comes: it would never be read otherwise. */
export async function planScrub(
  catalog: Catalog,
  { destination, level, budgetBytes }: ScrubInput,
): Promise<ScrubPlan> {
  let query = catalog.db
    .selectFrom('copies')
    .innerJoin('backups', 'backups.id', 'copies.backup_id')
    .select(['backups.id', 'backups.connection', 'backups.stored_bytes', 'backups.started_at'])
    .select(['copies.destination', 'copies.verified', 'copies.passed_over_at'])
    .where('copies.state', '=', 'committed')
  if (destination !== null) query = query.where('copies.destination', '=', destination)
  // Files of no format that is known have nothing to be parsed.
  if (level === 'deep') query = query.where('backups.engine', '!=', '')
  const rows = (await query.execute()).map(row => ({
    backupId: row.id,
    connection: row.connection,
    destination: row.destination,
    bytes: Number(row.stored_bytes),
    startedAt: row.started_at,
    passedOverAt: row.passed_over_at ?? '',
    verified: row.verified === null ? null : (JSON.parse(row.verified) as Verified),
  }))
  // Damage is known already, and whoever mends it verifies that backup.
  const whole = rows.filter(row => row.verified?.ok !== false)
  // What cannot be read is asked for again after all the others: it would use up every budget.
  const last = ({ verified, passedOverAt }: (typeof whole)[number]) => {
    const proven = provenAt(verified, level) ?? ''
    return proven > passedOverAt ? proven : passedOverAt
  }
  whole.sort((a, b) => compare(last(a), last(b)) || compare(a.startedAt, b.startedAt))
  const items: ScrubPlan['items'] = []
  let bytes = 0
  for (const row of whole) {
    // Sizes are asked, not read.
    const cost = level === 'exists' ? 0 : row.bytes
    const full = budgetBytes !== null && items.length > 0 && bytes + cost > budgetBytes
    if (full || items.length === most) break
    bytes += cost
    items.push({
      backupId: row.backupId,
      connection: row.connection,
      destination: row.destination,
      bytes: row.bytes,
    })
  }
  return { items, bytes, backups: rows.length, knownDamaged: rows.length - whole.length }
}

export async function recordPassedOver(
  catalog: Catalog,
  backupId: string,
  destination: string,
): Promise<void> {
  await catalog.db
    .updateTable('copies')
    .set({ passed_over_at: new Date().toISOString() })
    .where('backup_id', '=', backupId)
    .where('destination', '=', destination)
    .execute()
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
