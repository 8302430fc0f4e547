/** The PostgreSQL server of the bench and its database: the same rows every time, made inside the server. */
import { randomBytes } from 'node:crypto'
import { type PostgresOptions, startPostgres, type TestPostgres } from '../test/servers/postgres.ts'
import type { Database } from './memory.ts'

/** Rows of the largest table per GB of database; with them the database of `--size 1` is a little over 1e9 bytes. */
const eventsPerGigabyte = 1_270_000

/**
 * A shop's data: log lines with random identifiers (a third of the bytes cannot be compressed), narrow rows with many
 * numbers, documents with binary content. `zstd -3` makes a third of its dump. Every value depends on its row's number.
 */
export function generatingSql(sizeGb: number): string {
  const events = Math.max(1000, Math.round(eventsPerGigabyte * sizeGb))
  const random = (salt: string) => `encode(sha256(('${salt}' || i)::bytea), 'base64')`
  const number = (salt: number, mask: number) => `(hashint8(i + ${salt}) & ${mask})`
  const one = (salt: number, words: string) =>
    `(ARRAY['${words.split(' ').join("','")}'])[1 + ${number(salt, 7)}]`
  return `
BEGIN;
CREATE TABLE events AS SELECT
  i AS id,
  timestamptz '2026-01-01 00:00:00+00' + i * interval '337 milliseconds' AS at,
  ${one(0, 'page_view add_to_cart checkout payment search login logout error')} AS kind,
  'session=' || ${random('a')} || ' visitor=' || ${random('b')}
    || ' agent=Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/' || (100 + ${number(2, 31)})
    || '.0.0.0 Safari/537.36 path=/catalog/' || ${one(3, 'garden kitchen books toys music outdoor office pets')}
    || '/' || ${number(4, 65535)} || ' referrer=https://search.example/?q=' || ${random('c')}
    || ' took=' || ${number(5, 4095)} || 'ms trace=' || ${random('d')} || ' status=200 region='
    || ${one(6, 'eu-central eu-west us-east us-west ap-south sa-east af-south me-central')}
    || ' body={"items": [], "currency": "EUR", "consent": {"analytics": true, "marketing": false}}' AS line
FROM generate_series(1, ${events}) i;
CREATE TABLE orders AS SELECT
  i AS id,
  ${number(0, 131071)} AS customer,
  timestamptz '2026-01-01 00:00:00+00' + i * interval '911 milliseconds' AS placed_at,
  ${one(1, 'new paid packed sent delivered returned cancelled disputed')} AS status,
  (${number(2, 1048575)} / 100.0)::numeric(10, 2) AS total,
  md5('e' || i)::uuid AS reference
FROM generate_series(1, ${events} / 2) i;
CREATE TABLE measurements AS SELECT
  i AS id,
  ${number(0, 255)} AS sensor,
  timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second' AS at,
  sin(i) * 100 AS value
FROM generate_series(1, ${events} / 2) i;
CREATE TABLE documents AS SELECT
  i AS id,
  'Document ' || i AS title,
  sha256(('f' || i)::bytea) || sha256(('g' || i)::bytea) || sha256(('h' || i)::bytea) || sha256(('i' || i)::bytea)
    || decode(repeat('00ff00fe', 32), 'hex') AS content
FROM generate_series(1, ${events} / 10) i;
ALTER TABLE events ADD PRIMARY KEY (id);
ALTER TABLE orders ADD PRIMARY KEY (id);
ALTER TABLE documents ADD PRIMARY KEY (id);
CREATE INDEX orders_of_customer ON orders (customer, placed_at);
COMMIT;
-- The first reader would write hint bits; here nobody does later.
VACUUM (FREEZE, ANALYZE);
CHECKPOINT;
`
}

/** As a careful server writes, with nobody vacuuming at random moments. */
export async function database(
  closers: (() => Promise<unknown>)[],
  { config, ...more }: Pick<PostgresOptions, 'binaries'> & { config: readonly string[] } = { config: [] },
): Promise<TestPostgres> {
  const postgres = await startPostgres({
    durable: true,
    auth: 'scram',
    password: randomBytes(12).toString('hex'),
    config: ['shared_buffers = 256MB', 'autovacuum = off', ...config].join('\n'),
    ...more,
  })
  closers.push(() => postgres.stop())
  return postgres
}

export async function make(
  postgres: TestPostgres,
  name: string,
  sizeGb: number,
  say: (line: string) => void,
): Promise<Database> {
  const begun = Date.now()
  await postgres.sql(`CREATE DATABASE ${name}`)
  await postgres.sql(generatingSql(sizeGb), name)
  const bytes = Number(await postgres.sql('SELECT pg_database_size(current_database())', name))
  say(
    `database "${name}": ${(bytes / 1e9).toFixed(3)} GB, made in ${((Date.now() - begun) / 1000).toFixed(0)} s`,
  )
  return {
    name,
    bytes,
    async drop(restored) {
      await postgres.sql(`DROP DATABASE IF EXISTS ${restored}`)
    },
  }
}

export function libpq(postgres: TestPostgres): Record<string, string> {
  const url = new URL(postgres.url())
  return {
    PGHOST: url.hostname,
    PGPORT: url.port,
    PGUSER: decodeURIComponent(url.username),
    PGPASSWORD: decodeURIComponent(url.password),
  }
}
