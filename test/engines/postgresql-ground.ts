/** What the PostgreSQL test files share: a server with a password, small databases, targets, what may be left. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Engine, Method, RestorePlan, RestoreTarget } from '../../engines/engine.ts'
import { engineOf } from '../../engines/index.ts'
import type { PostgresqlConnection } from '../../engines/postgresql/connection.ts'
import { HoldfastError } from '../../model/errors.ts'
import { psql, startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { ask, backUp, type Place, type PlainBackup } from '../support/run.ts'
import { type Scratch, scratch } from '../support/temporary.ts'

export const engine: Engine = engineOf('postgresql')
export const method: Method = engine.methods.logical ?? assert.fail()
export const code = (expected: string, said?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof HoldfastError, String(error))
  assert.equal(error.code, expected, error.message)
  if (said) assert.match(error.message, said)
  assert.doesNotMatch(`${error.message} ${JSON.stringify(error.context)}`, /canary/)
  return true
}
export const password = "canary p'w%:@/ü"

export const settingsOf = (url: string) => engine.parseUrl(url).settings as PostgresqlConnection

let tokens = 0
export const targetOf = (database: string, more: Partial<RestoreTarget> = {}): RestoreTarget => ({
  connection: 'target',
  database,
  token: `tok${++tokens}abcdef`,
  jobs: 2,
  noOwner: false,
  ...more,
})

/** URL of another database on the same server. */
export const sibling = (url: string, database: string): string => {
  const other = new URL(url)
  other.pathname = `/${encodeURIComponent(database)}`
  return other.href
}

export const databases = async (on: TestPostgres): Promise<string[]> =>
  (await on.sql('SELECT datname FROM pg_database')).split('\n')
export const nothingLeft = async (on: TestPostgres): Promise<void> =>
  assert.deepEqual(
    (await databases(on)).filter(name => name.startsWith('holdfast_')),
    [],
  )

export const planFor = async (
  url: string,
  here: Place,
  backup: PlainBackup,
  target: RestoreTarget,
): Promise<RestorePlan> =>
  method.planRestore(
    settingsOf(url),
    target,
    backup.manifest,
    await ask(here, engine.probeTarget('target', settingsOf(url))),
  )

export interface Ground extends AsyncDisposable {
  dir: Scratch
  server: TestPostgres
  /** A staging directory of its own. */
  place(secrets?: Record<string, string>): Place
  /** A small database, backed up in custom format, with enough data that a load takes a while. */
  plain(name: string): Promise<{ url: string; here: Place; backup: PlainBackup; bytes: Buffer }>
}

export async function openGround(options: { config?: string } = {}): Promise<Ground> {
  const dir = await scratch()
  const server = await startPostgres({ auth: 'scram', password, ...options })
  let places = 0
  const place = (secrets: Record<string, string> = { password }): Place => ({
    staging: join(dir.path, `staging-${++places}`),
    secrets,
  })
  return {
    dir,
    server,
    place,
    async plain(name) {
      const url = await createDatabase(server.url(), name)
      await psql(
        url,
        `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i; CREATE INDEX ON t (v);`,
      )
      const here = place()
      const backup = await backUp(engine, method, settingsOf(url), here)
      return { url, here, backup, bytes: readFileSync(Object.values(backup.files)[0] ?? '') }
    },
    async [Symbol.asyncDispose]() {
      await server.stop()
      await dir[Symbol.asyncDispose]()
    },
  }
}
