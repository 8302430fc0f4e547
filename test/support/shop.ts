/** A sample SQLite shop: several tables, blobs, NULLs, unicode. The same rows for the same arguments. */
import { DatabaseSync } from 'node:sqlite'

const words = [
  'Zürich',
  'São Paulo',
  '東京',
  'Αθήνα',
  'naïve',
  'coffee ☕',
  "O'Brien",
  'quote "x"',
  'Łódź',
  '😀 smile',
]

/** mulberry32: a small deterministic generator. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/**
 * Writes a new database at `path` (which must not exist) with about `rows` rows in all, 100,000 by default; blocks the
 * event loop for about a second per 500,000 rows. Returns the number of rows by table.
 */
export function makeShop(
  path: string,
  options: { rows?: number; seed?: number } = {},
): Record<string, number> {
  const rows = options.rows ?? 100_000
  const next = random(options.seed ?? 7)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T
  const counts = {
    customers: Math.max(1, Math.floor(rows * 0.1)),
    products: Math.max(1, Math.floor(rows * 0.02)),
    orders: Math.max(1, Math.floor(rows * 0.28)),
    order_items: Math.max(1, Math.ceil(rows * 0.6)),
  }
  const database = new DatabaseSync(path)
  try {
    database.exec(`PRAGMA synchronous = OFF;
BEGIN;
CREATE TABLE customers (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, email TEXT UNIQUE, city TEXT, notes TEXT, created_at INTEGER NOT NULL);
CREATE TABLE products (id INTEGER PRIMARY KEY, sku TEXT NOT NULL, title TEXT NOT NULL, price_cents INTEGER NOT NULL, weight REAL, picture BLOB,
  label TEXT GENERATED ALWAYS AS (sku || ' ' || title) VIRTUAL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers(id), state TEXT NOT NULL, placed_at INTEGER NOT NULL, comment TEXT);
CREATE TABLE order_items (order_id INTEGER NOT NULL REFERENCES orders(id), line INTEGER NOT NULL, product_id INTEGER NOT NULL REFERENCES products(id),
  quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL, PRIMARY KEY (order_id, line)) WITHOUT ROWID;
CREATE VIEW order_totals AS SELECT order_id, sum(quantity * price_cents) AS total_cents FROM order_items GROUP BY order_id;
CREATE TRIGGER orders_cancelled AFTER UPDATE OF state ON orders WHEN new.state = 'cancelled' BEGIN DELETE FROM order_items WHERE order_id = new.id; END;
PRAGMA application_id = 1397247824;
PRAGMA user_version = 3;`)
    const customer = database.prepare(
      'INSERT INTO customers (name, email, city, notes, created_at) VALUES (?, ?, ?, ?, ?)',
    )
    for (let i = 1; i <= counts.customers; i++) {
      const name = `${pick(words)} ${i}`
      const email = i % 11 === 0 ? null : `customer${i}@example.test`
      const notes = i % 5 === 0 ? `line one\nline two of ${name}` : null
      customer.run(name, email, pick(words), notes, 1_700_000_000 + i)
    }
    const product = database.prepare(
      'INSERT INTO products (sku, title, price_cents, weight, picture) VALUES (?, ?, ?, ?, ?)',
    )
    for (let i = 1; i <= counts.products; i++) {
      const picture = Uint8Array.from({ length: 64 + Math.floor(next() * 1500) }, () =>
        Math.floor(next() * 256),
      )
      product.run(
        `SKU-${i}`,
        pick(words),
        Math.floor(next() * 100_000),
        i % 7 === 0 ? null : next() * 50,
        i % 9 === 0 ? null : picture,
      )
    }
    const order = database.prepare(
      'INSERT INTO orders (customer_id, state, placed_at, comment) VALUES (?, ?, ?, ?)',
    )
    for (let i = 1; i <= counts.orders; i++) {
      const customerId = 1 + Math.floor(next() * counts.customers)
      order.run(
        customerId,
        pick(['new', 'paid', 'sent', 'returned']),
        1_700_000_000 + i * 30,
        i % 13 === 0 ? pick(words) : null,
      )
    }
    const item = database.prepare('INSERT INTO order_items VALUES (?, ?, ?, ?, ?)')
    for (let i = 0; i < counts.order_items; i++) {
      const orderId = 1 + (i % counts.orders)
      const line = 1 + Math.floor(i / counts.orders)
      const productId = 1 + Math.floor(next() * counts.products)
      item.run(orderId, line, productId, 1 + Math.floor(next() * 9), Math.floor(next() * 100_000))
    }
    database.exec(
      'CREATE INDEX orders_by_customer ON orders (customer_id, placed_at); CREATE INDEX customers_by_name ON customers (lower(name)); COMMIT;',
    )
  } finally {
    database.close()
  }
  return counts
}

/** SQL of everything that is odd in SQLite, for a database of its own. */
export const sqliteOddities = `PRAGMA user_version = -7; PRAGMA application_id = 99;
BEGIN;
CREATE TABLE "we ird ""q'uote" (a INTEGER PRIMARY KEY, b TEXT, "c col" BLOB, g INT GENERATED ALWAYS AS (a * 2) STORED, v TEXT AS (b || 'x'));
INSERT INTO "we ird ""q'uote" (a, b, "c col") VALUES (1, 'ü€😀' || char(10) || 'nl', x'00ff'), (4611686018427387903, NULL, NULL), (-5, '\\n literal', zeroblob(10)), (7, 'cr' || char(13, 10) || ';--', x'');
CREATE TABLE "-leading dash" (x); INSERT INTO "-leading dash" VALUES (9223372036854775807), (-9223372036854775808), ('-- not a comment'), ('COMMIT;');
CREATE TABLE "ünïcödé 表" (x TEXT); INSERT INTO "ünïcödé 表" VALUES ('値');
CREATE TABLE reals (a TEXT, b REAL, PRIMARY KEY (a)) WITHOUT ROWID;
INSERT INTO reals VALUES ('inf', 1e999), ('-inf', -1e999), ('tenth', 0.1), ('tiny', 1e-250), ('three', 3.0), ('max', 1.7976931348623157e308), ('nan', 0.0 * 1e999), ('third', 1.0/3);
CREATE TABLE strict_ones (a INT, b ANY, c REAL) STRICT; INSERT INTO strict_ones VALUES (1, '1', 2.5), (2, 2, 1);
CREATE TABLE no_key (a); INSERT INTO no_key (rowid, a) VALUES (10, 'ten'), (500, 'five hundred');
CREATE TABLE auto (id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO auto (x) VALUES (1), (2); DELETE FROM auto WHERE id = 2;
CREATE TABLE cycle_a (id INTEGER PRIMARY KEY, b REFERENCES cycle_b (id) DEFERRABLE INITIALLY DEFERRED); CREATE TABLE cycle_b (id INTEGER PRIMARY KEY, a REFERENCES cycle_a (id) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO cycle_a VALUES (1, 1); INSERT INTO cycle_b VALUES (1, 1);
CREATE VIRTUAL TABLE notes USING fts5 (body); INSERT INTO notes VALUES ('hello there'), ('grüße');
CREATE VIRTUAL TABLE boxes USING rtree (id, low, high); INSERT INTO boxes VALUES (1, 2, 3);
CREATE TABLE empty_one (x);
CREATE INDEX on_expression ON "we ird ""q'uote" (lower(b)) WHERE b IS NOT NULL;
CREATE VIEW looks AS SELECT * FROM no_key;
CREATE TRIGGER fires AFTER INSERT ON no_key BEGIN DELETE FROM reals; END;
COMMIT;
ANALYZE;
`

/** What only the online copy keeps: `.dump` cuts text at a NUL and rounds the tiniest numbers. */
export const sqliteCopyOnly = `CREATE TABLE copy_only (t TEXT, r REAL);
INSERT INTO copy_only VALUES ('a' || char(0) || 'b', 5e-324), (CAST(x'ff41' AS TEXT), 2.8007459344197816e-305);
`
