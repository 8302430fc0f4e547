/** Asking an operation to stop. */
import { updateOperation } from '../catalog/operations.ts'
import type { OperationRecord } from '../model/records.ts'
import type { ApiContext } from './context.ts'

/** The wish is in the row before it is sent: if we die in between, the reconciler sends it, without the reason. */
export async function requestCancel(
  context: ApiContext,
  operation: OperationRecord,
  reason?: string,
): Promise<void> {
  const { catalog, temporal } = context
  const { id, workflowId } = operation
  await updateOperation(catalog, id, { state: 'cancelling' })
  const run = await temporal.find(workflowId, id)
  if (run?.status === 'RUNNING') {
    if (reason !== undefined) await temporal.signal(workflowId, run.runId, 'cancel', reason)
    await temporal.cancel(workflowId, run.runId)
  } else if (!run && operation.runId === null && !context.starting.has(id)) {
    await updateOperation(catalog, id, { state: 'cancelled' })
  }
}
