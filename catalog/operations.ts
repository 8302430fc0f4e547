import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { BackupInput, OperationRecord, OperationUpdate } from '../model/records.ts'
import {
  type CheckResult,
  closedStates,
  type EngineName,
  type OperationKind,
  type OperationState,
} from '../model/types.ts'
import { forgetLimit } from './bandwidth.ts'
import type { CatalogDatabase } from './dialect.ts'
import { enterDrill } from './drills.ts'
import type { Catalog } from './open.ts'
import { giveUpOwnKeys } from './own-keys.ts'
import { pin, pinnersOf, unpin } from './pins.ts'
import type { CatalogTables } from './schema.ts'
import { releaseStaging } from './staging.ts'

/** Of an operation that has none: the columns were made not null, and no migration takes that back. */
const none = ''

export interface OperationFilter {
  state?: OperationState
  kind?: OperationKind
  connection?: string
  /** Of these only. */
  connections?: readonly string[]
}

/** Place in the list, newest first. */
export interface OperationCursor {
  createdAt: string
  id: string
}

/** Throws `request.exists` when there is one of that id or of that request. */
export async function insertOperation(
  catalog: Catalog,
  operation: OperationRecord,
  requestKey: string | null,
  /** Rows that belong to it, in the same transaction. */
  also: (tx: CatalogDatabase) => Promise<void> = async () => {},
): Promise<void> {
  await catalog.transaction(async tx => {
    await insertOperationRow(tx, operation, requestKey, catalog.presence.process)
    await also(tx)
  })
}

/** The same within a transaction of the caller's. `starter` is the API process that starts its workflow. */
export async function insertOperationRow(
  tx: CatalogDatabase,
  operation: OperationRecord,
  requestKey: string | null,
  starter: string,
): Promise<void> {
  await tx
    .insertInto('operations')
    .values({
      id: operation.id,
      kind: operation.kind,
      state: operation.state,
      connection: operation.connection ?? none,
      engine: operation.engine ?? none,
      backup_id: operation.backupId ?? none,
      destination: operation.destination ?? none,
      target_database: operation.targetDatabase,
      workflow_id: operation.workflowId,
      run_id: operation.runId,
      input: JSON.stringify(operation.input),
      phases: JSON.stringify(operation.phases),
      checks: JSON.stringify(operation.checks),
      error: operation.error === null ? null : JSON.stringify(operation.error),
      commands: JSON.stringify(operation.commands),
      warnings: JSON.stringify(operation.warnings),
      request_key: requestKey,
      starter,
      created_at: operation.createdAt,
      ended_at: operation.endedAt,
      pause_wanted: operation.pauseWanted ? 1 : 0,
    })
    .execute()
  await pin(tx, operation)
  await enterDrill(tx, operation)
}

/** The backup that an operation makes on its way, before something is replaced or thrown away. */
export const partOf = ({ input }: Pick<OperationRecord, 'input'>): BackupInput | null => {
  if ('only' in input && input.only) return input.only.dump
  return 'safetyBackup' in input ? input.safetyBackup : null
}

/** The backup that an operation makes on its way is an operation of its own, in its workflow. */
export async function openPart(catalog: Catalog, wholeId: string, runId: string): Promise<void> {
  const whole = await readOperation(catalog, wholeId)
  const input = partOf(whole)
  if (!input) throw new HoldfastError('internal', `Operation ${wholeId} makes no backup on its way.`)
  if (await findOperation(catalog, input.operationId)) return
  const operation: OperationRecord = {
    id: input.operationId,
    kind: 'backup',
    state: 'running',
    connection: input.connection,
    engine: input.engine,
    backupId: input.backupId,
    destination: input.destinations[0] ?? '',
    targetDatabase: null,
    workflowId: whole.workflowId,
    runId,
    input,
    phases: [],
    checks: [],
    error: null,
    commands: [],
    warnings: [],
    pauseWanted: false,
    createdAt: new Date().toISOString(),
    endedAt: null,
  }
  await insertOperation(catalog, operation, null)
}

/** Throws `request.not-found`. */
export async function readOperation(catalog: Catalog, id: string): Promise<OperationRecord> {
  const found = await findOperation(catalog, id)
  if (!found) throw new HoldfastError('request.not-found', `There is no operation ${id}.`)
  return found
}

export async function findOperation(catalog: Catalog, id: string): Promise<OperationRecord | undefined> {
  const row = await catalog.db.selectFrom('operations').selectAll().where('id', '=', id).executeTakeFirst()
  return row && toOperation(row)
}

export async function operationOfRequest(
  catalog: Catalog,
  requestKey: string,
): Promise<OperationRecord | undefined> {
  const row = await catalog.db
    .selectFrom('operations')
    .selectAll()
    .where('request_key', '=', requestKey)
    .executeTakeFirst()
  return row && toOperation(row)
}

/** Newest first, one more than a page would tell that there is a next one. */
export async function listOperations(
  catalog: Catalog,
  filter: OperationFilter,
  after: OperationCursor | undefined,
  limit: number,
): Promise<OperationRecord[]> {
  let query = catalog.db.selectFrom('operations').selectAll()
  if (filter.state !== undefined) query = query.where('state', '=', filter.state)
  if (filter.kind !== undefined) query = query.where('kind', '=', filter.kind)
  if (filter.connection !== undefined) query = query.where('connection', '=', filter.connection)
  if (filter.connections !== undefined) query = query.where('connection', 'in', filter.connections)
  if (after !== undefined) {
    query = query.where(({ eb, and, or }) =>
      or([
        eb('created_at', '<', after.createdAt),
        and([eb('created_at', '=', after.createdAt), eb('id', '<', after.id)]),
      ]),
    )
  }
  const rows = await query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(limit).execute()
  return rows.map(toOperation)
}

/** The process that accepted it, which may be starting its workflow right now. */
export async function starterOf(catalog: Catalog, id: string): Promise<string | null> {
  const row = await catalog.db
    .selectFrom('operations')
    .select('starter')
    .where('id', '=', id)
    .executeTakeFirst()
  return row?.starter ?? null
}

/** Every operation that is not closed, oldest first. */
export async function openOperations(catalog: Catalog): Promise<OperationRecord[]> {
  const rows = await catalog.db
    .selectFrom('operations')
    .selectAll()
    .where('state', 'not in', [...closedStates])
    .orderBy('created_at')
    .execute()
  return rows.map(toOperation)
}

/** Removes a row that never became an operation: its start was refused. */
export async function removeQueued(catalog: Catalog, id: string): Promise<void> {
  await catalog.db.deleteFrom('operations').where('id', '=', id).where('state', '=', 'queued').execute()
}

/**
 * Changes the named fields. A closed row changes no more (returns false), so that a zombie cannot reopen or rewrite
 * what was settled; `cancelling` gives way only to a closed state.
 */
export async function updateOperation(
  catalog: Catalog,
  id: string,
  update: OperationUpdate,
): Promise<boolean> {
  return await catalog.transaction(async tx => {
    const row = await tx
      .selectFrom('operations')
      .select(['state', 'checks'])
      .where('id', '=', id)
      .executeTakeFirst()
    if (!row) throw new HoldfastError('request.not-found', `There is no operation ${id}.`)
    if (isClosed(row.state)) return false
    const closing = update.state !== undefined && isClosed(update.state)
    const state = row.state === 'cancelling' && !closing ? undefined : update.state
    const endedAt = update.endedAt ?? (closing ? new Date().toISOString() : undefined)
    const changes = {
      ...(state === undefined ? {} : { state }),
      ...(update.phases === undefined ? {} : { phases: JSON.stringify(update.phases) }),
      ...(update.checks === undefined
        ? {}
        : { checks: JSON.stringify(merged(JSON.parse(row.checks), update.checks)) }),
      ...(update.error === undefined
        ? {}
        : { error: update.error === null ? null : JSON.stringify(update.error) }),
      ...(update.pauseWanted === undefined ? {} : { pause_wanted: update.pauseWanted ? 1 : 0 }),
      ...(update.commands === undefined ? {} : { commands: JSON.stringify(update.commands) }),
      ...(update.warnings === undefined ? {} : { warnings: JSON.stringify(update.warnings) }),
      ...(update.runId === undefined ? {} : { run_id: update.runId }),
      ...(update.workflowId === undefined ? {} : { workflow_id: update.workflowId }),
      ...(endedAt === undefined ? {} : { ended_at: endedAt }),
    }
    if (Object.keys(changes).length > 0) {
      await tx.updateTable('operations').set(changes).where('id', '=', id).execute()
    }
    if (closing) {
      await giveUpOwnKeys(tx, id)
      await unpin(tx, id)
      await forgetLimit(tx, 'operation', id)
      await releaseStaging(tx, id)
    }
    return true
  })
}

/** A check that was answered again replaces its earlier answer; others are added. */
function merged(known: CheckResult[], answered: readonly CheckResult[]): CheckResult[] {
  const again = new Set(answered.map(check => check.id))
  return [...known.filter(check => !again.has(check.id)), ...answered]
}

/**
 * Which of these are closed. What is unknown here is left out: it may be another installation's, at work in the same
 * staging directory.
 */
export async function closedOperations(catalog: Catalog, ids: readonly string[]): Promise<string[]> {
  const closed: string[] = []
  // A statement takes a limited number of values.
  for (let start = 0; start < ids.length; start += 500) {
    const rows = await catalog.db
      .selectFrom('operations')
      .select('id')
      .where('id', 'in', ids.slice(start, start + 500))
      .where('state', 'in', [...closedStates])
      .execute()
    for (const row of rows) closed.push(row.id)
  }
  return closed
}

/** Ids of open operations that use a connection (as source or target) or a destination. */
export async function openOperationsUsing(
  db: CatalogDatabase,
  what: { connection: string } | { destination: string },
): Promise<string[]> {
  if ('destination' in what) return await pinnersOf(db, what.destination)
  const rows = await db
    .selectFrom('operations')
    .select('id')
    .where('state', 'not in', [...closedStates])
    .where('connection', '=', what.connection)
    .execute()
  return rows.map(row => row.id)
}

export const isClosed = (state: string): boolean => (closedStates as readonly string[]).includes(state)

function toOperation(row: Selectable<CatalogTables['operations']>): OperationRecord {
  return {
    id: row.id,
    kind: row.kind as OperationKind,
    state: row.state as OperationState,
    connection: row.connection || null,
    engine: (row.engine as EngineName) || null,
    backupId: row.backup_id || null,
    destination: row.destination || null,
    targetDatabase: row.target_database,
    workflowId: row.workflow_id,
    runId: row.run_id,
    input: JSON.parse(row.input),
    phases: JSON.parse(row.phases),
    checks: JSON.parse(row.checks),
    error: row.error === null ? null : JSON.parse(row.error),
    commands: JSON.parse(row.commands),
    warnings: JSON.parse(row.warnings),
    createdAt: row.created_at,
    endedAt: row.ended_at,
    pauseWanted: row.pause_wanted === 1,
  }
}
