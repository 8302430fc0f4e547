import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import { hostQueue } from '../model/ids.ts'
import type { HostRecord, HostWorker, HostWorkerSettings, SshSettings } from '../model/records.ts'
import { forgetLimit } from './bandwidth.ts'
import { destinationsOn } from './destinations.ts'
import type { CatalogDatabase } from './dialect.ts'
import { revokeHostToken } from './host-tokens.ts'
import type { Catalog } from './open.ts'
import { openOperationsUsing } from './operations.ts'
import type { CatalogTables } from './schema.ts'
import { changeSecrets, putSecrets, readSecrets, removeSecrets, secretFieldsOf } from './secret-rows.ts'

const ownerOf = (name: string) => `host/${name}`

const noHost = (name: string) => new HoldfastError('request.not-found', `There is no host named ${name}.`)

export interface StoredHost<Settings = SshSettings | HostWorkerSettings> extends HostRecord<Settings> {
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
      tx.selectFrom('hosts').selectAll().where('name', '=', name).executeTakeFirst()
    if (await named(host.name)) {
      throw new HoldfastError('request.exists', `There is a host named ${host.name} already.`)
    }
    await assertWay(tx, host.name, throughOf(host.settings))
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

/** The machines on the way are there, reached over SSH, and none of them is the one that is to be reached. */
async function assertWay(tx: CatalogDatabase, name: string, first: string | null): Promise<void> {
  for (let through = first; through !== null; ) {
    if (through === name) {
      throw new HoldfastError('request.invalid', `Host ${name} would be reached through itself.`)
    }
    const row = await tx.selectFrom('hosts').selectAll().where('name', '=', through).executeTakeFirst()
    const settings = row && settingsOf(row)
    if (!settings || 'worker' in settings) {
      throw new HoldfastError('request.invalid', `There is no host named ${through} to go through.`)
    }
    through = settings.through
  }
}

/**
 * `check` sees the host as it is and an open operation that uses it, if there is one; it may throw. Throws
 * `request.not-found`, `request.invalid` when the host it goes through is not there.
 */
export async function changeHost(
  catalog: Catalog,
  name: string,
  changes: Pick<StoredHost<SshSettings>, 'settings' | 'hostKeys'>,
  secrets: Record<string, string | null>,
  check: (current: StoredHost, usedBy: string | undefined) => void,
): Promise<StoredHost> {
  return await catalog.transaction(async tx => {
    const row = await tx.selectFrom('hosts').selectAll().where('name', '=', name).executeTakeFirst()
    if (!row) throw noHost(name)
    check(await toHost(tx, row), await operationOn(tx, name))
    await assertWay(tx, name, changes.settings.through)
    const columns = {
      settings: JSON.stringify(changes.settings),
      host_keys: JSON.stringify(changes.hostKeys),
    }
    await tx.updateTable('hosts').set(columns).where('name', '=', name).execute()
    await changeSecrets(tx, catalog.box, ownerOf(name), secrets)
    return await toHost(tx, { ...row, ...columns })
  })
}

/** An open operation whose tools run there, or that writes to or reads from a directory there. */
async function operationOn(tx: CatalogDatabase, host: string): Promise<string | undefined> {
  const rows = await tx.selectFrom('connections').select('name').where('host', '=', host).execute()
  const users = [
    ...rows.map(({ name }) => ({ connection: name })),
    ...(await destinationsOn(tx, host)).map(name => ({ destination: name })),
  ]
  for (const user of users) {
    const [operation] = await openOperationsUsing(tx, user)
    if (operation !== undefined) return operation
  }
  return undefined
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

/** Whether a worker of its own serves it. */
export const hasWorker = (host: StoredHost): host is StoredHost<HostWorkerSettings> =>
  'worker' in host.settings

/** One over SSH. Throws `request.not-found`; `host.no-worker` for one that only its own worker can act on. */
export async function readSshHost(catalog: Catalog, name: string): Promise<StoredHost<SshSettings>> {
  const { settings, ...host } = await readHost(catalog, name)
  if (!('worker' in settings)) return { ...host, settings }
  throw new HoldfastError(
    'host.no-worker',
    `Host ${name} has a worker of its own, and this process is not it.`,
  )
}

/** The worker of this host as workflows know it; undefined for `local` and hosts over SSH. */
export async function hostWorkerOf(catalog: Catalog, name: string): Promise<HostWorker | undefined> {
  const host = name === 'local' ? undefined : await findHost(catalog, name)
  return host && hasWorker(host) ? workerOf(host) : undefined
}

export const workerOf = ({ name, settings }: StoredHost<HostWorkerSettings>): HostWorker => ({
  host: name,
  queue: hostQueue(settings.worker),
  waitSeconds: noWorkerSeconds,
})

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
    const behind = others.find(row => throughOf(settingsOf(row)) === name)
    if (behind) {
      throw new HoldfastError('request.in-use', `Host ${behind.name} is reached through ${name}.`)
    }
    await forgetLimit(tx, 'host', name)
    const gone = await tx.deleteFrom('hosts').where('name', '=', name).executeTakeFirst()
    if (gone.numDeletedRows === 0n) {
      throw noHost(name)
    }
    await removeSecrets(tx, ownerOf(name))
    await revokeHostToken(tx, name)
  })
}

/** Longer than a worker takes to start again. */
const noWorkerSeconds = 30

const throughOf = (settings: HostRecord['settings']): string | null =>
  'worker' in settings ? null : settings.through

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
