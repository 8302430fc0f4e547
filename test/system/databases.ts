/** Databases for system tests whose bytes do not compress, so that small ones need several parts. */
import { randomBytes } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'

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
