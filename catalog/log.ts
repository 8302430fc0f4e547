/** Logs of operations: what hooks and tools printed, bounded. */
import type { LogEntry } from '../model/records.ts'
import type { Catalog } from './open.ts'

const entryCharacters = 65_536
const operationEntries = 500
const operationCharacters = 4 << 20

export interface StoredLogEntry extends LogEntry {
  seq: number
}

/** The end of a long text is kept: that is where errors are. */
export async function appendLog(catalog: Catalog, operationId: string, entry: LogEntry): Promise<void> {
  await catalog.transaction(async tx => {
    const known = await tx
      .selectFrom('operation_log')
      .select('seq')
      .where('operation_id', '=', operationId)
      .where('entry_id', '=', entry.id)
      .executeTakeFirst()
    if (known) return
    const { count, newest, characters } = await tx
      .selectFrom('operation_log')
      .select(({ fn }) => [
        fn.countAll().as('count'),
        fn.max('seq').as('newest'),
        fn.sum(fn('length', ['text'])).as('characters'),
      ])
      .where('operation_id', '=', operationId)
      .executeTakeFirstOrThrow()
    if (Number(count) > operationEntries || Number(characters ?? 0) > operationCharacters) return
    const last = Number(count) === operationEntries
    const cut = entry.text.length > entryCharacters
    const text = cut ? `… ${entry.text.slice(-entryCharacters)}` : entry.text
    await tx
      .insertInto('operation_log')
      .values({
        operation_id: operationId,
        seq: Number(newest ?? 0) + 1,
        entry_id: entry.id,
        at: entry.at,
        source: last ? 'log' : entry.source,
        text: last ? 'The log is full; what follows is not kept.' : text,
      })
      .execute()
  })
}

/** After `seq`, oldest first. */
export async function readLog(
  catalog: Catalog,
  operationId: string,
  after: number,
  limit: number,
): Promise<StoredLogEntry[]> {
  const rows = await catalog.db
    .selectFrom('operation_log')
    .selectAll()
    .where('operation_id', '=', operationId)
    .where('seq', '>', after)
    .orderBy('seq')
    .limit(limit)
    .execute()
  return rows.map(row => ({
    seq: row.seq,
    id: row.entry_id,
    at: row.at,
    source: row.source,
    text: row.text,
  }))
}
