/** Drills: what they leave behind until it is gone, and the reports that say what they have shown. */
import type { Selectable } from 'kysely'
import {
  type DrillReport,
  isDrill,
  type SignedDrillReport,
  signedDrillReportSchema,
} from '../model/drill-report.ts'
import type { OperationRecord } from '../model/records.ts'
import type { Replayed } from '../model/replayed.ts'
import { closedStates } from '../model/types.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

export interface DrillRecord {
  operationId: string
  /** Whose backup it is. */
  connection: string
  createdAt: string
  /** Of the copy, by table. */
  rows: DrillReport['rows']
  canary: DrillReport['canary']
  replayed: Replayed | null
  tornDownAt: string | null
  report: SignedDrillReport | null
}

const newestFirst = 200

/** Newest first. `ended`: of those that are closed only. */
export async function listDrills(
  { db }: Catalog,
  filter: { connection?: string; connections?: readonly string[]; ended?: true },
  after: { createdAt: string; id: string } | undefined,
  limit = newestFirst,
): Promise<DrillRecord[]> {
  let query = db.selectFrom('drills').selectAll()
  if (filter.connection !== undefined) query = query.where('connection', '=', filter.connection)
  if (filter.connections !== undefined) query = query.where('connection', 'in', filter.connections)
  if (filter.ended) {
    query = query.where('operation_id', 'in', eb =>
      eb
        .selectFrom('operations')
        .select('id')
        .where('state', 'in', [...closedStates]),
    )
  }
  if (after !== undefined) {
    query = query.where(({ eb, and, or }) =>
      or([
        eb('created_at', '<', after.createdAt),
        and([eb('created_at', '=', after.createdAt), eb('operation_id', '<', after.id)]),
      ]),
    )
  }
  const rows = await query
    .orderBy('created_at', 'desc')
    .orderBy('operation_id', 'desc')
    .limit(limit)
    .execute()
  return rows.map(toDrill)
}

export async function findDrill({ db }: Catalog, operationId: string): Promise<DrillRecord | undefined> {
  const row = await db
    .selectFrom('drills')
    .selectAll()
    .where('operation_id', '=', operationId)
    .executeTakeFirst()
  return row && toDrill(row)
}

/** Closed ones with something left to do: `copy`: what they have made is still there; `report`: nobody has written it. */
export async function unfinishedDrills({ db }: Catalog, what: 'copy' | 'report'): Promise<string[]> {
  const rows = await db
    .selectFrom('drills')
    .innerJoin('operations', 'operations.id', 'drills.operation_id')
    .select('drills.operation_id')
    .where('operations.state', 'in', [...closedStates])
    .where(what === 'copy' ? 'drills.torn_down_at' : 'drills.report', 'is', null)
    .orderBy('drills.created_at')
    .limit(newestFirst)
    .execute()
  return rows.map(row => row.operation_id)
}

export async function noteExamined(
  { db }: Catalog,
  operationId: string,
  { rows, canary }: Pick<DrillReport, 'rows' | 'canary'>,
): Promise<void> {
  await db
    .updateTable('drills')
    .set({ row_counts: JSON.stringify(rows), canary: canary && JSON.stringify(canary) })
    .where('operation_id', '=', operationId)
    .execute()
}

export async function noteReplayed({ db }: Catalog, operationId: string, replayed: Replayed): Promise<void> {
  await db
    .updateTable('drills')
    .set({ replayed: JSON.stringify(replayed) })
    .where('operation_id', '=', operationId)
    .execute()
}

/** The first time counts. */
export async function noteTornDown({ db }: Catalog, operationId: string): Promise<void> {
  await db
    .updateTable('drills')
    .set({ torn_down_at: new Date().toISOString() })
    .where('operation_id', '=', operationId)
    .where('torn_down_at', 'is', null)
    .execute()
}

/** With its operation, in the same transaction. */
export async function enterDrill(
  tx: CatalogDatabase,
  { id, input, createdAt }: OperationRecord,
): Promise<void> {
  if (!isDrill(input)) return
  await tx
    .insertInto('drills')
    .values({
      operation_id: id,
      connection: input.sourceConnection,
      created_at: createdAt,
      row_counts: '[]',
      canary: null,
      torn_down_at: null,
      report: null,
    })
    .execute()
}

const toDrill = (row: Selectable<CatalogTables['drills']>): DrillRecord => ({
  operationId: row.operation_id,
  connection: row.connection,
  createdAt: row.created_at,
  rows: JSON.parse(row.row_counts),
  canary: row.canary === null ? null : JSON.parse(row.canary),
  replayed: row.replayed === null ? null : JSON.parse(row.replayed),
  tornDownAt: row.torn_down_at,
  report: row.report === null ? null : signedDrillReportSchema.parse(JSON.parse(row.report)),
})

/** What was written first stays. */
export async function keepReport(
  { db }: Catalog,
  operationId: string,
  report: SignedDrillReport,
): Promise<void> {
  await db
    .updateTable('drills')
    .set({ report: JSON.stringify(report) })
    .where('operation_id', '=', operationId)
    .where('report', 'is', null)
    .execute()
}
