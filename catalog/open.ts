/**
 * Opens the catalog: schema, installation and secrets. Whoever opens it closes it.
 */

import { createHash } from 'node:crypto'
import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { Kysely, type Transaction } from 'kysely'
import { ensureInstallation } from './installation.ts'
import { migrate } from './migrations/index.ts'
import type { CatalogTables } from './schema.ts'
import { type SecretBox, secretBox } from './secrets.ts'
import { catalogPath, openSqlite } from './sqlite.ts'

export type CatalogDatabase = Kysely<CatalogTables> | Transaction<CatalogTables>

export interface Catalog {
  db: Kysely<CatalogTables>
  box: SecretBox
  /** True when this catalog file turned out to be a copy, or moved: destinations are read-only until takeover. */
  newInstance: boolean
  close(): Promise<void>
}

export async function openCatalog(options: {
  url: string
  /** What HOLDFAST_SECRET_KEY holds; see `ensureSecretKey`. */
  secretKey: string
  /** Which machine this is; found out when absent. */
  machine?: string
  /** How long to wait for another process to let go of the file. */
  ownSeconds?: number
}): Promise<Catalog> {
  const path = catalogPath(options.url)
  const sqlite = await openSqlite(path, options.ownSeconds ?? 10)
  const db = new Kysely<CatalogTables>({ dialect: sqlite.dialect })
  const close = async () => {
    await db.destroy()
    sqlite.close()
  }
  try {
    await migrate(db)
    const box = secretBox(options.secretKey)
    const { newInstance } = await ensureInstallation(db, box, bindingOf(path, options.machine))
    return { db, box, newInstance, close }
  } catch (error) {
    await close()
    throw error
  }
}

/**
 * What ties a catalog to its place: the machine and the file's real path. A copy on another machine or at another path
 * has another one. Where a machine has no id (some containers), the file's inode stands for it.
 */
function bindingOf(path: string, machine: string | undefined): string {
  const id = machine ?? machineId() ?? `inode ${statSync(path).ino}`
  return createHash('sha256')
    .update(JSON.stringify([id, realpathSync(path)]))
    .digest('hex')
}

function machineId(): string | undefined {
  for (const file of ['/etc/machine-id', '/var/lib/dbus/machine-id']) {
    if (!existsSync(file)) continue
    const id = readFileSync(file, 'utf8').trim()
    if (/^[0-9a-f]{32}$/.test(id)) return id
  }
  return undefined
}
