/**
 * Accepting an operation. The row first, then the workflow, then its run id: whatever dies in between, the row says what
 * was promised and the reconciler finishes it. The workflow carries the operation's id, so it is never started twice.
 */
import { randomBytes } from 'node:crypto'
import {
  insertOperation,
  operationOfRequest,
  readOperation,
  removeQueued,
  updateOperation,
} from '../catalog/operations.ts'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import type { OperationRecord } from '../model/records.ts'
import type { ApiContext } from './context.ts'

export const newOperationId = (): string => `op-${readable(randomBytes(14))}`

/** Fields that every new operation begins with. */
export const newOperation = (): Pick<
  OperationRecord,
  'state' | 'runId' | 'phases' | 'checks' | 'error' | 'commands' | 'endedAt'
> => ({ state: 'queued', runId: null, phases: [], checks: [], error: null, commands: [], endedAt: null })

/**
 * Returns the operation as accepted. Throws `operation.conflict` with the holder when the server's lock is taken and
 * `temporal.unreachable` when nobody could start it (no row remains in either case).
 */
export async function submit(
  context: ApiContext,
  operation: OperationRecord,
  requestKey: string | null,
): Promise<OperationRecord> {
  const { catalog, temporal, starting, log } = context
  await temporal.check()
  starting.add(operation.id)
  try {
    await insertOperation(catalog, operation, requestKey)
    let started: 'taken' | 'ours'
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
    if (started === 'taken') {
      const conflict = await conflictOf(context, operation)
      await removeQueued(catalog, operation.id)
      throw conflict
    }
    return await readOperation(catalog, operation.id)
  } finally {
    starting.delete(operation.id)
  }
}

/** What an earlier process made of this very request before it died. */
export async function submittedBefore(
  context: ApiContext,
  requestKey: string | null,
): Promise<OperationRecord | undefined> {
  return requestKey === null ? undefined : await operationOfRequest(context.catalog, requestKey)
}

/** Starts or adopts the operation's workflow and notes its run. 'taken': another operation holds the lock. */
export async function startWorkflow(
  context: ApiContext,
  operation: OperationRecord,
): Promise<'taken' | 'ours'> {
  const { catalog, temporal } = context
  // Twice: the holder may end between the refusal and our question.
  for (let attempt = 1; ; attempt++) {
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
    const holder = await temporal.holder(operation.workflowId)
    if (holder || attempt === 3) return 'taken'
  }
}

export async function conflictOf(
  { catalog, temporal }: ApiContext,
  operation: OperationRecord,
): Promise<HoldfastError> {
  const holder = await temporal.holder(operation.workflowId)
  const id = holder?.operationId
  const row = id === undefined ? undefined : await readOperation(catalog, id).catch(() => undefined)
  const named = {
    operation: id ?? operation.workflowId,
    kind: row?.kind ?? holder?.type ?? 'unknown',
    startedAt: row?.createdAt ?? holder?.startedAt.toISOString() ?? operation.createdAt,
  }
  return new HoldfastError(
    'operation.conflict',
    `Starting a ${operation.kind}: ${named.kind} ${named.operation}, started ${named.startedAt}, holds this server.`,
    { context: named },
  )
}
