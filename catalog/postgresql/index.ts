/** A catalog on PostgreSQL: shared by any number of API processes. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Kysely, sql, type Transaction } from 'kysely'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import type { OpenDialect } from '../dialect.ts'
import type { CatalogTables } from '../schema.ts'
import { type Address, readAddress } from './address.ts'
import { Dialect } from './compiler.ts'
import { leftNothing } from './errors.ts'
import { fence, lift } from './fence.ts'
import { lockSpace } from './locks.ts'
import { openPool } from './pool.ts'
import { openPresence } from './presence.ts'

const migrationLock = 1

/** A transaction that others keep coming between is tried again for this long. */
const transactionSeconds = 10
/** So often a row of the same key may turn up. */
const rowTries = 3

export async function openPostgresql(url: string, process: string): Promise<OpenDialect> {
  const address = readAddress(url)
  const open = (limits: Parameters<typeof openPool>[1]) =>
    new Kysely<CatalogTables>({ dialect: new Dialect({ pool: openPool(address, limits) }) })
  const db = open({ connections: 10, statementMs: 20_000 })
  const presence = await expectUsable(db, address)
    .then(() => openPresence(address, process))
    .catch(async error => {
      await db.destroy()
      throw error
    })
  return {
    db,
    shared: true,
    async transaction(work) {
      const until = Date.now() + transactionSeconds * 1000
      let inTheWay = 0
      for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, 500)) {
        try {
          return await db.transaction().setIsolationLevel('serializable').execute(work)
        } catch (error) {
          if (!leftNothing(error) || Date.now() > until) throw error
          // A row that came between is seen by the next try. Where it is still in the way then, that is the answer.
          if (hasCode(error, 'request.exists')) inTheWay += 1
          if (inTheWay > rowTries) throw error
          await sleep(pauseMs * (0.5 + Math.random()))
        }
      }
    },
    async migration(work) {
      const patient = open({ connections: 1, statementMs: undefined })
      try {
        // What it reads after the wait for the lock must be what the former holder committed: not a snapshot of before.
        return await patient
          .transaction()
          .setIsolationLevel('read committed')
          .execute(async tx => {
            await lock(tx, migrationLock)
            return await work(tx)
          })
      } finally {
        await patient.destroy()
      }
    },
    fence,
    lift,
    binding: () => placeOf(db),
    presence,
    async close() {
      await presence.close()
      await db.destroy()
    },
  }
}

async function lock(tx: Transaction<CatalogTables>, number: number): Promise<void> {
  await sql`select pg_advisory_xact_lock(${sql.lit(lockSpace + 2)}, ${sql.lit(number)})`.execute(tx)
}

async function expectUsable(db: Kysely<CatalogTables>, { words }: Address): Promise<void> {
  const asked = await sql<{ standby: boolean; encoding: string }>`
    select pg_is_in_recovery() as standby, current_setting('server_encoding') as encoding`.execute(db)
  const [said] = asked.rows
  if (said?.standby) {
    throw new HoldfastError('catalog.unreachable', `The catalog's ${words} is a standby.`, {
      hint: 'HOLDFAST_CATALOG_URL must lead to the primary.',
    })
  }
  if (said?.encoding !== 'UTF8') {
    throw new HoldfastError(
      'settings.invalid',
      `The catalog's ${words} has encoding ${said?.encoding}; it must be UTF8.`,
      { hint: 'Make a database of its own: CREATE DATABASE holdfast ENCODING UTF8 TEMPLATE template0.' },
    )
  }
}

/**
 * The server (its standbys and what they become after a failover share the identifier), the database and the very table. A
 * dump that was restored elsewhere, or into the same database again, is a copy.
 */
async function placeOf(db: Kysely<CatalogTables>): Promise<string> {
  const readable = await sql<{ may: boolean }>`
    select has_function_privilege('pg_control_system()', 'execute') as may`.execute(db)
  const server = readable.rows[0]?.may
    ? sql<string>`(select system_identifier::text from pg_control_system())`
    : sql<string>`'unknown'`
  const place = await sql<{ server: string; database: string; installation: string }>`
    select ${server} as server, 'installation'::regclass::oid::text as installation,
      (select oid::text from pg_database where datname = current_database()) as database`.execute(db)
  return JSON.stringify(['postgresql', place.rows[0]])
}
