/**
 * Every row of one catalog into another that is empty, and proof that it arrived: the digest of what was written is
 * compared with the digest of what is read back, table by table, before anything is committed.
 */
import { createHash } from 'node:crypto'
import { HoldfastError } from '../model/errors.ts'
import { hashOf } from './audit.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { CatalogTables } from './schema.ts'
import type { SecretBox } from './secrets.ts'

type Copied = Exclude<keyof CatalogTables, 'schema_version' | 'moves'>
type Row = Record<string, unknown>

/**
 * What a row is found by, in the order of which pages are read. Tables that others refer to come first. A table that is
 * missing here does not compile.
 */
const keys = {
  installation: ['id'],
  secrets: ['owner', 'field'],
  connections: ['name'],
  hosts: ['name'],
  destinations: ['name'],
  wrapped_keys: ['destination', 'backup_id', 'kid'],
  key_states: ['kid'],
  epochs: ['destination'],
  bandwidth_limits: ['scope'],
  bandwidth_transfers: ['transfer', 'scope'],
  operations: ['id'],
  staging_promises: ['operation_id', 'purpose'],
  hooks: ['connection'],
  hook_runs: ['operation_id', 'name'],
  operation_log: ['operation_id', 'seq'],
  plans: ['operation_id'],
  approvals: ['operation_id'],
  destructive_steps: ['operation_id', 'step'],
  kept_copies: ['operation_id'],
  attempts: ['attempt_id'],
  attempt_destinations: ['attempt_id', 'destination'],
  backups: ['id'],
  copies: ['backup_id', 'destination'],
  drills: ['operation_id'],
  pins: ['operation_id', 'backup_id', 'destination'],
  users: ['name'],
  tokens: ['id'],
  sessions: ['id'],
  password_tries: ['key'],
  audit: ['seq'],
  audit_head: ['id'],
  audit_begun: ['id'],
  idempotency: ['key'],
  schedules: ['id'],
  schedule_destinations: ['schedule_id', 'destination'],
  schedule_runs: ['schedule_id', 'due_at'],
  restore_points: ['connection', 'name'],
  log_watch: ['connection'],
  log_streams: ['connection'],
} satisfies { [Table in Copied]: (keyof CatalogTables[Table])[] }

export const copiedTables = Object.keys(keys) as Copied[]

const pageRows = 200

/** Rows of a table by their key, some at a time. */
async function* pagesOf(db: CatalogDatabase, table: Copied): AsyncGenerator<Row[]> {
  const key = keys[table] as readonly string[]
  let last: Row | undefined
  for (;;) {
    // The table is known by name only here, so the builder is asked without its types.
    let query = (db as unknown as Untyped).selectFrom(table).selectAll()
    if (last !== undefined) query = query.where(after(key, last))
    for (const column of key) query = query.orderBy(column)
    const rows: Row[] = await query.limit(pageRows).execute()
    if (rows.length > 0) yield rows
    if (rows.length < pageRows) return
    last = rows.at(-1)
  }
}

interface Untyped {
  selectFrom(table: string): { selectAll(): UntypedSelect }
  insertInto(table: string): { values(rows: Row[]): { execute(): Promise<unknown> } }
}
interface UntypedSelect {
  where(condition: (builder: Builder) => unknown): UntypedSelect
  orderBy(column: string): UntypedSelect
  limit(count: number): { execute(): Promise<Row[]> }
}
interface Builder {
  (column: string, operator: '=' | '>', value: unknown): unknown
  and(parts: unknown[]): unknown
  or(parts: unknown[]): unknown
}

/** `(a, b) > (x, y)`, in words that both kinds of database know. */
const after =
  (key: readonly string[], last: Row) =>
  (eb: Builder): unknown =>
    eb.or(
      key.map((column, index) =>
        eb.and([
          ...key.slice(0, index).map(earlier => eb(earlier, '=', last[earlier])),
          eb(column, '>', last[column]),
        ]),
      ),
    )

/** Of rows in whatever order: each kind of database sorts text in its own way. */
function multisetDigest() {
  let sum = 0n
  let rows = 0
  return {
    add(row: Row) {
      const fields = Object.keys(row)
        .sort()
        .map(name => [name, plain(row[name])])
      sum += BigInt(`0x${createHash('sha256').update(JSON.stringify(fields)).digest('hex')}`)
      rows += 1
    },
    result: () => ({ rows, digest: (sum & ((1n << 256n) - 1n)).toString(16).padStart(64, '0') }),
  }
}

/** Numbers and bytes as text of one form: an integer may come as bigint, bytes as one class or another. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return ['bytes', Buffer.from(value).toString('base64')]
  if (typeof value === 'bigint' || typeof value === 'number') return ['number', String(value)]
  return value ?? null
}

/** What becomes of a row on its way. `undefined`: it stays behind. */
type OnItsWay = (table: Copied, row: Row) => Row | undefined

/**
 * Copies all tables within `to`'s transaction; returns their numbers of rows. `between` is called after each table. Throws
 * `catalog.differs` when something else arrived than was sent: then nothing may be committed.
 */
export async function copyTables(
  from: CatalogDatabase,
  to: CatalogDatabase,
  onItsWay: OnItsWay,
  between: (table: string) => void | Promise<void>,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const table of copiedTables) {
    const sent = multisetDigest()
    for await (const page of pagesOf(from, table)) {
      const rows = page.map(row => onItsWay(table, row)).filter(row => row !== undefined)
      if (rows.length === 0) continue
      await (to as unknown as Untyped).insertInto(table).values(rows).execute()
      for (const row of rows) sent.add(row)
    }
    const arrived = multisetDigest()
    for await (const page of pagesOf(to, table)) for (const row of page) arrived.add(row)
    const [here, there] = [sent.result(), arrived.result()]
    if (here.rows !== there.rows || here.digest !== there.digest) {
      throw new HoldfastError(
        'catalog.differs',
        `Of table ${table} ${here.rows} rows were sent (${here.digest.slice(0, 16)}) and ${there.rows} are there (${there.digest.slice(0, 16)}).`,
      )
    }
    counts[table] = there.rows
    await between(table)
  }
  return counts
}

/**
 * For another secret key: stored secrets are sealed with it, and the audit's hashes, which the old one keys, are made anew
 * over the same rows (the caller has checked them), from what pruning has left as their beginning. Counted tries of passwords
 * are under hashes that nobody could look for any more, so they stay behind.
 */
export function resealing(from: SecretBox, to: SecretBox, auditFrom: string): OnItsWay {
  let before = auditFrom
  return (table, row) => {
    if (table === 'secrets') {
      const { owner, field, ...sealed } = row as unknown as CatalogTables['secrets']
      return { owner, field, ...to.seal(owner, field, from.unseal(owner, field, sealed)) }
    }
    if (table === 'audit') {
      before = hashOf({ box: to }, before, row as unknown as CatalogTables['audit'])
      return { ...row, hash: before }
    }
    if (table === 'audit_head') return { ...row, hash: before }
    return table === 'password_tries' ? undefined : row
  }
}
