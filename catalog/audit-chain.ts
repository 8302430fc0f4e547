/**
 * The chain of audit rows: are they as they were written? And how its oldest rows go without breaking it: the row that
 * says so holds the hash of the last one that went. That row is in the chain; who can only write to the catalog cannot make one.
 */
import { HoldfastError } from '../model/errors.ts'
import type { Actor } from '../model/records.ts'
import { audit, hashOf } from './audit.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'

const pruned = 'audit pruned'

export interface AuditCheck {
  rows: number
  /** Of the newest row. */
  hash: string
  /** The first row that is not as it was written, or is missing. */
  brokenAt: number | null
  /** The last row that was pruned; 0: none was. */
  prunedTo: number
}

/** Follows the hashes from the first row that is kept to the last. */
export async function checkAudit(catalog: Pick<Catalog, 'db' | 'box'>): Promise<AuditCheck> {
  for (;;) {
    const found = await follow(catalog)
    // Rows that were pruned while we looked are not missing.
    if (found.brokenAt === null || (await headOf(catalog.db)).prunedSeq === found.prunedTo) return found
  }
}

async function follow(catalog: Pick<Catalog, 'db' | 'box'>): Promise<AuditCheck> {
  const head = await headOf(catalog.db)
  let { prunedSeq: seq, prunedHash: hash } = head
  const from = seq
  let proven = from === 0
  const found = (brokenAt: number | null): AuditCheck => ({
    rows: seq - from,
    hash,
    brokenAt,
    prunedTo: from,
  })
  for (;;) {
    const rows = await catalog.db
      .selectFrom('audit')
      .selectAll()
      .where('seq', '>', seq)
      .where('seq', '<=', head.seq)
      .orderBy('seq')
      .limit(500)
      .execute()
    for (const row of rows) {
      if (row.seq !== seq + 1 || hashOf(catalog, hash, row) !== row.hash) return found(seq + 1)
      seq = row.seq
      hash = row.hash
      if (row.action === pruned && saysSo(row.detail, head)) proven = true
    }
    if (rows.length === 0) break
  }
  if (seq !== head.seq || hash !== head.hash) return found(seq + 1)
  // Rows are gone, and none says that we removed them.
  return found(proven ? null : from)
}

/**
 * Removes the rows of before this time, but for those that a newer row stands before; answers how many. `dryRun` only
 * counts. Throws `audit.broken` when the chain is not whole: what happened must not be removed with the rest.
 */
export async function pruneAudit(
  catalog: Catalog,
  before: string,
  actor: Actor,
  dryRun: boolean,
): Promise<{ rows: number; prunedTo: number }> {
  const { brokenAt } = await checkAudit(catalog)
  if (brokenAt !== null) {
    throw new HoldfastError(
      'audit.broken',
      `Row ${brokenAt} of the audit is missing or not as it was written: nothing is pruned.`,
    )
  }
  return await catalog.transaction(async tx => {
    const head = await headOf(tx)
    const kept = await tx
      .selectFrom('audit')
      .select(({ fn }) => fn.min('seq').as('seq'))
      .where('at', '>=', before)
      .executeTakeFirst()
    const prunedTo = kept?.seq == null ? head.seq : Number(kept.seq) - 1
    const rows = prunedTo - head.prunedSeq
    if (rows <= 0 || dryRun) return { rows: Math.max(0, rows), prunedTo: Math.max(prunedTo, head.prunedSeq) }
    const { hash } = await tx
      .selectFrom('audit')
      .select('hash')
      .where('seq', '=', prunedTo)
      .executeTakeFirstOrThrow()
    await tx.deleteFrom('audit').where('seq', '<=', prunedTo).execute()
    await tx.updateTable('audit_head').set({ pruned_seq: prunedTo, pruned_hash: hash }).execute()
    const at = new Date().toISOString()
    const detail = { before, rows, prunedTo, hash }
    await audit(catalog, { at, actor, action: pruned, object: '/v1/audit', outcome: 'done', detail }, tx)
    return { rows, prunedTo }
  })
}

interface Head {
  seq: number
  hash: string
  prunedSeq: number
  prunedHash: string
}

async function headOf(db: CatalogDatabase): Promise<Head> {
  const row = await db.selectFrom('audit_head').selectAll().executeTakeFirst()
  return row
    ? { seq: row.seq, hash: row.hash, prunedSeq: row.pruned_seq, prunedHash: row.pruned_hash }
    : { seq: 0, hash: '', prunedSeq: 0, prunedHash: '' }
}

function saysSo(detail: string, head: Head): boolean {
  const { prunedTo, hash } = JSON.parse(detail) as { prunedTo?: unknown; hash?: unknown }
  return prunedTo === head.prunedSeq && hash === head.prunedHash
}
