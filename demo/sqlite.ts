/** The sample shop as a SQLite file, and a digest of any SQLite file: schema and every value of every row. */
import { createHash } from 'node:crypto'
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite'
import { names, orderStates, words } from './sample.ts'

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`

/** 131,000 rows in five tables: blobs, NULLs, unicode, an index, a view, a trigger, a foreign key. Returns the row count. */
export function makeSqliteShop(path: string): number {
  const db = new DatabaseSync(path)
  try {
    db.exec(`
      PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; BEGIN;
      CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT, born TEXT);
      CREATE TABLE product (sku TEXT PRIMARY KEY, title TEXT NOT NULL, price REAL, picture BLOB) WITHOUT ROWID;
      CREATE TABLE "order" (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customer, state TEXT, placed TEXT);
      CREATE TABLE "order line" ("order" INTEGER NOT NULL REFERENCES "order", sku TEXT NOT NULL REFERENCES product,
        pieces INTEGER NOT NULL, note TEXT, total REAL GENERATED ALWAYS AS (pieces * 9.99) STORED);
      CREATE TABLE "größe, leer" (id INTEGER PRIMARY KEY, value ANY);
      CREATE INDEX order_by_customer ON "order" (customer, placed);
      CREATE VIEW busy AS SELECT customer, count(*) AS orders FROM "order" GROUP BY customer HAVING count(*) > 6;
      CREATE TRIGGER no_empty_name BEFORE INSERT ON customer WHEN NEW.name = '' BEGIN SELECT raise(ABORT, 'empty'); END;
    `)
    const customer = db.prepare('INSERT INTO customer VALUES (?, ?, ?, ?)')
    for (let i = 1; i <= 10_000; i++) {
      const city = i % 7 === 0 ? null : words[i % words.length]
      customer.run(
        i,
        `${names[i % names.length]} ${i}`,
        city ?? null,
        i % 11 === 0 ? null : `19${10 + (i % 90)}-01-01`,
      )
    }
    const product = db.prepare('INSERT INTO product VALUES (?, ?, ?, ?)')
    for (let i = 1; i <= 1_000; i++) {
      // Pictures do not compress: hashes stand in for them.
      const picture =
        i % 3 === 0 ? null : Buffer.concat(Array.from({ length: 64 }, (_, n) => sha(`${i}/${n}`)))
      product.run(`SKU-${i}`, `${words[i % words.length]} ${words[(i * 7) % words.length]}`, i / 7, picture)
    }
    const order = db.prepare('INSERT INTO "order" VALUES (?, ?, ?, ?)')
    const line = db.prepare('INSERT INTO "order line" ("order", sku, pieces, note) VALUES (?, ?, ?, ?)')
    for (let i = 1; i <= 40_000; i++) {
      order.run(
        i,
        1 + ((i * 31) % 10_000),
        orderStates[i % orderStates.length] ?? null,
        `2026-0${1 + (i % 9)}-15`,
      )
      for (let n = 0; n < 2; n++) {
        const note = (i + n) % 5 === 0 ? `${words[i % words.length]} – “${names[n]}” ☕` : null
        line.run(i, `SKU-${1 + ((i * 13 + n) % 1_000)}`, 1 + (i % 4), note)
      }
    }
    db.exec('COMMIT')
    return 10_000 + 1_000 + 40_000 + 80_000
  } finally {
    db.close()
  }
}

const sha = (text: string): Buffer => createHash('sha256').update(text).digest()

/** Read without Holdfast: what is compared must not be what is tested. */
export function sqliteDigest(path: string): string {
  const db = new DatabaseSync(path, { readOnly: true })
  const hash = createHash('sha256')
  try {
    const schema = db.prepare('SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name').all()
    for (const row of schema) hash.update(`${JSON.stringify(row)}\n`)
    for (const { name, sql } of schema.filter(row => row.type === 'table')) {
      if (/^CREATE VIRTUAL/i.test(String(sql))) continue
      hash.update(`table ${name}\n`)
      const columns = db.prepare(`SELECT name FROM pragma_table_xinfo(?)`).all(String(name))
      const list = columns.map(column => quote(String(column.name))).join(', ')
      const rows = db.prepare(`SELECT ${list} FROM ${quote(String(name))} ORDER BY ${list}`)
      rows.setReadBigInts(true)
      for (const row of rows.iterate()) for (const value of Object.values(row)) hash.update(encode(value))
    }
    return hash.digest('hex')
  } finally {
    db.close()
  }
}

/** Type and length before each value: 1 and '1' and x'31' differ, and values cannot run into each other. */
function encode(value: SQLOutputValue): Buffer {
  const bytes = value instanceof Uint8Array ? Buffer.from(value) : Buffer.from(String(value))
  const type = value === null ? 'null' : value instanceof Uint8Array ? 'blob' : typeof value
  return Buffer.concat([Buffer.from(`${type} ${bytes.length} `), bytes])
}
