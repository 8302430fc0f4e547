/**
 * Connections to the catalog's server, a bounded number, every wait bounded. What certainly had no effect is tried again
 * here; what is thrown is in the table of codes where it says something.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { PostgresPool, PostgresPoolClient, PostgresQueryResult } from 'kysely'
import pg from 'pg'
import type { Address } from './address.ts'
import { translated, troubleOf } from './errors.ts'

/** A restart or a failover is waited for this long before a request is answered with an error. */
const patienceMs = 8000
const connectMs = 5000

export interface Limits {
  connections: number
  /** undefined: as long as it takes. */
  statementMs: number | undefined
}

/** Of the numbers here only those of `bigint` and of sums arrive as text; all of ours are below 2^53. */
const types = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === 20 || oid === 1700
      ? Number
      : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
}

export function openPool(address: Address, limits: Limits): PostgresPool {
  const { host, port, user, database, password, ssl } = address
  const pool = new pg.Pool({
    host,
    port,
    user,
    database,
    ssl,
    ...(password === undefined ? {} : { password }),
    types,
    max: limits.connections,
    connectionTimeoutMillis: connectMs,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    application_name: 'holdfast',
    // Every statement, also one by itself: what a transaction has read may not change under it.
    options: '-c default_transaction_isolation=serializable -c search_path="$user",public',
    idle_in_transaction_session_timeout: 60_000,
    ...(limits.statementMs === undefined
      ? {}
      : {
          statement_timeout: limits.statementMs,
          lock_timeout: Math.round(limits.statementMs / 2),
          // The server's own limit does not help when the network is gone.
          query_timeout: limits.statementMs + 5000,
        }),
  })
  // A connection that ends is replaced when the next one is needed; what was under way on it is told by its own error.
  const quiet = () => undefined
  pool.on('error', quiet)
  pool.on('connect', client => client.on('error', quiet))

  const connect = async (until: number): Promise<pg.PoolClient> => {
    for (;;) {
      try {
        return await pool.connect()
      } catch (error) {
        const passing = troubleOf(error) === 'lost' || (error as { code?: unknown }).code === '53300'
        if (!passing || Date.now() > until || pool.ending) throw translated(error, address, false)
        await sleep(100)
      }
    }
  }
  return {
    Client: pg.Client as unknown as NonNullable<PostgresPool['Client']>,
    options: pool.options,
    connect: async () => {
      const client = await connect(Date.now() + patienceMs)
      return guarded(address, client, connect)
    },
    end: () => pool.end(),
  }
}

/** A connection that replaces itself where a statement certainly had no effect. */
function guarded(
  address: Address,
  first: pg.PoolClient,
  connect: (until: number) => Promise<pg.PoolClient>,
): PostgresPoolClient {
  let client = first
  let inTransaction = false
  let broken = false
  const replace = async (until: number) => {
    client.release(true)
    client = await connect(until)
    broken = false
  }
  const query = async <R>(sql: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<R>> => {
    const until = Date.now() + patienceMs
    const begins = /^(begin|start transaction)\b/.test(sql)
    const ends = sql === 'commit' || sql === 'rollback'
    // The transaction went with its connection.
    if (broken && sql === 'rollback') return { command: 'ROLLBACK', rowCount: 0, rows: [] }
    for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, 500)) {
      try {
        const result = await client.query(sql, [...parameters])
        inTransaction = begins || (inTransaction && !ends)
        return result as unknown as PostgresQueryResult<R>
      } catch (error) {
        const trouble = troubleOf(error)
        if (trouble === 'lost') broken = true
        const unharmed = trouble === 'again' || (trouble === 'lost' && (begins || /^select\b/.test(sql)))
        if (inTransaction || !unharmed || Date.now() > until) {
          throw translated(error, address, sql === 'commit' || !inTransaction)
        }
        await sleep(pauseMs * (0.5 + Math.random()))
        if (broken) await replace(until)
      }
    }
  }
  return {
    query: query as PostgresPoolClient['query'],
    release(destroy) {
      client.release(destroy || broken || inTransaction)
    },
  }
}
