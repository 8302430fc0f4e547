import { CancellationScope } from '@temporalio/workflow'
import type { RestoreInput } from '../model/records.ts'
import { prechecked } from './checked.ts'
import { named, proven } from './finish.ts'
import { hooksOf } from './hooks.ts'
import { isServed, leaveMachines, onOneMachine, servedBy } from './machine.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { partBackup } from './part.ts'
import { recovers, recoveryTitle, replayLog } from './recovering.ts'
import { cleanHost, long, patient, quick } from './steps.ts'
import { type Story, tell } from './story.ts'
import { onceThawed, thaw } from './thaw.ts'
import { bytes } from './words.ts'

/**
 * One restore: everything under a temporary name, proven; then it gets its name, or takes the place of what is there. Holds
 * the target server's lock.
 */
export async function restore(input: RestoreInput): Promise<Told> {
  const story = tell(input, restoreTitle(input), input.before)
  let loading = false
  return await toItsEnd(
    input.operationId,
    story,
    async () => {
      if (input.approvalId) {
        await story.phase(
          'approval',
          () => patient.useApproval(input),
          () => 'used; the plan is the approved one',
        )
      }
      const plan = await story.phase('plan', () => quick.planRestore(input))
      const warn = (warnings: string[]) => {
        for (const warning of warnings) if (!story.warnings.includes(warning)) story.warnings.push(warning)
      }
      warn(plan.warnings)
      const checks = await prechecked(story, () => quick.precheckRestore(input))
      if (input.dryRun) {
        await story.phase('cleanup', () => cleanHost(input.operationId))
        return checks.warnings
      }
      if (plan.frozen) await thaw(story, input)
      if (plan.swap && input.safetyBackup) {
        await partBackup(story, 'safety backup', input.operationId, input.safetyBackup)
      }
      const hooks = hooksOf(story, input.operationId, plan.hooks)
      await hooks.before()
      const load = async () => {
        loading = true
        for (const run of plan.load) {
          const { warnings } = await story.phase(
            'restore',
            // A tiering may have been at it when the plan was made.
            () => onceThawed(story, input, () => long.restoreSteps(input, run.steps)),
            moved => [run.title, moved.bytes > 0 ? bytes(moved.bytes) : ''].filter(Boolean).join(', '),
          )
          warn(warnings)
        }
        if (recovers(input)) await replayLog(story, input)
        await story.phase('prove', () => long.prove(input, 'temporary'), proven)
      }
      await (plan.staged ? onOneMachine(warning => story.warnings.push(warning), load) : load())
      // The last act is short; what was asked to stop this late is finished.
      await CancellationScope.nonCancellable(async () => {
        if (plan.swap) await swap(story, input, plan.swap)
        else await named(story, input, plan)
        await hooks.after()
        await story.phase('cleanup', async () => {
          await leaveMachines(input.operationId)
          if (!isServed()) await cleanHost(input.operationId)
        })
      })
      return checks.warnings
    },
    async () => {
      await leaveMachines(input.operationId)
      // Nothing was begun on a host whose worker nobody may have started yet: it is not waited for.
      const begun = loading || !isServed()
      if (!input.dryRun && begun) return await patient.undoRestore(input)
      if (!isServed()) await cleanHost(input.operationId)
      return false
    },
  )
}

/**
 * The way back of a restore that was ended from outside between the exchange and its end: the old one runs again, unless the new
 * one was handed over.
 */
export async function takeBack(input: RestoreInput): Promise<void> {
  servedBy(input.hostWorker)
  await leaveMachines(input.operationId)
  await patient.undoRestore(input)
}

export const restoreTitle = (input: RestoreInput): string =>
  recovers(input)
    ? recoveryTitle(input)
    : `${input.dryRun ? 'dry run: ' : ''}restore ${input.backupId} → ${input.targetConnection}: ${input.targetDatabase}`

/** The copy takes the place of the old one; proven there once more before it is handed over. Never held up half-way. */
async function swap(story: Story, input: RestoreInput, plan: { prepare: string[]; kept: string }) {
  await story.phase(
    'swap',
    async () => {
      for (const step of plan.prepare) await patient.restoreSteps(input, [step])
      await patient.swapStep(input, 'exchange')
    },
    () => `the old one is kept as ${plan.kept}`,
  )
  await story.phase('prove', () => patient.prove(input, 'swapped'), proven)
  await story.phase('finish', async () => {
    await patient.swapStep(input, 'open')
    await patient.recordKept(input)
  })
}
