/** Databases for system tests whose bytes do not compress, so that small ones need several parts. */
import { randomBytes } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { psql } from '../servers/postgres.ts'

/** A SQLite file of about `megabytes`, random blobs of 1 MB and a few small tables. */
export function makeRandomSqlite(path: string, megabytes: number): void {
  const database = new DatabaseSync(path)
  database.exec(`
    CREATE TABLE blobs (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE words (word TEXT, count INTEGER, "odd name" TEXT);
    INSERT INTO words VALUES ('größer', 1, NULL), ('''quoted''', -2, '');
  `)
  const insert = database.prepare('INSERT INTO blobs (body) VALUES (?)')
  for (let index = 0; index < megabytes; index += 1) insert.run(randomBytes(1_000_000))
  database.close()
}

/** Fills a PostgreSQL database with about `megabytes` of bytes that do not compress, and a few odd rows. */
export async function fillRandomPostgres(url: string, megabytes: number): Promise<void> {
  await psql(
    url,
    `CREATE EXTENSION IF NOT EXISTS pgcrypto;
     CREATE TABLE blobs (id serial PRIMARY KEY, body bytea NOT NULL);
     ALTER TABLE blobs ALTER body SET STORAGE EXTERNAL;
     INSERT INTO blobs (body)
       SELECT (SELECT string_agg(gen_random_bytes(1000), '') FROM generate_series(1, 100 + n - n))
       FROM generate_series(1, ${megabytes * 10}) n;
     CREATE TABLE words (word text, "odd name" int);
     INSERT INTO words VALUES ('größer', 1), (NULL, -2);`,
  )
}
