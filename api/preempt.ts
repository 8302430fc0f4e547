/**
 * A restore that may not wait ends the backup that holds its server. Until it has the lock itself, its row reserves it:
 * what comes in between is refused in its favour.
 */
import { findApproval } from '../catalog/approvals.ts'
import { audit } from '../catalog/audit.ts'
import type { Catalog } from '../catalog/open.ts'
import { findOperation, isClosed, openOperations, readOperation } from '../catalog/operations.ts'
import { readPlan } from '../catalog/plans.ts'
import type { Way } from '../catalog/worker.ts'
import { HoldfastError } from '../model/errors.ts'
import { requestWorkflowId, serverLock } from '../model/ids.ts'
import type { OperationRecord, StoredPlan } from '../model/records.ts'
import { requestCancel } from './cancel.ts'
import type { ApiContext } from './context.ts'

const asks = ({ workflowId, id }: Pick<OperationRecord, 'workflowId' | 'id'>): boolean =>
  workflowId === requestWorkflowId(id)

const mayNotWait = ({ input }: OperationRecord): boolean =>
  'preempt' in input && input.preempt && !input.dryRun

/** It is started by us, and does not wait for its server. One that asks for consent begins without the server. */
export const preempts = (operation: OperationRecord): boolean => mayNotWait(operation) && !asks(operation)

/** The server that it is to have next. One that replaces something wants it from its approval on: its row is `queued` again. */
function reserves(operation: OperationRecord): string | undefined {
  if (!mayNotWait(operation)) return undefined
  if (!asks(operation)) return operation.runId === null ? operation.workflowId : undefined
  const queued = operation.state === 'queued' && operation.phases.at(-1)?.phase === 'queue'
  return queued && 'serverIdentity' in operation.input
    ? serverLock(operation.input.serverIdentity)
    : undefined
}

/** The restore that is to have this lock next, if it is not this operation. */
export async function reservedFor(
  catalog: Catalog,
  { workflowId, id }: Pick<OperationRecord, 'workflowId' | 'id'>,
): Promise<OperationRecord | undefined> {
  const open = await openOperations(catalog)
  const first = open.find(one => reserves(one) === workflowId)
  return first?.id === id ? undefined : first
}

/** Ends the backup that holds the lock. False: the holder is none, or none that we know, and is not touched. */
export async function endHolder(
  context: ApiContext,
  restore: OperationRecord,
  holderId: string | undefined,
): Promise<boolean> {
  const holder = holderId === undefined ? undefined : await findOperation(context.catalog, holderId)
  if (holder?.kind !== 'backup') return false
  // Once it was asked, the reconciler sees to it that it hears of it.
  if (isClosed(holder.state) || holder.state === 'cancelling') return true
  await requestCancel(context, holder, `Pre-empted by restore ${restore.id}, which needs the server.`)
  await audit(context.catalog, {
    at: new Date().toISOString(),
    actor: { name: 'holdfast' },
    action: 'pre-empt',
    object: holder.id,
    outcome: 'done',
    detail: { restore: restore.id },
  })
  return true
}

/**
 * Ends the backup that holds the server of a restore that was approved. Refused unless there is an approval, or nothing that
 * would need one: whoever can reach Temporal can start a workflow that asks for this.
 */
export async function makeWay(context: ApiContext, operationId: string): Promise<Way> {
  const { catalog, temporal } = context
  const operation = await readOperation(catalog, operationId)
  if (!mayNotWait(operation) || !asks(operation) || !(await hasConsent(catalog, operation))) {
    throw new HoldfastError(
      'approval.not-wanted',
      `Operation ${operationId} may not end what holds its server.`,
    )
  }
  const lock = reserves(operation)
  if (lock === undefined || (await reservedFor(catalog, { workflowId: lock, id: operationId }))) return 'held'
  const holder = await temporal.holder(lock)
  if (!holder) return 'free'
  return (await endHolder(context, operation, holder.operationId)) ? 'leaving' : 'held'
}

async function hasConsent(catalog: Catalog, { id, input }: OperationRecord): Promise<boolean> {
  // Nothing was there under the name when it was planned: then nothing is replaced.
  const replacesNothing = async () => {
    const stored = await readPlan(catalog, id)
    return stored !== undefined && !hasSwap(stored)
  }
  // A restore beside that waited for an archive before it asked for the server.
  if ('overwriteExisting' in input && !input.overwriteExisting) return await replacesNothing()
  const approval = await findApproval(catalog.db, id)
  if (!approval || Date.parse(approval.expiresAt) <= Date.now()) return false
  return approval.state === 'approved' || (approval.state === 'planning' && (await replacesNothing()))
}

const hasSwap = ({ plan }: StoredPlan): boolean => plan !== null && typeof plan === 'object' && 'swap' in plan
