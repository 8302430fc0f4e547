/** `node:sqlite` as Kysely's SQLite dialect wants it. One process owns the file. */
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  statSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { Kysely, SqliteDialect } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { OpenDialect } from './dialect.ts'
import type { CatalogTables } from './schema.ts'

/** Path in a catalog URL `sqlite:/path/file`. */
export function catalogPath(url: string): string {
  const match = /^sqlite:(?:\/\/)?(\/.+)$/.exec(url)
  if (!match?.[1]) {
    // The URL of another kind may hold a password: it is not repeated.
    throw new HoldfastError(
      'settings.invalid',
      'HOLDFAST_CATALOG_URL must be sqlite:/absolute/path or postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE.',
    )
  }
  return match[1]
}

/**
 * Opens (or makes, 0600) the file and takes it for this process alone until `close` or death: a second process that
 * opens the same catalog is refused with `catalog.busy`, after `ownSeconds` (it may just be letting go).
 */
export async function openSqlite(
  url: string,
  process: string,
  { ownSeconds, machine }: { ownSeconds: number; machine: string | undefined },
): Promise<OpenDialect> {
  const path = catalogPath(url)
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  // SQLite makes the file with the process's umask: it holds addresses and plans, so nobody else may read it.
  closeSync(openSync(path, 'a', 0o600))
  chmodSync(path, 0o600)
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 200 })
  try {
    await own(database, path, ownSeconds)
  } catch (error) {
    database.close()
    throw error
  }
  let open = true
  const close = () => {
    if (open) database.close()
    open = false
  }
  const prepare = (sql: string) => explained(path, () => statement(path, database.prepare(sql)))
  const db = new Kysely<CatalogTables>({ dialect: new SqliteDialect({ database: { close, prepare } }) })
  return {
    db,
    shared: false,
    // One connection, one transaction at a time: nobody comes between.
    transaction: work => db.transaction().execute(work),
    migration: work => db.transaction().execute(work),
    presence: {
      process,
      alive: async other => other === process,
      alone: async () => true,
      lead: async () => true,
    },
    // Whoever would write to the file has to open it first, and then finds that it was moved.
    fence: async () => {},
    lift: async () => {},
    binding: async () => placeOf(path, machine),
    async close() {
      await db.destroy()
      close()
    },
  }
}

/**
 * The machine and the file's real path. A copy on another machine or at another path has another one. Where a machine
 * has no id (some containers), the file's inode stands for it.
 */
function placeOf(path: string, machine: string | undefined): string {
  const id = machine ?? machineId() ?? `inode ${statSync(path).ino}`
  return JSON.stringify([id, realpathSync(path)])
}

function machineId(): string | undefined {
  for (const file of ['/etc/machine-id', '/var/lib/dbus/machine-id']) {
    if (!existsSync(file)) continue
    const id = readFileSync(file, 'utf8').trim()
    if (/^[0-9a-f]{32}$/.test(id)) return id
  }
  return undefined
}

async function own(database: DatabaseSync, path: string, ownSeconds: number): Promise<void> {
  const deadline = Date.now() + ownSeconds * 1000
  for (;;) {
    try {
      database.exec('PRAGMA locking_mode = EXCLUSIVE')
      database.exec('PRAGMA journal_mode = WAL')
      // FULL: a row that was answered for survives power loss, not only the death of this process.
      database.exec('PRAGMA synchronous = FULL')
      // In exclusive mode the lock is taken by the first write and kept.
      database.exec('BEGIN IMMEDIATE; COMMIT')
      return
    } catch (error) {
      if (!isBusy(error)) throw error
      if (Date.now() > deadline) {
        throw new HoldfastError('catalog.busy', `Another process has the catalog ${path} open.`)
      }
      await sleep(100)
    }
  }
}

const codeOf = (error: unknown): number | undefined =>
  error instanceof Error && 'errcode' in error && typeof error.errcode === 'number'
    ? error.errcode
    : undefined

const isBusy = (error: unknown): boolean => ((codeOf(error) ?? 0) & 0xff) === 5

/** What the engine's errors mean, as the table has it. */
function explained<T>(path: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    const code = codeOf(error)
    // SQLITE_CONSTRAINT_PRIMARYKEY and _UNIQUE.
    if (code === 1555 || code === 2067) {
      throw new HoldfastError('request.exists', 'The catalog has that row already.', { cause: error })
    }
    if (code === 13) {
      throw new HoldfastError('catalog.full', `The file system of the catalog ${path} is full.`, {
        cause: error,
      })
    }
    throw error
  }
}

function statement(path: string, prepared: StatementSync) {
  return {
    reader: prepared.columns().length > 0,
    // Rows have no prototype there; spread makes them plain objects.
    all: (parameters: readonly unknown[]): unknown[] =>
      explained(path, () => prepared.all(...values(parameters)).map(row => ({ ...row }))),
    run: (parameters: readonly unknown[]) => explained(path, () => prepared.run(...values(parameters))),
    iterate: (parameters: readonly unknown[]): IterableIterator<unknown> =>
      prepared.iterate(...values(parameters)),
  }
}

function values(parameters: readonly unknown[]): SQLInputValue[] {
  return parameters.map(value => {
    if (
      value === null ||
      typeof value === 'string' ||
      typeof value === 'number' ||
      typeof value === 'bigint'
    ) {
      return value
    }
    if (value instanceof Uint8Array) return value
    throw new TypeError(`a catalog parameter is of type ${typeof value}`)
  })
}
