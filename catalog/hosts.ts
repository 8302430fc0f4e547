import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { HostRecord } from '../model/records.ts'
import { forgetLimit } from './bandwidth.ts'
import { destinationsOn } from './destinations.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'
import { putSecrets, readSecrets, removeSecrets, secretFieldsOf } from './secret-rows.ts'

const ownerOf = (name: string) => `host/${name}`

const noHost = (name: string) => new HoldfastError('request.not-found', `There is no host named ${name}.`)

export interface StoredHost extends HostRecord {
  /** The Idempotency-Key that made it. */
  requestKey: string | null
}

/** Throws `request.exists` when the name is taken, `request.invalid` when the host it goes through is not there. */
export async function insertHost(
  catalog: Catalog,
  host: StoredHost,
  secrets: Record<string, string>,
): Promise<void> {
  await catalog.transaction(async tx => {
    const named = (name: string) =>
      tx.selectFrom('hosts').select('name').where('name', '=', name).executeTakeFirst()
    if (await named(host.name)) {
      throw new HoldfastError('request.exists', `There is a host named ${host.name} already.`)
    }
    const { through } = host.settings
    if (through !== null && !(await named(through))) {
      throw new HoldfastError('request.invalid', `There is no host named ${through} to go through.`)
    }
    await tx
      .insertInto('hosts')
      .values({
        name: host.name,
        settings: JSON.stringify(host.settings),
        host_keys: JSON.stringify(host.hostKeys),
        request_key: host.requestKey,
        created_at: host.createdAt,
      })
      .execute()
    await putSecrets(tx, catalog.box, ownerOf(host.name), secrets)
  })
}

export async function findHost(catalog: Catalog, name: string): Promise<StoredHost | undefined> {
  const row = await catalog.db.selectFrom('hosts').selectAll().where('name', '=', name).executeTakeFirst()
  return row && (await toHost(catalog.db, row))
}

/** Throws `request.not-found`. */
export async function readHost(catalog: Catalog, name: string): Promise<StoredHost> {
  const found = await findHost(catalog, name)
  if (!found) throw noHost(name)
  return found
}

export async function listHosts(catalog: Catalog): Promise<StoredHost[]> {
  const rows = await catalog.db.selectFrom('hosts').selectAll().orderBy('name').execute()
  return await Promise.all(rows.map(row => toHost(catalog.db, row)))
}

export const hostSecrets = (catalog: Catalog, name: string): Promise<Record<string, string>> =>
  readSecrets(catalog.db, catalog.box, ownerOf(name))

/** From now on this key, and no other, is the host's. Throws `request.not-found`. */
export async function pinHostKey(catalog: Catalog, name: string, hostKeys: readonly string[]): Promise<void> {
  const changed = await catalog.db
    .updateTable('hosts')
    .set({ host_keys: JSON.stringify(hostKeys) })
    .where('name', '=', name)
    .executeTakeFirst()
  if (changed.numUpdatedRows === 0n) {
    throw noHost(name)
  }
}

/** Throws `request.not-found`; `request.in-use` while a connection, a destination or another host needs it. */
export async function removeHost(catalog: Catalog, name: string): Promise<void> {
  await catalog.transaction(async tx => {
    const connection = await tx
      .selectFrom('connections')
      .select('name')
      .where('host', '=', name)
      .executeTakeFirst()
    if (connection) {
      throw new HoldfastError(
        'request.in-use',
        `The tools of connection ${connection.name} run on host ${name}.`,
      )
    }
    const [destination] = await destinationsOn(tx, name)
    if (destination !== undefined) {
      throw new HoldfastError('request.in-use', `Destination ${destination} is a directory on host ${name}.`)
    }
    const others = await tx.selectFrom('hosts').selectAll().where('name', '!=', name).execute()
    const behind = others.find(row => settingsOf(row).through === name)
    if (behind) {
      throw new HoldfastError('request.in-use', `Host ${behind.name} is reached through ${name}.`)
    }
    await forgetLimit(tx, 'host', name)
    const gone = await tx.deleteFrom('hosts').where('name', '=', name).executeTakeFirst()
    if (gone.numDeletedRows === 0n) {
      throw noHost(name)
    }
    await removeSecrets(tx, ownerOf(name))
  })
}

const settingsOf = (row: Selectable<CatalogTables['hosts']>): HostRecord['settings'] =>
  JSON.parse(row.settings)

async function toHost(db: CatalogDatabase, row: Selectable<CatalogTables['hosts']>): Promise<StoredHost> {
  return {
    name: row.name,
    settings: settingsOf(row),
    secretFields: await secretFieldsOf(db, ownerOf(row.name)),
    hostKeys: JSON.parse(row.host_keys),
    createdAt: row.created_at,
    requestKey: row.request_key,
  }
}
