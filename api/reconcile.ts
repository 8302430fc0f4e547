/**
 * Brings rows and workflows together again: starts what was promised and not started, adopts what was started and not
 * noted, sends a cancellation again, and closes rows whose workflow ended without a last word.
 */

import { decidedUnheard, interruptedSwaps } from '../catalog/approvals.ts'
import { findBackup } from '../catalog/backups.ts'
import { listKept } from '../catalog/kept.ts'
import {
  findOperation,
  isClosed,
  openOperations,
  readOperation,
  starterOf,
  updateOperation,
} from '../catalog/operations.ts'
import { giveRunBack } from '../catalog/schedule-runs.ts'
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { OperationRecord } from '../model/records.ts'
import type { ApiContext } from './context.ts'
import { copyWhatIsMissing } from './copying.ts'
import { finishDrills } from './drills.ts'
import { keepLogStreams } from './log-streams.ts'
import { endHolder, preempts } from './preempt.ts'
import { tellDecision } from './routes/approvals.ts'
import { keepSchedules } from './schedules/rounds.ts'
import { conflictOf, startWorkflow } from './submit.ts'
import type { Run } from './temporal.ts'

/** One of the processes is enough; when it dies another one leads. */
async function oneRound(context: ApiContext, lastWordSeconds: number): Promise<void> {
  if (!(await context.catalog.presence.lead())) return
  await reconcile(context, lastWordSeconds)
  await keepSchedules(context)
  await keepLogStreams(context)
}

/**
 * One round over every open operation. One that cannot be settled now does not keep the others. A workflow's own last
 * word may still be on its way: only `lastWordSeconds` after its end is it taken for missing.
 */
async function reconcile(context: ApiContext, lastWordSeconds: number): Promise<void> {
  for (const operation of await openOperations(context.catalog)) {
    if (context.starting.has(operation.id)) continue
    try {
      await settle(context, operation, lastWordSeconds)
    } catch (error) {
      const unreachable = hasCode(error, 'temporal.unreachable')
      context.log[unreachable ? 'debug' : 'warn']('an operation could not be reconciled', {
        operation: operation.id,
        reason: error instanceof Error ? error.message : String(error),
      })
      if (unreachable) return
    }
  }
  await catchUp(context)
}

/** What was written down and may not have been done: decisions that a workflow has not heard of, removals to come, swaps without an end. */
async function catchUp(context: ApiContext): Promise<void> {
  const { catalog, temporal } = context
  for (const approval of await decidedUnheard(catalog)) {
    await tellDecision(context, await readOperation(catalog, approval.operationId), approval)
  }
  for (const { operationId } of await listKept(catalog)) {
    const input = (await findOperation(catalog, operationId))?.input
    await temporal.retire(operationId, input && 'hostWorker' in input ? input.hostWorker : undefined)
  }
  for (const id of await interruptedSwaps(catalog)) {
    const { input } = await readOperation(catalog, id)
    if ('overwriteExisting' in input) await temporal.takeBack(input)
  }
  await finishDrills(context)
  await copyWhatIsMissing(context)
}

async function settle(
  context: ApiContext,
  operation: OperationRecord,
  lastWordSeconds: number,
): Promise<void> {
  const { catalog, temporal, log } = context
  if ('partOf' in operation.input && operation.input.partOf) {
    return await withRestore(context, operation, operation.input.partOf)
  }
  const run = await temporal.find(operation.workflowId, operation.id)
  if (!run) return await withoutWorkflow(context, operation)
  if (run.runId !== operation.runId) {
    // Adopted after a crash, or a reset from Temporal's UI: the newest run is the operation.
    await updateOperation(catalog, operation.id, { runId: run.runId })
    log.info('operation follows another run', { operation: operation.id, run: run.runId })
  }
  if (run.status === 'RUNNING' || run.status === 'PAUSED') {
    if (operation.state === 'cancelling') await temporal.cancel(operation.workflowId, run.runId)
    return
  }
  if (run.status === 'CONTINUED_AS_NEW') return
  if (run.closedAt && Date.now() - run.closedAt.getTime() < lastWordSeconds * 1000) return
  const closed = await updateOperation(catalog, operation.id, await lastWord(context, operation, run))
  if (closed) log.warn('operation closed after its workflow', { operation: operation.id, status: run.status })
}

/** Another process has accepted it and lives: it starts it, or answers why not. */
async function isStarting({ catalog }: ApiContext, { id }: OperationRecord): Promise<boolean> {
  const { process, alive } = catalog.presence
  const starter = await starterOf(catalog, id)
  return starter !== null && starter !== process && (await alive(starter))
}

/** What the operation was to make, where it has made it. */
const backupOf = async ({ catalog }: ApiContext, { kind, backupId }: OperationRecord) =>
  kind === 'backup' && backupId !== null ? await findBackup(catalog, backupId) : undefined

/** A safety backup is made by its restore's workflow, and ends with it at the latest. */
async function withRestore(context: ApiContext, operation: OperationRecord, restoreId: string) {
  const restore = await findOperation(context.catalog, restoreId)
  if (restore && !isClosed(restore.state)) return
  const committed = await backupOf(context, operation)
  await updateOperation(
    context.catalog,
    operation.id,
    committed
      ? { state: 'succeeded' }
      : {
          state: 'failed',
          error: ended(`The restore ${restoreId} ended before its safety backup was made.`),
        },
  )
}

async function withoutWorkflow(context: ApiContext, operation: OperationRecord): Promise<void> {
  const { catalog, log } = context
  const endedAt = new Date().toISOString()
  if (operation.runId === null && (await isStarting(context, operation))) return
  if (operation.runId === null && operation.state === 'cancelling') {
    await updateOperation(catalog, operation.id, { state: 'cancelled', endedAt })
    return
  }
  if (operation.runId === null && operation.state === 'queued') {
    const started = await startWorkflow(context, operation)
    if (started === 'ours') log.info('operation started after a restart', { operation: operation.id })
    else if (!(preempts(operation) && (await endHolder(context, operation, started.operationId)))) {
      const { code, detail, hint } = (await conflictOf(context, operation, started)).facts()
      // A schedule's run has patience: it waits for the server again.
      if (await giveRunBack(catalog, operation.id, detail, started.operationId ?? null)) return
      await updateOperation(catalog, operation.id, {
        state: 'failed',
        error: { code, detail, hint },
        endedAt,
      })
    }
    return
  }
  const committed = await backupOf(context, operation)
  if (committed) {
    await updateOperation(catalog, operation.id, { state: 'succeeded', endedAt })
    return
  }
  await updateOperation(catalog, operation.id, {
    state: 'failed',
    error: ended(
      'Temporal no longer knows the workflow of this operation (deleted, or its database was lost).',
    ),
    endedAt,
  })
}

async function lastWord(context: ApiContext, operation: OperationRecord, run: Run) {
  const endedAt = (run.closedAt ?? new Date()).toISOString()
  const committed = (await backupOf(context, operation)) !== undefined
  if (run.status === 'COMPLETED' || committed) return { state: 'succeeded', endedAt } as const
  if (run.status === 'CANCELLED') return { state: 'cancelled', endedAt } as const
  if (run.status === 'FAILED') {
    const error = await context.temporal.failureOf(operation.workflowId, run.runId)
    return {
      state: 'failed',
      error: error ?? ended('The workflow failed without saying why; see it in Temporal.'),
      endedAt,
    } as const
  }
  return {
    state: 'failed',
    error: ended(`The workflow was ended from outside (${run.status.toLowerCase()}).`),
    endedAt,
  } as const
}

function ended(detail: string) {
  const { code, hint } = new HoldfastError('operation.terminated', detail)
  return { code, detail, hint }
}

/** Rounds until `stop`, which waits for the one under way. */
export function startReconciler(
  context: ApiContext,
  everySeconds: number,
  lastWordSeconds: number,
): { stop(): Promise<void> } {
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  let round: Promise<void> = Promise.resolve()
  const next = (afterMs: number) => {
    timer = setTimeout(() => {
      round = oneRound(context, lastWordSeconds)
        .catch(error => {
          context.log.error('reconciling failed', {
            reason: error instanceof Error ? (error.stack ?? error.message) : String(error),
          })
        })
        .finally(() => {
          if (!stopped) next(everySeconds * 1000)
        })
    }, afterMs)
  }
  next(0)
  return {
    async stop() {
      stopped = true
      clearTimeout(timer)
      await round
    },
  }
}
