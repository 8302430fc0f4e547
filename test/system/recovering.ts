/** What tests of recoveries share: an archiving server, a note of its commits outside of the database, and copies of it. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import type { OperationView } from '../../model/views.ts'
import { launcher } from '../cli/run.ts'
import { type PostgresOptions, startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { expectCleanHost } from './inspect.ts'
import type { Stack } from './stack.ts'

type Sql = (text: string) => Promise<string>

export interface Commit {
  number: number
  /** After it, and before the next one. */
  lsn: string
  at: string
  xid: string
}

/** PostgreSQL fetches its log by the product's own command. */
export const withLauncher = { PATH: `${dirname(launcher)}:${process.env.PATH}` }

export const makeLedger = (sql: Sql) =>
  sql('CREATE TABLE ledger (number serial PRIMARY KEY); CREATE EXTENSION amcheck')

/** After which place of the log, and when, it was answered. */
export async function write(sql: Sql): Promise<Commit> {
  // Each statement is a transaction of its own.
  const said = await sql(
    `INSERT INTO ledger DEFAULT VALUES RETURNING number, pg_current_xact_id();
     SELECT pg_current_wal_insert_lsn(), clock_timestamp() AT TIME ZONE 'UTC'`,
  )
  const [[number, xid], [lsn, at]] = said.split('\n').map(line => line.split('|')) as [
    [string, string],
    [string, string],
  ]
  return { number: Number(number), xid, lsn, at: `${at.replace(' ', 'T')}Z` }
}

export const numbersIn = async (sql: Sql): Promise<number[]> =>
  (await sql('SELECT number FROM ledger ORDER BY number')).split('\n').filter(Boolean).map(Number)

/** A directory in which PostgreSQL's user can make data directories. */
export async function makeGround(): Promise<string> {
  const ground = await mkdtemp(join(tmpdir(), 'holdfast-pitr-'))
  if (process.getuid?.() === 0) await promisify(execFile)('chown', ['postgres:', ground])
  return ground
}

export const random = (from: number, to: number) => from + Math.floor(Math.random() * (to - from + 1))

/** Of the connection `shop`, into directories of that ground. `started`: how a server of theirs is. */
export function recoveries(stack: Stack, ground: string, walConfig: string, started: PostgresOptions = {}) {
  const asked = (to: unknown, name: string, more: Record<string, unknown> = {}) => ({
    connection: 'shop',
    to,
    target: { directory: join(ground, name) },
    walConfig,
    ...more,
  })
  return {
    ground,
    asked,
    async recover(to: unknown, name: string, more: Record<string, unknown> = {}) {
      const body = asked(to, name, more)
      return (await stack.expectOk<{ operation: OperationView }>('POST', '/v1/pitr', body)).operation
    },
    async succeeded({ id }: { id: string }) {
      const view = await stack.ended(id, 240)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      expectCleanHost(stack.home, id)
      return view
    },
    async failed({ id }: { id: string }, code: string) {
      const view = await stack.ended(id, 240)
      assert.equal(view.state, 'failed')
      assert.equal(view.error?.code, code, JSON.stringify(view.error))
      expectCleanHost(stack.home, id)
      return view
    },
    /** Started as whoever gets it would, it is a server of its own with these commits, and no other. */
    async expectNumbers(
      name: string,
      numbers: readonly number[],
      more: (copy: TestPostgres) => Promise<void> = async () => {},
    ) {
      const logFile = join(stack.directory, `${name}.log`)
      const log = await readdir(join(ground, name, 'pg_wal'))
      assert.deepEqual(
        log.filter(file => file.includes('holdfast')),
        [],
      )
      const copy = await startPostgres({ ...started, dataDir: join(ground, name), logFile })
      try {
        assert.deepEqual(await numbersIn(copy.sql), numbers, name)
        assert.equal(await copy.sql('SHOW archive_mode'), 'off')
        assert.equal(await copy.sql('SELECT pg_is_in_recovery()'), 'f')
        await more(copy)
      } finally {
        await copy.stop()
      }
    },
    async expectNothing(name: string) {
      const left = (await readdir(ground)).filter(entry => entry.startsWith(name))
      assert.deepEqual(left, [])
    },
    remove: () => rm(ground, { recursive: true, force: true }),
  }
}
