/**
 * Who changed what, and who was refused: rows that are added and never changed. Each row's hash covers it and the row
 * before, keyed by the secret key: whoever can only write to the catalog cannot change, remove or insert a row unnoticed.
 *
 * Checking and pruning: audit-chain.ts. A change of the API is entered as begun before it is made; when its process dies in
 * between, the next one says so in a row of its own.
 */
import { randomBytes } from 'node:crypto'
import type { Selectable } from 'kysely'
import { readable } from '../model/ids.ts'
import type { Actor } from '../model/records.ts'
import type { Json } from '../model/types.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

/** `failed`: it was allowed and did not work. `unknown`: the process ended before it could say. */
export type AuditOutcome = 'done' | 'refused' | 'failed' | 'unknown'

export interface AuditEntry {
  at: string
  /** An `Actor`, or somebody known by name only, as Holdfast itself. */
  actor: Pick<Actor, 'name'> & Partial<Actor>
  /** What was asked: `POST /v1/backups`, or words of one's own for what is no request. */
  action: string
  /** To what: a path, an operation, a connection. */
  object: string
  outcome: AuditOutcome
  /** Small facts for people. Never a secret. */
  detail: Record<string, Json>
}

/**
 * Adds a row. Within a transaction give it as `tx` and call this last, since rows are added one at a time: everybody else
 * who adds one waits for the end of it.
 */
export async function audit(
  catalog: Pick<Catalog, 'box' | 'transaction'>,
  entry: AuditEntry,
  tx?: CatalogDatabase,
): Promise<void> {
  if (tx) await append(catalog, entry, tx)
  else await catalog.transaction(own => append(catalog, entry, own))
}

/** Enters a change that is about to be made; `endAudited` says how it went. */
export async function beginAudited(
  catalog: Catalog,
  process: string,
  entry: Omit<AuditEntry, 'outcome'>,
): Promise<string> {
  const id = readable(randomBytes(14))
  await catalog.db
    .insertInto('audit_begun')
    .values({ id, process, at: entry.at, entry: JSON.stringify(entry) })
    .execute()
  return id
}

export async function endAudited(catalog: Catalog, id: string, entry: AuditEntry): Promise<void> {
  await catalog.transaction(async tx => {
    const gone = await tx.deleteFrom('audit_begun').where('id', '=', id).executeTakeFirst()
    const late = gone.numDeletedRows === 0n ? { note: 'it was entered as unknown before' } : {}
    await append(catalog, { ...entry, detail: { ...entry.detail, ...late } }, tx)
  })
}

/**
 * Enters what processes that are dead had begun before this time and never ended; returns how many there were. One that only
 * lost its way to the catalog is back soon, and says then how it went, too.
 */
export async function settleBegun(catalog: Catalog, process: string, before: string): Promise<number> {
  const begun = await catalog.db
    .selectFrom('audit_begun')
    .select('process')
    .distinct()
    .where('process', '!=', process)
    .where('at', '<=', before)
    .execute()
  let settled = 0
  for (const one of begun) {
    if (!(await catalog.presence.alive(one.process))) settled += await settleOf(catalog, one.process, before)
  }
  return settled
}

async function settleOf(catalog: Catalog, process: string, before: string): Promise<number> {
  return await catalog.transaction(async tx => {
    const rows = await tx
      .selectFrom('audit_begun')
      .select(['id', 'entry'])
      .where('process', '=', process)
      .where('at', '<=', before)
      .orderBy('at')
      .execute()
    for (const row of rows) {
      const entry: Omit<AuditEntry, 'outcome'> = JSON.parse(row.entry)
      const detail = { ...entry.detail, note: 'the process ended before it could say whether it was done' }
      await tx.deleteFrom('audit_begun').where('id', '=', row.id).execute()
      await append(catalog, { ...entry, outcome: 'unknown', detail }, tx)
    }
    return rows.length
  })
}

async function append(catalog: Pick<Catalog, 'box'>, entry: AuditEntry, tx: CatalogDatabase): Promise<void> {
  // The one row that everybody needs first: on a server it is the lock that keeps the rows in line.
  await tx
    .insertInto('audit_head')
    .values({ id: 1, seq: 0, hash: '' })
    .onConflict(conflict => conflict.column('id').doNothing())
    .execute()
  const head = await tx
    .updateTable('audit_head')
    .set(({ eb }) => ({ seq: eb('seq', '+', 1) }))
    .where('id', '=', 1)
    .returning(['seq', 'hash'])
    .executeTakeFirstOrThrow()
  const { actor } = entry
  const row = {
    seq: head.seq,
    at: entry.at,
    actor: actor.name,
    credential: actor.credentialId ?? null,
    role: actor.role ?? null,
    address: actor.address ?? null,
    action: entry.action,
    object: entry.object,
    outcome: entry.outcome,
    detail: JSON.stringify(entry.detail),
  }
  const hash = hashOf(catalog, head.hash, row)
  await tx
    .insertInto('audit')
    .values({ ...row, hash })
    .execute()
  await tx.updateTable('audit_head').set({ hash }).where('id', '=', 1).execute()
}

export type AuditRow = Selectable<CatalogTables['audit']>

/** Of a row after the one whose hash is `before`. */
export const hashOf = ({ box }: Pick<Catalog, 'box'>, before: string, row: Omit<AuditRow, 'hash'>): string =>
  box.fingerprint(
    JSON.stringify([
      'audit',
      before,
      row.seq,
      row.at,
      row.actor,
      row.credential,
      row.role,
      row.address,
      row.action,
      row.object,
      row.outcome,
      row.detail,
    ]),
  )

export interface AuditRecord extends Omit<AuditRow, 'detail' | 'outcome'> {
  outcome: AuditOutcome
  detail: Record<string, Json>
}

export interface AuditFilter {
  actor?: string | undefined
  action?: string | undefined
  object?: string | undefined
  outcome?: AuditOutcome | undefined
  /** ISO times; `since` belongs to it, `until` does not. */
  since?: string | undefined
  until?: string | undefined
}

/** Newest first. */
export async function listAudit(
  catalog: Catalog,
  { since, until, ...exactly }: AuditFilter,
  beforeSeq: number | undefined,
  limit: number,
): Promise<AuditRecord[]> {
  let query = catalog.db.selectFrom('audit').selectAll()
  for (const column of ['actor', 'action', 'object', 'outcome'] as const) {
    const value = exactly[column]
    if (value !== undefined) query = query.where(column, '=', value)
  }
  if (since !== undefined) query = query.where('at', '>=', since)
  if (until !== undefined) query = query.where('at', '<', until)
  if (beforeSeq !== undefined) query = query.where('seq', '<', beforeSeq)
  const rows = await query.orderBy('seq', 'desc').limit(limit).execute()
  return rows.map(row => ({
    ...row,
    outcome: row.outcome as AuditOutcome,
    detail: JSON.parse(row.detail),
  }))
}
