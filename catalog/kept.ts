/** What swaps have kept of the databases they replaced, until when, and what became of it. */
import type { Selectable } from 'kysely'
import type { KeptRecord } from '../model/records.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

/** The first one stays: how long it is kept counts from the swap. */
export async function recordKept(catalog: Catalog, kept: KeptRecord): Promise<void> {
  await catalog.db
    .insertInto('kept_copies')
    .values({
      operation_id: kept.operationId,
      state: kept.state,
      connection: kept.connection,
      name: kept.name,
      identity: kept.identity,
      look: kept.look,
      go_back: kept.goBack,
      keep_until: kept.keepUntil,
      ended_at: kept.endedAt,
    })
    .onConflict(conflict => conflict.column('operation_id').doNothing())
    .execute()
}

export async function findKept(catalog: Catalog, operationId: string): Promise<KeptRecord | undefined> {
  const row = await catalog.db
    .selectFrom('kept_copies')
    .selectAll()
    .where('operation_id', '=', operationId)
    .executeTakeFirst()
  return row && toKept(row)
}

/** Those whose time is not over, or that could not be removed yet. */
export async function listKept(catalog: Catalog): Promise<KeptRecord[]> {
  const rows = await catalog.db.selectFrom('kept_copies').selectAll().where('state', '=', 'kept').execute()
  return rows.map(toKept)
}

export async function endKept(
  catalog: Catalog,
  operationId: string,
  state: Exclude<KeptRecord['state'], 'kept'>,
): Promise<void> {
  await catalog.db
    .updateTable('kept_copies')
    .set({ state, ended_at: new Date().toISOString() })
    .where('operation_id', '=', operationId)
    .where('state', '=', 'kept')
    .execute()
}

const toKept = (row: Selectable<CatalogTables['kept_copies']>): KeptRecord => ({
  operationId: row.operation_id,
  state: row.state as KeptRecord['state'],
  connection: row.connection,
  name: row.name,
  identity: row.identity,
  look: row.look,
  goBack: row.go_back,
  keepUntil: row.keep_until,
  endedAt: row.ended_at,
})
