import { CancellationScope, isCancellation } from '@temporalio/workflow'
import type { Outcome } from '../activities/index.ts'
import type { BackupInput, RestoreInput } from '../model/records.ts'
import { giveUpBackup, makeBackup } from './backup.ts'
import { prechecked } from './checked.ts'
import { factsOf } from './facts.ts'
import { hooksOf } from './hooks.ts'
import { isServed, leaveMachines, onOneMachine } from './machine.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { cleanHost, long, patient, quick } from './steps.ts'
import { type Story, tell } from './story.ts'
import { onceThawed, thaw } from './thaw.ts'
import { bytes, counted } from './words.ts'

/**
 * One restore: everything under a temporary name, proven; then it gets its name, or takes the place of what is there. Holds
 * the target server's lock.
 */
export async function restore(input: RestoreInput): Promise<Told> {
  const story = tell(
    input,
    `${input.dryRun ? 'dry run: ' : ''}restore ${input.backupId} → ${input.targetConnection}: ${input.targetDatabase}`,
    input.before,
  )
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
      if (plan.swap && input.safetyBackup) await safetyBackup(story, input, input.safetyBackup)
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
        await story.phase('prove', () => long.prove(input, 'temporary'), proven)
      }
      await (plan.staged ? onOneMachine(warning => story.warnings.push(warning), load) : load())
      // The last act is short; what was asked to stop this late is finished.
      await CancellationScope.nonCancellable(async () => {
        if (plan.swap) await swap(story, input, plan.swap)
        else {
          await story.phase(
            'finish',
            async () => {
              // Each is recorded by itself: what gave the name is not run again after what took its mark away.
              for (const step of plan.finish) await quick.restoreSteps(input, [step])
            },
            () => `named ${plan.database}`,
          )
        }
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

const proven = ({ passed }: { passed: number }) => `${counted(passed, 'proof')} passed`

/** A backup like any other, of what is about to be replaced, under the lock that we hold. Without it nothing is replaced. */
async function safetyBackup(story: Story, input: RestoreInput, backup: BackupInput): Promise<void> {
  // Of its own row only how it ended is told: its phases would be taken for those of the restore.
  const unseen: Story = {
    title: story.title,
    phases: [],
    warnings: [],
    flaw: null,
    whenGivenUp: async () => {},
    phase: (_phase, work) => work(),
    checked() {},
    says() {},
    state() {},
    queued() {},
    told: async () => {},
  }
  await story.phase(
    'safety backup',
    async () => {
      await quick.openSafetyBackup(input.operationId)
      const close = (end: Pick<Outcome, 'state' | 'error' | 'warnings'>) =>
        patient.close(backup.operationId, { ...end, phases: [] })
      try {
        const warnings = await makeBackup(unseen, backup)
        const state = unseen.flaw ? 'partial' : 'succeeded'
        await close({ state, error: unseen.flaw, warnings: [...warnings, ...unseen.warnings] })
      } catch (error) {
        await CancellationScope.nonCancellable(async () => {
          const facts = factsOf(error)
          await unseen.whenGivenUp(isCancellation(error) ? 'cancelled' : 'failed')
          const exists = await giveUpBackup(backup, facts)
          const state = exists ? 'succeeded' : isCancellation(error) ? 'cancelled' : 'failed'
          await close({ state, error: state === 'failed' ? facts : null, warnings: [] })
        })
        throw error
      }
    },
    () => backup.backupId,
  )
}
