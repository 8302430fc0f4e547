/** Backups that were not made here: one row each, and one copy where the file lies. */
import { HoldfastError } from '../model/errors.ts'
import { type ForeignFile, type ForeignReading, isSameFile, manifestOfForeign } from '../model/foreign.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'

interface KnownForeign {
  id: string
  file: ForeignFile
  /** It was there when we last looked. */
  there: boolean
}

/** Throws `backup.not-found`. */
export async function readForeign(catalog: Catalog, backupId: string): Promise<ForeignFile> {
  const row = await catalog.db
    .selectFrom('backups')
    .select('foreign_file')
    .where('id', '=', backupId)
    .executeTakeFirst()
  if (row?.foreign_file) return JSON.parse(row.foreign_file)
  throw new HoldfastError('backup.not-found', `There is no foreign backup ${backupId}.`)
}

/** All that were ever met at a destination, by key; of several at one key the newest last. */
export async function foreignAt(catalog: Catalog, destination: string): Promise<Map<string, KnownForeign[]>> {
  const known = new Map<string, KnownForeign[]>()
  for (const one of await knownAt(catalog.db, destination)) {
    known.set(one.file.key, [...(known.get(one.file.key) ?? []), one])
  }
  return known
}

/**
 * The file is there. One that is known as it is stays what it was, also after it was gone for a while; another one under its
 * key takes its place. Two that sync at once catalogue a file once.
 */
export async function recordForeign(
  catalog: Catalog,
  destination: string,
  newId: string,
  file: ForeignFile,
): Promise<'added' | 'back' | 'known'> {
  return await catalog.transaction(async tx => {
    const all = await knownAt(tx, destination, file.key)
    const same = all.find(one => isSameFile(one.file, file))
    for (const one of all) {
      if (one.there && one.id !== same?.id) await setThere(tx, one.id, destination, false)
    }
    if (same) {
      if (same.there) return 'known'
      await setThere(tx, same.id, destination, true)
      return 'back'
    }
    await tx
      .insertInto('backups')
      .values({
        id: newId,
        connection: '',
        type: 'full',
        operation_id: null,
        server_identity: '',
        database_name: '',
        encrypted: 0,
        started_at: file.modifiedAt,
        ended_at: file.modifiedAt,
        labels: '{}',
        ...columnsOf(newId, file),
      })
      .execute()
    await tx
      .insertInto('copies')
      .values({
        backup_id: newId,
        destination,
        state: 'committed',
        committed_at: file.modifiedAt,
        verified: null,
        wanted_until: null,
        trouble: null,
        operation_id: null,
      })
      .execute()
    return 'added'
  })
}

/** Of what is not there any more under its key. */
export async function markForeignGone(
  catalog: Catalog,
  destination: string,
  backupId: string,
): Promise<void> {
  await setThere(catalog.db, backupId, destination, false)
}

/**
 * What reading it to its end has told; the first hash stays. Throws `artifact.corrupted` for another one: the file is not
 * the one it was, although the store says so.
 */
export async function recordForeignReading(
  catalog: Catalog,
  backupId: string,
  reading: ForeignReading,
): Promise<void> {
  await catalog.transaction(async tx => {
    const row = await tx
      .selectFrom('backups')
      .select('foreign_file')
      .where('id', '=', backupId)
      .executeTakeFirst()
    if (!row?.foreign_file) {
      throw new HoldfastError('backup.not-found', `There is no foreign backup ${backupId}.`)
    }
    const known = JSON.parse(row.foreign_file) as ForeignFile
    if (known.sha256 !== null && known.sha256 !== reading.sha256) {
      throw new HoldfastError(
        'artifact.corrupted',
        `Reading ${known.key}: its SHA-256 is ${reading.sha256}; when it was first read it was ${known.sha256}.`,
      )
    }
    const file: ForeignFile = { ...known, ...reading }
    await tx.updateTable('backups').set(columnsOf(backupId, file)).where('id', '=', backupId).execute()
  })
}

/** All that follows from the description. */
function columnsOf(backupId: string, file: ForeignFile) {
  const manifest = manifestOfForeign(backupId, file)
  return {
    engine: manifest.engine,
    method: manifest.method,
    tool_bytes: manifest.artifacts[0]?.toolBytes ?? 0,
    stored_bytes: file.bytes,
    manifest: JSON.stringify(manifest),
    foreign_file: JSON.stringify(file),
    foreign_key: file.key,
  }
}

async function knownAt(db: CatalogDatabase, destination: string, key?: string): Promise<KnownForeign[]> {
  let query = db
    .selectFrom('backups')
    .innerJoin('copies', 'copies.backup_id', 'backups.id')
    .select(['backups.id', 'backups.foreign_file', 'copies.state'])
    .where('copies.destination', '=', destination)
    .where('backups.foreign_file', 'is not', null)
    .orderBy('backups.id')
  if (key !== undefined) query = query.where('backups.foreign_key', '=', key)
  return (await query.execute()).map(({ id, foreign_file, state }) => ({
    id,
    file: JSON.parse(foreign_file ?? '') as ForeignFile,
    there: state === 'committed',
  }))
}

async function setThere(
  db: CatalogDatabase,
  backupId: string,
  destination: string,
  there: boolean,
): Promise<void> {
  await db
    .updateTable('copies')
    .set({ state: there ? 'committed' : 'deleted' })
    .where('backup_id', '=', backupId)
    .where('destination', '=', destination)
    .execute()
}
