/** Where backups lie: one row for each backup and destination. A backup exists while one copy of it does. */
import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { CopyRecord, FoundCopy } from '../model/records.ts'
import { afterLook, type Verified } from '../model/verified.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

/** Upserts. A deletion, and what a verify found, are not undone by a late or rebuilt row. Answers whether it is new. */
export async function putCopy(tx: CatalogDatabase, backupId: string, found: FoundCopy): Promise<boolean> {
  const { destination, committedAt } = found
  const known = await tx
    .selectFrom('copies')
    .select('state')
    .where('backup_id', '=', backupId)
    .where('destination', '=', destination)
    .executeTakeFirst()
  if (known?.state === 'deleted') return false
  // What was there may be away for the moment; only its store says that it is gone.
  if (committedAt === null && known?.state === 'committed') return false
  const there =
    committedAt === null
      ? { state: 'missing', committed_at: null, wanted_until: found.wantedUntil, trouble: found.trouble }
      : { state: 'committed', committed_at: committedAt, wanted_until: null, trouble: null }
  await tx
    .insertInto('copies')
    .values({ backup_id: backupId, destination, verified: null, operation_id: null, ...there })
    .onConflict(conflict => conflict.columns(['backup_id', 'destination']).doUpdateSet(there))
    .execute()
  return committedAt !== null && known?.state !== 'committed'
}

/** Of these backups, in the order in which they are to be used. */
export async function copiesOf(
  db: CatalogDatabase,
  backupIds: readonly string[],
): Promise<Map<string, CopyRecord[]>> {
  const copies = new Map<string, CopyRecord[]>(backupIds.map(id => [id, []]))
  // A statement takes a limited number of values.
  for (let start = 0; start < backupIds.length; start += 500) {
    const rows = await db
      .selectFrom('copies')
      .selectAll()
      .where('backup_id', 'in', backupIds.slice(start, start + 500))
      .execute()
    for (const row of rows) copies.get(row.backup_id)?.push(toCopy(row))
  }
  for (const some of copies.values()) some.sort(inOrderOfUse)
  return copies
}

const states = ['committed', 'missing', 'deleted'] as const

function inOrderOfUse(a: CopyRecord, b: CopyRecord): number {
  const damaged = (copy: CopyRecord) => (copy.verified?.ok === false ? 1 : 0)
  return (
    states.indexOf(a.state) - states.indexOf(b.state) ||
    damaged(a) - damaged(b) ||
    (a.committedAt ?? '').localeCompare(b.committedAt ?? '') ||
    a.destination.localeCompare(b.destination)
  )
}

/** Throws `backup.not-found`. */
export async function recordVerification(
  catalog: Catalog,
  backupId: string,
  destination: string,
  found: Verified,
): Promise<void> {
  await catalog.transaction(async tx => {
    const known = await tx
      .selectFrom('copies')
      .select('verified')
      .where('backup_id', '=', backupId)
      .where('destination', '=', destination)
      .executeTakeFirst()
    if (!known) {
      throw new HoldfastError('backup.not-found', `There is no backup ${backupId} at ${destination}.`)
    }
    const verified = afterLook(known.verified === null ? null : JSON.parse(known.verified), found)
    await tx
      .updateTable('copies')
      .set({ verified: JSON.stringify(verified) })
      .where('backup_id', '=', backupId)
      .where('destination', '=', destination)
      .execute()
  })
}

/** The destination says so: its marker is there. */
export async function markDeleted(catalog: Catalog, backupId: string, destination: string): Promise<void> {
  await catalog.db
    .updateTable('copies')
    .set({ state: 'deleted', wanted_until: null, trouble: null })
    .where('backup_id', '=', backupId)
    .where('destination', '=', destination)
    .execute()
}

/** With the destination goes what we know of the copies there, and of the backups that are known nowhere else. */
export async function forgetCopiesAt(tx: CatalogDatabase, destination: string): Promise<void> {
  await tx.deleteFrom('copies').where('destination', '=', destination).execute()
  await tx
    .deleteFrom('backups')
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('copies')
            .select('copies.backup_id')
            .whereRef('copies.backup_id', '=', 'backups.id')
            .where('copies.state', '!=', 'missing'),
        ),
      ),
    )
    .execute()
}

export interface WantedCopy {
  backupId: string
  destination: string
  /** The last operation that was to make it. */
  operationId: string | null
}

/** Missing ones whose time is not over. */
export async function wantedCopies(catalog: Catalog, now: string): Promise<WantedCopy[]> {
  const rows = await catalog.db
    .selectFrom('copies')
    .select(['backup_id', 'destination', 'operation_id'])
    .where('state', '=', 'missing')
    .where('wanted_until', '>', now)
    .orderBy('backup_id')
    .orderBy('destination')
    .execute()
  return rows.map(row => ({
    backupId: row.backup_id,
    destination: row.destination,
    operationId: row.operation_id,
  }))
}

/** With the operation's row, in its transaction. Throws `operation.conflict` when another process was faster. */
export async function beginCopying(
  tx: CatalogDatabase,
  { backupId, destination, operationId }: WantedCopy,
  by: string,
): Promise<void> {
  const done = await tx
    .updateTable('copies')
    .set({ operation_id: by })
    .where('backup_id', '=', backupId)
    .where('destination', '=', destination)
    .where('state', '=', 'missing')
    .where('operation_id', operationId === null ? 'is' : '=', operationId)
    .executeTakeFirst()
  if (done.numUpdatedRows === 1n) return
  throw new HoldfastError(
    'operation.conflict',
    `Backup ${backupId} is being copied to ${destination} already.`,
  )
}

export async function wantNoMore(
  catalog: Catalog,
  backupId: string,
  destination: string,
  trouble: string,
): Promise<void> {
  await catalog.db
    .updateTable('copies')
    .set({ wanted_until: null, trouble })
    .where('backup_id', '=', backupId)
    .where('destination', '=', destination)
    .where('state', '=', 'missing')
    .execute()
}

const toCopy = (row: Selectable<CatalogTables['copies']>): CopyRecord => ({
  destination: row.destination,
  state: row.state as CopyRecord['state'],
  committedAt: row.committed_at,
  verified: row.verified === null ? null : JSON.parse(row.verified),
  wantedUntil: row.wanted_until,
  trouble: row.trouble,
  operationId: row.operation_id,
})
