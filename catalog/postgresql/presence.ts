/**
 * Which API processes live: each holds an advisory lock on a connection of its own, which the server takes back when the
 * process, its machine or the way to it is gone. No clock is asked.
 */
import { createHash } from 'node:crypto'
import pg from 'pg'
import type { Presence } from '../dialect.ts'
import type { Address } from './address.ts'
import { translated } from './errors.ts'
import { lockSpace } from './locks.ts'

/** A number of its own for each process: the second one of its lock. */
const lockOf = (process: string): number => createHash('sha256').update(process).digest().readInt32BE()

/** Another space than that of the processes: its numbers are ours to give. */
const leaderLock = [lockSpace + 1, 1] as const

/** The locks of processes; their space is the first value. */
const living = `select 1 from pg_locks where locktype = 'advisory' and granted and objsubid = 2
  and database = (select oid from pg_database where datname = current_database()) and classid::bigint = $1`

const againMs = 500
const answerMs = 5000

export async function openPresence(
  address: Address,
  process: string,
): Promise<Presence & { close(): Promise<void> }> {
  let client: pg.Client | undefined
  let closed = false
  let timer: NodeJS.Timeout | undefined

  let connecting: Promise<void> | undefined
  const connect = (): Promise<void> => {
    connecting ??= open().finally(() => {
      connecting = undefined
    })
    return connecting
  }
  const open = async (): Promise<void> => {
    const { words: _words, password, ...where } = address
    const made = new pg.Client({
      ...where,
      ...(password === undefined ? {} : { password }),
      application_name: 'holdfast presence',
      connectionTimeoutMillis: answerMs,
      query_timeout: answerMs,
      keepAlive: true,
      // A machine that lost its power is noticed within half a minute.
      options: '-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3',
    })
    made.on('error', () => undefined)
    made.on('end', () => {
      if (client === made) client = undefined
      if (!closed) again()
    })
    await made.connect()
    try {
      await made.query('select pg_advisory_lock($1, $2)', [lockSpace, lockOf(process)])
    } catch (error) {
      await made.end()
      throw error
    }
    if (closed) await made.end()
    else client = made
  }
  const again = (): void => {
    clearTimeout(timer)
    timer = setTimeout(() => connect().catch(() => !closed && again()), againMs)
    timer.unref()
  }
  const ask = async (sql: string, values: readonly number[]): Promise<boolean> => {
    if (!client) await connect()
    const asked = client
    if (!asked) throw new Error('Connection terminated')
    try {
      const { rows } = await asked.query<unknown[]>({ text: sql, values: [...values], rowMode: 'array' })
      return rows[0]?.[0] === true
    } catch (error) {
      // One that does not answer holds nothing that could be relied on. The next one who asks gets another.
      if (client === asked) client = undefined
      void asked.end().catch(() => undefined)
      throw error
    }
  }
  const told = <T>(asked: Promise<T>): Promise<T> =>
    asked.catch(error => {
      throw translated(error, address, false)
    })
  await told(connect()).catch(error => {
    closed = true
    throw error
  })
  return {
    process,
    // The view shows their numbers without a sign.
    alive: other =>
      told(ask(`select exists (${living} and objid::bigint = $2)`, [lockSpace, lockOf(other) >>> 0])),
    alone: () =>
      told(ask(`select not exists (${living} and objid::bigint <> $2)`, [lockSpace, lockOf(process) >>> 0])),
    // Asked again while it is held: then it counts one more, and all of them go with the connection.
    lead: () => ask('select pg_try_advisory_lock($1, $2)', leaderLock).catch(() => false),
    async close() {
      closed = true
      clearTimeout(timer)
      await client?.end().catch(() => undefined)
    },
  }
}
