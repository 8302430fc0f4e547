import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { DestinationRecord } from '../model/records.ts'
import type { DestinationKind } from '../model/types.ts'
import { hostOfDestination } from '../storage/index.ts'
import { forgetLimit } from './bandwidth.ts'
import { forgetCopiesAt } from './copies.ts'
import type { CatalogDatabase } from './dialect.ts'
import { streamsTo } from './log-streams.ts'
import type { Catalog } from './open.ts'
import { openOperationsUsing } from './operations.ts'
import { schedulesUsing } from './schedules.ts'
import type { CatalogTables } from './schema.ts'
import { changeSecrets, putSecrets, readSecrets, removeSecrets, secretFieldsOf } from './secret-rows.ts'

const ownerOf = (name: string) => `destination/${name}`

export interface StoredDestination extends DestinationRecord {
  /** Another installation (or a copy of this one) held the prefix when we last looked. */
  readOnly: boolean
  /** Names of the keys that backups there are encrypted for by default; null: every key in use. */
  encryptTo: string[] | null
  /** Name of the one that takes its place while it is away. */
  failover: string | null
  /** It lies elsewhere than the databases; null: nobody has said. */
  offSite: boolean | null
  /** A directory that foreign backups were found in: nothing is ever written there. */
  foreignOnly: boolean
  requestKey: string | null
}

/** Throws `request.exists` when the name is taken, `request.invalid` when its host is not there. */
export async function insertDestination(
  catalog: Catalog,
  destination: StoredDestination,
  secrets: Record<string, string>,
  epoch: number | null,
): Promise<void> {
  await catalog.transaction(async tx => {
    const taken = await tx
      .selectFrom('destinations')
      .select('name')
      .where('name', '=', destination.name)
      .executeTakeFirst()
    if (taken) {
      throw new HoldfastError('request.exists', `There is a destination named ${destination.name} already.`)
    }
    const host = hostOfDestination(destination)
    if (host !== undefined && host !== 'local') await expectHost(tx, host)
    await tx
      .insertInto('destinations')
      .values({
        name: destination.name,
        kind: destination.kind,
        uri: destination.uri,
        settings: JSON.stringify(destination.settings),
        read_only: destination.readOnly ? 1 : 0,
        encrypt_to: destination.encryptTo === null ? null : JSON.stringify(destination.encryptTo),
        failover: destination.failover,
        off_site: destination.offSite === null ? null : destination.offSite ? 1 : 0,
        foreign_only: destination.foreignOnly ? 1 : 0,
        request_key: destination.requestKey,
        created_at: destination.createdAt,
      })
      .execute()
    await putSecrets(tx, catalog.box, ownerOf(destination.name), secrets)
    if (epoch !== null) {
      await tx.insertInto('epochs').values({ destination: destination.name, epoch }).execute()
    }
  })
}

/** In the transaction that makes the destination: removing a host asks for destinations in its own. */
async function expectHost(tx: CatalogDatabase, host: string): Promise<void> {
  const known = await tx.selectFrom('hosts').select('settings').where('name', '=', host).executeTakeFirst()
  if (known && 'worker' in JSON.parse(known.settings)) {
    throw new HoldfastError(
      'request.invalid',
      `Nobody logs in to host ${host}, which has a worker of its own: a directory there can be no destination.`,
      { context: { field: 'uri' } },
    )
  }
  if (known) return
  throw new HoldfastError('request.invalid', `There is no host named ${host}.`, { context: { field: 'uri' } })
}

/** Names of those that are directories on this host. */
export async function destinationsOn(tx: CatalogDatabase, host: string): Promise<string[]> {
  const rows = await tx
    .selectFrom('destinations')
    .select(['name', 'uri'])
    .where('kind', '=', 'server')
    .orderBy('name')
    .execute()
  return rows.filter(({ uri }) => hostOfDestination({ kind: 'server', uri }) === host).map(({ name }) => name)
}

/** One to write to. Throws `request.not-found`, `request.invalid`. */
export async function readOwnDestination(catalog: Catalog, name: string): Promise<StoredDestination> {
  const found = await readDestination(catalog, name)
  if (!found.foreignOnly) return found
  throw new HoldfastError(
    'request.invalid',
    `${name} is a directory that only foreign backups are read from (${found.uri}); nothing is written there.`,
    { hint: 'To keep backups there, too: remove it, then add it with `holdfast destination add`.' },
  )
}

/** Throws `request.not-found`. */
export async function readDestination(catalog: Catalog, name: string): Promise<StoredDestination> {
  const found = await findDestination(catalog, name)
  if (!found) throw new HoldfastError('request.not-found', `There is no destination named ${name}.`)
  return found
}

export async function findDestination(
  catalog: Catalog,
  name: string,
): Promise<StoredDestination | undefined> {
  const row = await catalog.db
    .selectFrom('destinations')
    .selectAll()
    .where('name', '=', name)
    .executeTakeFirst()
  return row && (await toDestination(catalog.db, row))
}

/** Where backups are kept: all but directories that foreign ones were found in. */
export const listDestinations = async (catalog: Catalog): Promise<StoredDestination[]> =>
  (await listPlaces(catalog)).filter(({ foreignOnly }) => !foreignOnly)

export async function listPlaces(catalog: Catalog): Promise<StoredDestination[]> {
  const rows = await catalog.db.selectFrom('destinations').selectAll().orderBy('name').execute()
  return await Promise.all(rows.map(row => toDestination(catalog.db, row)))
}

export async function markReadOnly(catalog: Catalog, name: string, readOnly: boolean): Promise<void> {
  await catalog.db
    .updateTable('destinations')
    .set({ read_only: readOnly ? 1 : 0 })
    .where('name', '=', name)
    .execute()
}

/**
 * `check` sees the destination as it is and an open operation that uses it, if there is one; it may throw. Throws
 * `request.not-found`.
 */
export async function changeDestination(
  catalog: Catalog,
  name: string,
  {
    settings,
    encryptTo,
    failover,
    offSite,
  }: Pick<StoredDestination, 'settings' | 'encryptTo' | 'failover' | 'offSite'>,
  secrets: Record<string, string | null>,
  check: (current: StoredDestination, usedBy: string | undefined) => void,
): Promise<StoredDestination> {
  return await catalog.transaction(async tx => {
    const row = await tx.selectFrom('destinations').selectAll().where('name', '=', name).executeTakeFirst()
    if (!row) throw new HoldfastError('request.not-found', `There is no destination named ${name}.`)
    const [usedBy] = await openOperationsUsing(tx, { destination: name })
    check(await toDestination(tx, row), usedBy)
    const columns = {
      settings: JSON.stringify(settings),
      encrypt_to: encryptTo === null ? null : JSON.stringify(encryptTo),
      failover,
      off_site: offSite === null ? null : offSite ? 1 : 0,
    }
    await tx.updateTable('destinations').set(columns).where('name', '=', name).execute()
    await changeSecrets(tx, catalog.box, ownerOf(name), secrets)
    return await toDestination(tx, { ...row, ...columns })
  })
}

/**
 * Forgets a destination with what the catalog knows of the backups there; the objects stay, and a rebuild finds them
 * again. Throws `request.not-found`; `request.in-use` while an operation or a schedule uses it.
 */
export async function removeDestination(catalog: Catalog, name: string): Promise<void> {
  await catalog.transaction(async tx => {
    const [user] = await openOperationsUsing(tx, { destination: name })
    if (user) throw new HoldfastError('request.in-use', `Operation ${user} uses destination ${name}.`)
    const [schedule] = await schedulesUsing(tx, { destination: name })
    if (schedule) throw new HoldfastError('request.in-use', `Schedule ${schedule} uses destination ${name}.`)
    const [streamed] = await streamsTo(tx, name)
    if (streamed) {
      throw new HoldfastError('request.in-use', `The log of ${streamed} is streamed to destination ${name}.`)
    }
    const first = await tx
      .selectFrom('destinations')
      .select('name')
      .where('failover', '=', name)
      .executeTakeFirst()
    if (first) {
      throw new HoldfastError('request.in-use', `Destination ${name} is the failover of ${first.name}.`)
    }
    const gone = await tx.deleteFrom('destinations').where('name', '=', name).executeTakeFirst()
    if (gone.numDeletedRows === 0n) {
      throw new HoldfastError('request.not-found', `There is no destination named ${name}.`)
    }
    await forgetCopiesAt(tx, name)
    await tx.deleteFrom('wrapped_keys').where('destination', '=', name).execute()
    await removeSecrets(tx, ownerOf(name))
    await forgetLimit(tx, 'destination', name)
  })
}

export const destinationSecrets = (catalog: Catalog, name: string): Promise<Record<string, string>> =>
  readSecrets(catalog.db, catalog.box, ownerOf(name))

async function toDestination(
  db: CatalogDatabase,
  row: Selectable<CatalogTables['destinations']>,
): Promise<StoredDestination> {
  return {
    name: row.name,
    kind: row.kind as DestinationKind,
    uri: row.uri,
    settings: JSON.parse(row.settings),
    secretFields: await secretFieldsOf(db, ownerOf(row.name)),
    createdAt: row.created_at,
    readOnly: row.read_only === 1,
    encryptTo: row.encrypt_to === null ? null : JSON.parse(row.encrypt_to),
    failover: row.failover,
    offSite: row.off_site === null ? null : row.off_site === 1,
    foreignOnly: row.foreign_only === 1,
    requestKey: row.request_key,
  }
}
