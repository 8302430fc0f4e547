/** Staged backups, first half: the tool writes into staging as a detached job that outlives its worker. */
import { engineOf } from '../engines/index.ts'
import { type ErrorCode, errorClass, HoldfastError } from '../model/errors.ts'
import type { BackupInput } from '../model/records.ts'
import { committedAttempt } from './attempt.ts'
import type { Turn } from './boundary.ts'
import { stagedBytes } from './checks.ts'
import type { WorkerContext } from './context.ts'
import { openNeeded } from './needed.ts'
import { type StoredBackupPlan, stepContext, storedPlan } from './plan.ts'
import { placedTrouble, withRoom } from './room.ts'
import { runStep, type StepContext } from './steps.ts'

/** Runs or re-attaches every staged step; a step that finished is not run again. Returns the bytes in staging. */
export async function runTool(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
): Promise<{ stagedBytes: number }> {
  if (await committedAttempt(context, turn, input)) return { stagedBytes: 0 }
  const plan = await storedPlan(context, input.operationId, 'backup')
  const engine = engineOf(input.engine)
  const steps = stepContext(context, turn, input.operationId, engine, plan.token)
  const directory = context.host.stagingDir(input.operationId)
  const need = {
    operationId: input.operationId,
    purpose: 'tools',
    bytes: stagedBytes(plan, plan.facts),
  } as const
  await context.host.files.ensureDirectory(directory)
  await withRoom(context, turn, context.host, need, () => runSteps(context, turn, input, steps, plan))
  return { stagedBytes: await context.host.files.size(directory) }
}

async function runSteps(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  steps: StepContext,
  plan: StoredBackupPlan,
): Promise<void> {
  const directory = context.host.stagingDir(input.operationId)
  for (const step of plan.steps) {
    try {
      await runStep(
        steps,
        step,
        async artifact => await openParent(context, turn, input, plan, artifact),
        async () =>
          turn.progress({
            bytes: await context.host.files.size(directory),
            totalBytes: plan.facts.sizeBytes,
            note: step.title,
          }),
      )
    } catch (error) {
      if (turn.signal.aborted) {
        await stopIfCancelled(context, turn, input.operationId)
        throw error
      }
      // Whoever was suspended may meet the remains of its successor's work, which is none of its business.
      turn.assertLease()
      // What may pass, or be mended, is tried anew from an empty staging directory: half of a tool's work is worth nothing.
      if (
        error instanceof HoldfastError &&
        !onlyTheWay.has(error.code) &&
        ['transient', 'needs-operator'].includes(errorClass(error.code))
      ) {
        // How much is free is said before what was staged goes.
        const placed = await placedTrouble(context.host, error)
        await context.host.stopOperation(input.operationId)
        await context.host.removeOperation(input.operationId)
        throw placed
      }
      throw error
    }
  }
}

/** The way to the tool failed, or to the catalog, not the tool: it goes on, and the next run finds it. */
const onlyTheWay: ReadonlySet<ErrorCode> = new Set([
  'host.unreachable',
  'host.key-changed',
  'host.authentication',
  'host.sudo',
  'api.unreachable',
])

async function openParent(
  context: WorkerContext,
  turn: Turn,
  { operationId, parent }: BackupInput,
  plan: StoredBackupPlan,
  artifact: string,
) {
  const planned = plan.request.parent
  if (!parent || !planned) throw new HoldfastError('internal', `The backup of ${operationId} has no parent.`)
  return await openNeeded(context, turn, operationId, parent, planned, artifact)
}

/**
 * A cancelled tool is stopped here and now. A worker that shuts down, or that lost the step to another one, leaves the
 * job alone: the next run re-attaches it.
 */
async function stopIfCancelled(context: WorkerContext, turn: Turn, operationId: string): Promise<void> {
  if (turn.signal.reason instanceof Error && turn.signal.reason.message === 'CANCELLED') {
    await context.host.stopOperation(operationId)
  }
}
