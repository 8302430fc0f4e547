/**
 * Accepting an operation. The row first, then the workflow, then its run id: whatever dies in between, the row says what
 * was promised and the reconciler finishes it. The workflow carries the operation's id, so it is never started twice.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { CatalogDatabase } from '../catalog/dialect.ts'
import type { Catalog } from '../catalog/open.ts'
import {
  findOperation,
  insertOperation,
  isClosed,
  operationOfRequest,
  readOperation,
  removeQueued,
  updateOperation,
} from '../catalog/operations.ts'
import { HoldfastError, hasCode } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import type { OperationRecord, Patience } from '../model/records.ts'
import type { ApiContext } from './context.ts'
import { endHolder, preempts, reservedFor } from './preempt.ts'
import type { TemporalAccess } from './temporal.ts'

/**
 * A workflow tells the catalog that its operation is closed just before it ends and lets go of its lock; if its worker dies
 * in between, another one ends it some seconds later.
 */
const leavingSeconds = 15
const againMs = 100
const preemptAnswerMs = 3000

export const newOperationId = (): string => `op-${readable(randomBytes(14))}`

/** Fields that every new operation begins with. */
export const newOperation = (): Pick<
  OperationRecord,
  'state' | 'runId' | 'phases' | 'checks' | 'error' | 'pauseWanted' | 'commands' | 'endedAt'
> => ({
  state: 'queued',
  runId: null,
  phases: [],
  checks: [],
  error: null,
  pauseWanted: false,
  commands: [],
  endedAt: null,
})

/** How long it waits for an operator, and whether from the first step on. */
export const patienceOf = (
  { settings }: ApiContext,
  request: { unattended?: boolean | undefined; dryRun?: boolean | undefined },
): Patience => ({
  // A dry run is its answer: there is nothing to wait for.
  unattended: (request.unattended ?? false) && !request.dryRun,
  parkSeconds: settings.parkSeconds,
  parkRetrySeconds: settings.parkRetrySeconds,
})

/**
 * Returns the operation as accepted. Throws `operation.conflict` with the holder when the server's lock is taken and
 * `temporal.unreachable` when nobody could start it (no row remains in either case).
 */
export async function submit(
  context: ApiContext,
  operation: OperationRecord,
  requestKey: string | null,
  /** Rows that belong to the operation. */
  also?: (tx: CatalogDatabase) => Promise<void>,
): Promise<OperationRecord> {
  const { catalog, temporal, starting, log } = context
  await temporal.check()
  if (preempts(operation)) return await submitPreempting(context, operation, requestKey)
  starting.add(operation.id)
  try {
    const other = await taken(context, operation, requestKey, also)
    if (other) return other
    let started: 'ours' | Holder
    try {
      started = await startWorkflow(context, operation)
    } catch (error) {
      // Whether it was started is not known: the row stays, and the reconciler starts or adopts it.
      log.warn('an operation was accepted but its start is not confirmed', {
        operation: operation.id,
        reason: error instanceof Error ? error.message : String(error),
      })
      return operation
    }
    if (started !== 'ours') {
      const conflict = await conflictOf(context, operation, started)
      await removeQueued(catalog, operation.id)
      throw conflict
    }
    return await readOperation(catalog, operation.id)
  } finally {
    starting.delete(operation.id)
  }
}

/**
 * Enters the row; or answers what another process made of the same request, which it took up when this one seemed dead.
 */
async function taken(
  { catalog }: ApiContext,
  operation: OperationRecord,
  requestKey: string | null,
  also?: (tx: CatalogDatabase) => Promise<void>,
): Promise<OperationRecord | undefined> {
  try {
    await insertOperation(catalog, operation, requestKey, also)
    return undefined
  } catch (error) {
    const exists = hasCode(error, 'request.exists')
    const other = exists && requestKey !== null ? await operationOfRequest(catalog, requestKey) : undefined
    if (!other) throw error
    return other
  }
}

/**
 * Who waits for the answer gets it as soon as the restore has begun or was refused; where the backup takes its time to end,
 * the restore is accepted and stays `queued` until it has. If this process dies meanwhile, the next one goes on.
 */
async function submitPreempting(
  context: ApiContext,
  operation: OperationRecord,
  requestKey: string | null,
): Promise<OperationRecord> {
  const { catalog, starting, log } = context
  const other = await taken(context, operation, requestKey)
  if (other) return other
  starting.add(operation.id)
  const begun = beginPreempting(context, operation)
    .catch(error => {
      log.warn('a restore was accepted but its start is not confirmed', {
        operation: operation.id,
        reason: error instanceof Error ? error.message : String(error),
      })
    })
    .finally(() => starting.delete(operation.id))
  await Promise.race([begun, sleep(preemptAnswerMs)])
  return await readOperation(catalog, operation.id)
}

/** Tries until the restore has begun, was cancelled, or finds the lock with somebody it may not end. */
async function beginPreempting(context: ApiContext, operation: OperationRecord): Promise<void> {
  const { catalog } = context
  for (;;) {
    const { state } = await readOperation(catalog, operation.id)
    if (state === 'cancelling') await updateOperation(catalog, operation.id, { state: 'cancelled' })
    if (state !== 'queued') return
    const started = await startWorkflow(context, operation)
    if (started === 'ours') return
    if (!(await endHolder(context, operation, started.operationId))) {
      const error = (await conflictOf(context, operation, started)).facts()
      await updateOperation(catalog, operation.id, { state: 'failed', error })
      return
    }
    await sleep(againMs)
  }
}

/** What an earlier process made of this very request before it died. */
export async function submittedBefore(
  context: ApiContext,
  requestKey: string | null,
): Promise<OperationRecord | undefined> {
  return requestKey === null ? undefined : await operationOfRequest(context.catalog, requestKey)
}

type Holder = NonNullable<Awaited<ReturnType<TemporalAccess['holder']>>>

/** Starts or adopts the operation's workflow and notes its run; or says who holds the lock. */
export async function startWorkflow(
  context: ApiContext,
  operation: OperationRecord,
): Promise<'ours' | Holder> {
  const { catalog, temporal } = context
  const until = Date.now() + leavingSeconds * 1000
  for (;;) {
    const first = await reservedFor(catalog, operation)
    if (first) return { operationId: first.id, type: first.kind, startedAt: new Date(first.createdAt) }
    const started = await temporal.start(operation)
    if (started !== 'taken') {
      await updateOperation(catalog, operation.id, { runId: started.runId })
      return 'ours'
    }
    const run = await temporal.find(operation.workflowId, operation.id)
    if (run) {
      await updateOperation(catalog, operation.id, { runId: run.runId })
      return 'ours'
    }
    // It may have ended between the refusal and our question; then nobody stands in the way.
    const holder = await temporal.holder(operation.workflowId)
    if (holder && (Date.now() > until || !(await isOver(catalog, holder)))) return holder
    await sleep(againMs)
  }
}

/** Who saw the former operation end may start the next one at once. */
export async function isOver(catalog: Catalog, { operationId }: Holder): Promise<boolean> {
  const row = operationId === undefined ? undefined : await findOperation(catalog, operationId)
  return row !== undefined && isClosed(row.state)
}

/** Their workflow's id is no server's lock: another of their own kind is under way. */
const wholeKinds: Partial<Record<OperationRecord['kind'], string>> = {
  copy: 'a copying to the same place',
  drill: 'a drill of the same connection',
  rotateKeys: 'a rotation of keys',
  scrub: 'a scrub',
  sweep: 'a sweep',
}

export async function conflictOf(
  { catalog }: ApiContext,
  operation: OperationRecord,
  holder: Holder,
): Promise<HoldfastError> {
  const row = holder.operationId === undefined ? undefined : await findOperation(catalog, holder.operationId)
  const named = {
    operation: holder.operationId ?? operation.workflowId,
    kind: row?.kind ?? holder.type,
    startedAt: row?.createdAt ?? holder.startedAt.toISOString(),
  }
  return new HoldfastError(
    'operation.conflict',
    wholeKinds[operation.kind] !== undefined
      ? `Starting ${wholeKinds[operation.kind]}: ${named.operation}, started ${named.startedAt}, is under way.`
      : `Starting a ${operation.kind}: ${named.kind} ${named.operation}, started ${named.startedAt}, holds this server.`,
    { context: named },
  )
}
