/** Standing still: what an operation lets go of while it waits for an operator. */
import { engineOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { stepContext, storedPlan } from './plan.ts'
import { expectSuccess, runCommand } from './steps.ts'

/**
 * Ends the programs of the operation that still run, and takes back what a backup holds on its source (locks, slots,
 * snapshots end with their session), the last step first. What lies in staging stays.
 */
export async function releaseSource(context: WorkerContext, turn: Turn, operationId: string): Promise<void> {
  turn.assertLease()
  await context.host.stopOperation(operationId)
  const stored = await context.catalog.plan(operationId)
  if (!stored || (stored.plan as { kind?: string }).kind !== 'backup') return
  const plan = await storedPlan(context, operationId, 'backup')
  const { engine } = await context.catalog.connection(plan.request.connection)
  const steps = stepContext(context, turn, operationId, engineOf(engine), plan.token)
  const failures: unknown[] = []
  for (const step of plan.steps.toReversed()) {
    if (!step.undo) continue
    try {
      const title = `take back: ${step.title}`
      expectSuccess(steps, { title }, step.undo, await runCommand(steps, `${step.id}-undo`, step.undo))
    } catch (error) {
      // One that cannot be taken back now does not keep the others.
      if (!(error instanceof HoldfastError)) throw error
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures[0]
}
