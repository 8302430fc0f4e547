import { CancellationScope } from '@temporalio/workflow'
import type { RestoreInput } from '../model/records.ts'
import { hooksOf } from './hooks.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { long, patient, quick } from './steps.ts'
import { tell } from './story.ts'
import { bytes } from './words.ts'

/** One restore into a new name beside: everything under a temporary name, proven, then renamed. Holds the target server's lock. */
export async function restore(input: RestoreInput): Promise<Told> {
  const story = tell(
    input,
    `${input.dryRun ? 'dry run: ' : ''}restore ${input.backupId} → ${input.targetConnection}: ${input.targetDatabase}`,
  )
  return await toItsEnd(
    input.operationId,
    story,
    async () => {
      const plan = await story.phase('plan', () => quick.planRestore(input))
      const checks = await story.phase(
        'precheck',
        () => quick.precheckRestore(input),
        ({ passed }) => `${passed} checks passed`,
      )
      if (input.dryRun) {
        await story.phase('cleanup', () => patient.cleanHost(input.operationId))
        return checks.warnings
      }
      const hooks = hooksOf(story, input.operationId, plan.hooks)
      await hooks.before()
      for (const run of plan.load) {
        await story.phase(
          'restore',
          () => long.restoreSteps(input, run.steps),
          moved => [run.title, moved.bytes > 0 ? bytes(moved.bytes) : ''].filter(Boolean).join(', '),
        )
      }
      await story.phase(
        'prove',
        () => long.prove(input),
        ({ passed }) => `${passed} proofs passed`,
      )
      // The last act is short; what was asked to stop this late is finished.
      await CancellationScope.nonCancellable(async () => {
        await story.phase(
          'finish',
          async () => {
            // Each is recorded by itself: what gave the name is not run again after what took its mark away.
            for (const step of plan.finish) await quick.restoreSteps(input, [step])
          },
          () => `named ${plan.database}`,
        )
        await hooks.after()
        await story.phase('cleanup', () => patient.cleanHost(input.operationId))
      })
      return checks.warnings
    },
    async () => {
      if (input.dryRun) await patient.cleanHost(input.operationId)
      else await patient.undoRestore(input)
      return false
    },
  )
}
