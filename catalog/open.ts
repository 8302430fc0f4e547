/**
 * Opens the catalog: schema, installation and secrets. Whoever opens it closes it.
 */
import { createHash, randomBytes } from 'node:crypto'
import { readable } from '../model/ids.ts'
import type { CatalogDatabase, InTransaction, OpenDialect, Presence } from './dialect.ts'
import { ensureInstallation } from './installation.ts'
import { migrate } from './migrations/index.ts'
import { expectHere } from './moved.ts'
import { isPostgresqlUrl } from './postgresql/address.ts'
import { openPostgresql } from './postgresql/index.ts'
import { type SecretBox, secretBox } from './secrets.ts'
import { openSqlite } from './sqlite.ts'

export interface Catalog {
  db: CatalogDatabase
  transaction: InTransaction
  box: SecretBox
  /** Other API processes may work with it, too. */
  shared: boolean
  presence: Presence
  /** True when this catalog turned out to be a copy, or moved: destinations are read-only until takeover. */
  newInstance: boolean
  close(): Promise<void>
}

interface OpenOptions {
  url: string
  /** What HOLDFAST_SECRET_KEY holds; see `ensureSecretKey`. */
  secretKey: string
  /** Which machine this is; found out when absent. Of a SQLite file only. */
  machine?: string
  /** How long to wait for another process to let go of a SQLite file. */
  ownSeconds?: number
}

export async function openCatalog(options: OpenOptions): Promise<Catalog> {
  const dialect = await openDialect(options)
  try {
    await migrate(dialect.migration)
    await expectHere(dialect.db)
    const box = secretBox(options.secretKey)
    const { newInstance } = await ensureInstallation(dialect.transaction, box, await bindingOf(dialect))
    const { db, transaction, shared, presence, close } = dialect
    return { db, transaction, box, shared, presence, newInstance, close }
  } catch (error) {
    await dialect.close()
    throw error
  }
}

export const bindingOf = async (dialect: OpenDialect): Promise<string> =>
  createHash('sha256')
    .update(await dialect.binding())
    .digest('hex')

export function openDialect({
  url,
  machine,
  ownSeconds = 10,
}: Omit<OpenOptions, 'secretKey'>): Promise<OpenDialect> {
  const process = readable(randomBytes(12))
  return isPostgresqlUrl(url)
    ? openPostgresql(url, process)
    : openSqlite(url, process, { ownSeconds, machine })
}
