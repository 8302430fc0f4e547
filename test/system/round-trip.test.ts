/**
 * Round trips through the whole product: every method of both engines, to every kind of destination, encrypted and plain.
 * Schema and content equal afterwards, whatever the names and however odd the objects.
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { type Gcs, startGcs } from '../servers/gcs.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { createDatabase, makePostgresSample } from '../support/postgres-sample.ts'
import { makeShop, sqliteOddities } from '../support/shop.ts'
import { expectCleanHost } from './inspect.ts'
import { azureInput, directory, gcsInput, type Stack, s3Input, startStack } from './stack.ts'

const oddName = `ödd "name' with = spaces; $(x) --`

describe('round trips', () => {
  let stack: Stack
  let store: Versitygw
  let blobs: Azurite
  let google: Gcs
  let postgres: TestPostgres
  const paths: Record<string, string> = {}

  before(async () => {
    stack = await startStack()
    store = await startVersitygw()
    blobs = await startAzurite()
    google = await startGcs()
    postgres = await startPostgres()
    await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'round'))
    await stack.expectOk('POST', '/v1/destinations', azureInput(blobs, 'blobs', 'round'))
    await stack.expectOk('POST', '/v1/destinations', gcsInput(google, 'google', 'round'))
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: await directory(stack, 'backups') })

    paths.odd = join(stack.directory, `${oddName}.db`)
    makeShop(paths.odd, { rows: 2000 })
    const database = new DatabaseSync(paths.odd)
    database.exec('PRAGMA journal_mode = WAL')
    database.exec(sqliteOddities)
    database.close()
    paths.empty = join(stack.directory, 'empty.db')
    await writeFile(paths.empty, '')

    await createDatabase(postgres.url(), oddName)
    await makePostgresSample(postgres.url(oddName), { rows: 2000, oddities: true })
    await createDatabase(postgres.url(), 'empty')

    for (const which of ['odd', 'empty']) {
      await stack.expectOk('POST', '/v1/connections', {
        name: `${which}-copy`,
        url: `sqlite:${paths[which]}`,
        method: 'physical',
      })
      await stack.expectOk('POST', '/v1/connections', {
        name: `${which}-dump`,
        url: `sqlite:${paths[which]}`,
        method: 'logical',
      })
      await stack.expectOk('POST', '/v1/connections', {
        name: `${which}-pg`,
        url: postgres.url(which === 'odd' ? oddName : 'empty'),
      })
    }
  })

  after(async () => {
    await stack?.stop()
    await postgres?.stop()
    await store?.stop()
    await blobs?.stop()
    await google?.stop()
  })

  const roundTrip = async (
    request: { connection: string; destinations: string[]; format: string; encryptTo?: string[] },
    target: string,
  ) => {
    const made = await stack.ended((await stack.backup(request)).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    const [listed] = await stack.backups(request.connection)
    assert.equal(listed?.id, made.backup)
    assert.equal(listed?.encrypted, request.encryptTo === undefined)
    const checked = await stack.expectOk<{ operation: { id: string } }>(
      'POST',
      `/v1/backups/${made.backup}/verify`,
      { level: 'checksum' },
    )
    const verified = await stack.ended(checked.operation.id)
    assert.equal(verified.state, 'succeeded', JSON.stringify(verified.error))
    const restored = await stack.ended(
      (
        await stack.restore({
          backup: made.backup,
          target: { connection: request.connection, database: target },
        })
      ).id,
    )
    assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))
    for (const id of [made.id, restored.id]) expectCleanHost(stack.home, id)
  }

  for (const which of ['odd', 'empty'] as const) {
    for (const format of ['copy', 'dump', 'custom', 'directory'] as const) {
      for (const destination of ['disk', 'vault', 'blobs', 'google']) {
        for (const encrypted of [true, false]) {
          // What lies in a store is the same bytes everywhere: once encrypted, once plain will do for the others.
          if (['blobs', 'google'].includes(destination) && encrypted !== (which === 'odd')) continue
          test(`${which}, ${format} → ${destination}, ${encrypted ? 'encrypted' : 'plain'}`, async () => {
            const isSqlite = format === 'copy' || format === 'dump'
            const connection = `${which}-${isSqlite ? format : 'pg'}`
            const name = `-back ${which} ${format} ${destination} ${encrypted} é'"`
            const target = isSqlite ? join(stack.directory, `${name}.db`) : name
            await roundTrip(
              { connection, destinations: [destination], format, ...(encrypted ? {} : { encryptTo: [] }) },
              target,
            )
            if (isSqlite) assert.deepEqual(digestSqlite(target), digestSqlite(paths[which] ?? ''))
            else {
              const source = postgres.url(which === 'odd' ? oddName : 'empty')
              assert.deepEqual(await digestPostgres(postgres.url(target)), await digestPostgres(source))
            }
          })
        }
      }
    }
  }

  test('a database of a gigabyte, streamed to S3 and back', async () => {
    await createDatabase(postgres.url(), 'large')
    await makePostgresSample(postgres.url('large'), { rows: 100_000 })
    // Compresses about 6:1.
    const hashes = Array.from({ length: 10 }, (_, salt) => `md5(${salt} || i::text)`).join(' || ')
    await postgres.sql(
      `CREATE TABLE events AS SELECT i AS id, repeat(${hashes}, 3) AS body FROM generate_series(1, 1000000) i`,
      'large',
    )
    const size = Number(await postgres.sql("SELECT pg_database_size('large')"))
    assert.ok(size >= 1e9, `the large database has ${size} bytes`)
    await stack.expectOk('POST', '/v1/connections', { name: 'large', url: postgres.url('large') })
    await roundTrip({ connection: 'large', destinations: ['vault'], format: 'custom' }, 'large-back')
    assert.deepEqual(
      await digestPostgres(postgres.url('large-back')),
      await digestPostgres(postgres.url('large')),
    )
  })
})
