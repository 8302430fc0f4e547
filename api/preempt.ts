/**
 * A restore that may not wait ends the backup that holds its server. Until it has the lock itself, its row reserves it:
 * what comes in between is refused in its favour.
 */
import type { Catalog } from '../catalog/open.ts'
import { findOperation, isClosed, openOperations } from '../catalog/operations.ts'
import type { OperationRecord } from '../model/records.ts'
import { requestCancel } from './cancel.ts'
import type { ApiContext } from './context.ts'

export const preempts = (operation: OperationRecord): boolean =>
  'preempt' in operation.input && operation.input.preempt && !operation.input.dryRun

/** The restore that is to have this lock next, if it is not this operation. */
export async function reservedFor(
  catalog: Catalog,
  { workflowId, id }: Pick<OperationRecord, 'workflowId' | 'id'>,
): Promise<OperationRecord | undefined> {
  const open = await openOperations(catalog)
  const first = open.find(one => one.runId === null && one.workflowId === workflowId && preempts(one))
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
  if (!isClosed(holder.state)) {
    await requestCancel(context, holder, `Pre-empted by restore ${restore.id}, which needs the server.`)
  }
  return true
}
