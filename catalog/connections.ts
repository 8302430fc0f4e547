import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { ConnectionRecord } from '../model/records.ts'
import type { EngineName, MethodName } from '../model/types.ts'
import type { CatalogDatabase } from './dialect.ts'
import { findLogStream } from './log-streams.ts'
import type { Catalog } from './open.ts'
import { openOperationsUsing } from './operations.ts'
import { schedulesUsing } from './schedules.ts'
import type { CatalogTables } from './schema.ts'
import { changeSecrets, putSecrets, readSecrets, removeSecrets, secretFieldsOf } from './secret-rows.ts'

const ownerOf = (name: string) => `connection/${name}`

/** A connection as the API shows it: the record and its address in words. */
export interface StoredConnection extends ConnectionRecord {
  address: string
  /** The Idempotency-Key that made it. */
  requestKey: string | null
  /** Whoever asks for a restore over something here may not approve it. */
  twoPerson: boolean
  /** A row of ours is written into its database before each backup. */
  canary: boolean
}

/** Throws `request.exists` when the name is taken. */
export async function insertConnection(
  catalog: Catalog,
  connection: StoredConnection,
  secrets: Record<string, string>,
): Promise<void> {
  await catalog.transaction(async tx => {
    const taken = await tx
      .selectFrom('connections')
      .select('name')
      .where('name', '=', connection.name)
      .executeTakeFirst()
    if (taken) {
      throw new HoldfastError('request.exists', `There is a connection named ${connection.name} already.`)
    }
    const { host } = connection
    if (
      host !== 'local' &&
      !(await tx.selectFrom('hosts').select('name').where('name', '=', host).executeTakeFirst())
    ) {
      throw new HoldfastError('request.not-found', `There is no host named ${host}.`)
    }
    await tx
      .insertInto('connections')
      .values({
        name: connection.name,
        engine: connection.engine,
        method: connection.method,
        settings: JSON.stringify(connection.settings),
        address: connection.address,
        host: connection.host,
        server_identity: connection.serverIdentity,
        server_version: connection.serverVersion,
        two_person: connection.twoPerson ? 1 : 0,
        canary: connection.canary ? 1 : 0,
        request_key: connection.requestKey,
        created_at: connection.createdAt,
      })
      .execute()
    await putSecrets(tx, catalog.box, ownerOf(connection.name), secrets)
  })
}

/** Throws `request.not-found`. */
export async function readConnection(catalog: Catalog, name: string): Promise<StoredConnection> {
  const found = await findConnection(catalog, name)
  if (!found) throw new HoldfastError('request.not-found', `There is no connection named ${name}.`)
  return found
}

export async function findConnection(catalog: Catalog, name: string): Promise<StoredConnection | undefined> {
  const row = await catalog.db
    .selectFrom('connections')
    .selectAll()
    .where('name', '=', name)
    .executeTakeFirst()
  return row && (await toConnection(catalog.db, row))
}

export async function listConnections(catalog: Catalog): Promise<StoredConnection[]> {
  const rows = await catalog.db.selectFrom('connections').selectAll().orderBy('name').execute()
  return await Promise.all(rows.map(row => toConnection(catalog.db, row)))
}

export type ConnectionChanges = Pick<
  StoredConnection,
  'settings' | 'address' | 'method' | 'serverIdentity' | 'serverVersion'
>

/**
 * `check` sees the connection as it is and an open operation that uses it, if there is one; it may throw. Throws
 * `request.not-found`.
 */
export async function changeConnection(
  catalog: Catalog,
  name: string,
  changes: ConnectionChanges,
  secrets: Record<string, string | null>,
  check: (current: StoredConnection, usedBy: string | undefined) => void,
): Promise<StoredConnection> {
  return await catalog.transaction(async tx => {
    const row = await tx.selectFrom('connections').selectAll().where('name', '=', name).executeTakeFirst()
    if (!row) throw new HoldfastError('request.not-found', `There is no connection named ${name}.`)
    const [usedBy] = await openOperationsUsing(tx, { connection: name })
    check(await toConnection(tx, row), usedBy)
    const columns = {
      settings: JSON.stringify(changes.settings),
      address: changes.address,
      method: changes.method,
      server_identity: changes.serverIdentity,
      server_version: changes.serverVersion,
    }
    await tx.updateTable('connections').set(columns).where('name', '=', name).execute()
    await changeSecrets(tx, catalog.box, ownerOf(name), secrets)
    return await toConnection(tx, { ...row, ...columns })
  })
}

/** Throws `request.not-found`; `request.in-use` while an operation or a schedule uses it. Backups made with it stay. */
export async function removeConnection(catalog: Catalog, name: string): Promise<void> {
  await catalog.transaction(async tx => {
    const [user] = await openOperationsUsing(tx, { connection: name })
    if (user) throw new HoldfastError('request.in-use', `Operation ${user} uses connection ${name}.`)
    const [schedule] = await schedulesUsing(tx, { connection: name })
    if (schedule) throw new HoldfastError('request.in-use', `Schedule ${schedule} uses connection ${name}.`)
    const kept = await tx
      .selectFrom('kept_copies')
      .select(['name', 'keep_until'])
      .where('connection', '=', name)
      .where('state', '=', 'kept')
      .executeTakeFirst()
    if (kept) {
      throw new HoldfastError(
        'request.in-use',
        `Connection ${name} is needed to remove ${kept.name}, which a restore keeps until ${kept.keep_until}.`,
      )
    }
    if (await findLogStream({ db: tx }, name)) {
      throw new HoldfastError(
        'request.in-use',
        `The log of ${name} is streamed: its slot keeps the log of the server for as long as it is there.`,
        { hint: `First: holdfast wal stream stop ${name} --drop-slot` },
      )
    }
    const gone = await tx.deleteFrom('connections').where('name', '=', name).executeTakeFirst()
    if (gone.numDeletedRows === 0n) {
      throw new HoldfastError('request.not-found', `There is no connection named ${name}.`)
    }
    await removeSecrets(tx, ownerOf(name))
  })
}

/** Throws `request.not-found`. */
export async function setPolicy(
  catalog: Catalog,
  name: string,
  { twoPerson, canary }: { twoPerson?: boolean | undefined; canary?: boolean | undefined },
): Promise<void> {
  const changed = await catalog.db
    .updateTable('connections')
    .set({
      ...(twoPerson === undefined ? {} : { two_person: twoPerson ? 1 : 0 }),
      ...(canary === undefined ? {} : { canary: canary ? 1 : 0 }),
    })
    .where('name', '=', name)
    .executeTakeFirst()
  if (changed.numUpdatedRows === 0n) {
    throw new HoldfastError('request.not-found', `There is no connection named ${name}.`)
  }
}

export const connectionSecrets = (catalog: Catalog, name: string): Promise<Record<string, string>> =>
  readSecrets(catalog.db, catalog.box, ownerOf(name))

async function toConnection(
  db: CatalogDatabase,
  row: Selectable<CatalogTables['connections']>,
): Promise<StoredConnection> {
  return {
    name: row.name,
    engine: row.engine as EngineName,
    method: row.method as MethodName,
    settings: JSON.parse(row.settings),
    secretFields: await secretFieldsOf(db, ownerOf(row.name)),
    host: row.host,
    serverIdentity: row.server_identity,
    serverVersion: row.server_version,
    createdAt: row.created_at,
    address: row.address,
    requestKey: row.request_key,
    twoPerson: row.two_person === 1,
    canary: row.canary === 1,
  }
}
