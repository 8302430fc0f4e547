/** Which keys open which backup at which destination: as its key sidecars said when they were written or last read. */
import type { CatalogDatabase } from './dialect.ts'

export interface BackupPlace {
  destination: string
  connection: string
  backupId: string
}

/** Of one that is not encrypted: known, and opened by nobody's key. */
const none = ''

/** Keys are only ever added to a backup. An empty list: it is not encrypted. */
export async function recordOpeners(
  db: CatalogDatabase,
  { destination, connection, backupId }: BackupPlace,
  kids: readonly string[],
): Promise<void> {
  for (const kid of kids.length === 0 ? [none] : kids) {
    await db
      .insertInto('wrapped_keys')
      .values({ destination, connection, backup_id: backupId, kid })
      .onConflict(conflict => conflict.columns(['destination', 'backup_id', 'kid']).doNothing())
      .execute()
  }
}

/** What is known of every backup that is not deleted, also of those of others at our destinations. */
export async function listOpeners(db: CatalogDatabase): Promise<(BackupPlace & { kids: string[] })[]> {
  const rows = await db
    .selectFrom('wrapped_keys')
    .leftJoin('copies', join =>
      join
        .onRef('copies.backup_id', '=', 'wrapped_keys.backup_id')
        .onRef('copies.destination', '=', 'wrapped_keys.destination'),
    )
    .select([
      'wrapped_keys.destination',
      'wrapped_keys.connection',
      'wrapped_keys.backup_id',
      'wrapped_keys.kid',
    ])
    .where(({ eb, or }) => or([eb('copies.state', 'is', null), eb('copies.state', '=', 'committed')]))
    .orderBy('wrapped_keys.destination')
    .orderBy('wrapped_keys.backup_id')
    .execute()
  const places = new Map<string, BackupPlace & { kids: string[] }>()
  for (const { destination, connection, backup_id: backupId, kid } of rows) {
    const place = JSON.stringify([destination, backupId])
    const known = places.get(place) ?? { destination, connection, backupId, kids: [] }
    if (kid !== none) known.kids.push(kid)
    places.set(place, known)
  }
  return [...places.values()]
}

/** Ids of the backups at a destination that the key is known to open. */
export async function openedAt(db: CatalogDatabase, destination: string, kid: string): Promise<string[]> {
  const rows = await db
    .selectFrom('wrapped_keys')
    .select('backup_id')
    .where('destination', '=', destination)
    .where('kid', '=', kid)
    .execute()
  return rows.map(row => row.backup_id)
}
