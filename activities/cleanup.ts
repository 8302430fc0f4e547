/**
 * Cleanup, in every outcome: what carries our random names and nothing else. Never cancelled; what cannot be reached
 * now is left to `holdfast sweep`, and said.
 */

import { engineOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { BackupInput, RestoreInput } from '../model/records.ts'
import { abandon, removeOtherAttempts, settled } from '../storage/backups.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { stepContext, storedPlan } from './plan.ts'
import { expectSuccess, runCommand } from './steps.ts'

/** Stops what still runs for the operation and removes its staging. */
export async function cleanHost(context: WorkerContext, operationId: string): Promise<void> {
  await context.host.stopOperation(operationId)
  await context.host.removeOperation(operationId)
}

/** After a commit: everything of the backup's other attempts goes. */
export async function cleanupBackup(
  context: WorkerContext,
  _turn: Turn,
  input: BackupInput,
  attemptId: string,
): Promise<void> {
  await cleanHost(context, input.operationId)
  const destination = await context.destination(input.destination)
  await removeOtherAttempts(destination, input.connection, input.backupId, attemptId)
}

/**
 * Gives the backup up, unless it was committed before anybody could stop it: then it stands, and that is the answer.
 */
export async function abandonBackup(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  reason: string,
): Promise<{ committed: boolean }> {
  await cleanHost(context, input.operationId)
  // Nothing was ever opened there: then the destination may be the very thing that is broken, and is left alone.
  if ((await context.catalog.attempts(input.operationId)).length === 0) return { committed: false }
  const destination = await context.destination(input.destination)
  const state = await settled(destination, input.connection, input.backupId)
  if (state.state === 'committed') return { committed: true }
  turn.assertLease()
  await abandon(destination, input.connection, input.backupId, {
    by: `operation ${input.operationId}`,
    reason,
  })
  return { committed: false }
}

/** Takes back what a restore has made so far; only what carries the plan's token. */
export async function undoRestore(context: WorkerContext, turn: Turn, input: RestoreInput): Promise<void> {
  await context.host.stopOperation(input.operationId)
  const stored = await context.catalog.plan(input.operationId)
  if (stored) {
    const plan = await storedPlan(context, input.operationId, 'restore')
    const engine = engineOf(input.targetEngine)
    const steps = stepContext(context, turn, input.operationId, engine, plan.token)
    for (const [index, command] of plan.undo.entries()) {
      const result = await runCommand(steps, `undo-${index}`, command)
      try {
        expectSuccess(steps, { title: 'remove the unfinished restore' }, command, result)
      } catch (error) {
        // The server is away: taking back is tried again for as long as the activity may, as an outage passes.
        if (error instanceof HoldfastError && error.code === 'database.unreachable') {
          throw new HoldfastError('host.unreachable', error.message, { hint: error.hint })
        }
        throw error
      }
    }
  }
  await cleanHost(context, input.operationId)
}

/**
 * Before an operation begins: jobs and staging of operations that are closed (ended from outside, say) are ended. A
 * terminated workflow frees its lock, not its tool.
 */
export async function clearClosedOperations(context: WorkerContext, _turn: Turn): Promise<void> {
  const present = await context.host.operations()
  if (present.length === 0) return
  for (const operationId of await context.catalog.closedOperations(present))
    await cleanHost(context, operationId)
}
