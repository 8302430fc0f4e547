/**
 * `node:sqlite` as Kysely's SQLite dialect wants it: the only file that speaks SQLite's own SQL. A catalog on another
 * server gets a sibling of this file and nothing else changes.
 */
import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Dialect, SqliteDialect } from 'kysely'
import { HoldfastError } from '../model/errors.ts'

/** Path in a catalog URL `sqlite:/path/file`; the only kind so far. */
export function catalogPath(url: string): string {
  const match = /^sqlite:(?:\/\/)?(\/.+)$/.exec(url)
  if (!match?.[1]) {
    // The URL of another kind may hold a password: it is not repeated.
    throw new HoldfastError('settings.invalid', 'HOLDFAST_CATALOG_URL must be sqlite:/absolute/path.')
  }
  return match[1]
}

/**
 * Opens (or makes, 0600) the file and takes it for this process alone until `close` or death: a second process that
 * opens the same catalog is refused with `catalog.busy`, after `ownSeconds` (it may just be letting go).
 */
export async function openSqlite(
  path: string,
  ownSeconds: number,
): Promise<{ dialect: Dialect; close(): void }> {
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
  return {
    dialect: new SqliteDialect({ database: { close, prepare: sql => statement(database.prepare(sql)) } }),
    close,
  }
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

const isBusy = (error: unknown): boolean =>
  error instanceof Error &&
  'errcode' in error &&
  typeof error.errcode === 'number' &&
  (error.errcode & 0xff) === 5

function statement(prepared: StatementSync) {
  return {
    reader: prepared.columns().length > 0,
    // Rows have no prototype there; spread makes them plain objects.
    all: (parameters: readonly unknown[]): unknown[] =>
      prepared.all(...values(parameters)).map(row => ({ ...row })),
    run: (parameters: readonly unknown[]) => prepared.run(...values(parameters)),
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
