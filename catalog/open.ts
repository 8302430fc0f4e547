/**
 * Opens the catalog: schema, installation and secrets. Whoever opens it closes it.
 */
import { createHash } from 'node:crypto'
import type { CatalogDatabase, InTransaction, OpenDialect } from './dialect.ts'
import { ensureInstallation } from './installation.ts'
import { migrate } from './migrations/index.ts'
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
    const box = secretBox(options.secretKey)
    const binding = createHash('sha256')
      .update(await dialect.binding())
      .digest('hex')
    const { newInstance } = await ensureInstallation(dialect.transaction, box, binding)
    const { db, transaction, shared, close } = dialect
    return { db, transaction, box, shared, newInstance, close }
  } catch (error) {
    await dialect.close()
    throw error
  }
}

export const openDialect = ({
  url,
  machine,
  ownSeconds = 10,
}: Omit<OpenOptions, 'secretKey'>): Promise<OpenDialect> =>
  isPostgresqlUrl(url) ? openPostgresql(url) : openSqlite(url, { ownSeconds, machine })
