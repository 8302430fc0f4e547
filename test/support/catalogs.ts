/**
 * Where the catalog of a test lies: a SQLite file, or a database of its own on the server that HOLDFAST_TEST_CATALOG
 * names. `on-postgresql.test.ts` runs the same suites once more with it.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { globSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { psql, startPostgres, type TestPostgres } from '../servers/postgres.ts'

export interface PlaceOfCatalog {
  url: string
  /** After the catalog was closed. */
  remove(): Promise<void>
}

const server = process.env.HOLDFAST_TEST_CATALOG

export async function placeForCatalog(directory: string): Promise<PlaceOfCatalog> {
  if (server === undefined) {
    return { url: `sqlite:${join(directory, 'catalog.sqlite')}`, remove: async () => undefined }
  }
  const name = `catalog_${randomBytes(6).toString('hex')}`
  await psql(server, `create database ${name}`)
  const url = new URL(server)
  url.pathname = `/${name}`
  return {
    url: url.href,
    remove: async () => void (await psql(server, `drop database ${name} with (force)`)),
  }
}

/** Runs every other suite of this directory again, with its catalogs on PostgreSQL. `except`: of SQLite's file alone. */
export function suitesOnPostgresql(directory: string, except: readonly string[]): void {
  describe('with the catalog on PostgreSQL', () => {
    let postgres: TestPostgres
    before(async () => {
      // Sorted by another locale than bytes, as most servers are.
      postgres = await startPostgres({ auth: 'scram', password: 'kanarienvogel-catalog', icuLocale: 'en-US' })
    })
    after(() => postgres?.stop())

    const files = globSync('*.test.ts', { cwd: directory }).filter(
      file => file !== 'on-postgresql.test.ts' && !except.includes(file),
    )
    for (const file of files) {
      test(basename(file, '.test.ts'), async () => {
        const { NODE_TEST_CONTEXT: _, ...env } = process.env
        const ended = await promisify(execFile)(
          process.execPath,
          ['--test', '--test-reporter=tap', join(directory, file)],
          { env: { ...env, HOLDFAST_TEST_CATALOG: postgres.url() }, maxBuffer: 64 * 1024 * 1024 },
        ).catch((error: { stdout: string; stderr: string }) => assert.fail(error.stdout + error.stderr))
        assert.match(ended.stdout, /^# pass [1-9]/m)
        assert.match(ended.stdout, /^# skipped 0$/m)
        assert.doesNotMatch(ended.stdout + ended.stderr, /kanarienvogel-catalog/)
      })
    }
  })
}
