import { CancellationScope, sleep } from '@temporalio/workflow'
import type { OneDatabase, PitrInput } from '../model/records.ts'
import { prechecked } from './checked.ts'
import { factsOf } from './facts.ts'
import { named, proven } from './finish.ts'
import { hooksOf } from './hooks.ts'
import { isServed, leaveMachines } from './machine.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { partBackup } from './part.ts'
import { recoveryTitle, replayLog } from './recovering.ts'
import { cleanHost, long, patient, quick } from './steps.ts'
import { type Story, tell } from './story.ts'
import { onceThawed, thaw } from './thaw.ts'
import { bytes } from './words.ts'

const againSeconds = 30

/**
 * A server as it was at some moment, beside the one that it was copied from: its base backup under a temporary name, the log
 * replayed over it up to the target, proven, and only then named. Touches no server, and holds no lock.
 */
export async function pitr(input: PitrInput): Promise<Told> {
  const story = tell(input, recoveryTitle(input))
  let begun = false
  return await toItsEnd(
    input.operationId,
    story,
    async () => {
      const plan = await story.phase('plan', () => quick.planRestore(input))
      story.warnings.push(...plan.warnings)
      const checks = await prechecked(story, () => quick.precheckRestore(input))
      if (input.dryRun) {
        await story.phase('cleanup', () => cleanHost(input.operationId))
        return checks.warnings
      }
      if (plan.frozen) await thaw(story, input)
      const hooks = hooksOf(story, input.operationId, plan.hooks)
      await hooks.before()
      begun = true
      for (const run of plan.load) {
        const { warnings } = await story.phase(
          'restore',
          () => onceThawed(story, input, () => long.restoreSteps(input, run.steps)),
          moved => [input.backupId, moved.bytes > 0 ? bytes(moved.bytes) : ''].filter(Boolean).join(', '),
        )
        story.warnings.push(...warnings)
      }
      await replayLog(story, input)
      await story.phase('prove', () => long.prove(input, 'temporary'), proven)
      if (input.only) {
        await oneDatabase(story, input, input.only)
        await hooks.after()
        return checks.warnings
      }
      // The last act is short; what was asked to stop this late is finished.
      await CancellationScope.nonCancellable(async () => {
        await named(story, input, plan)
        await hooks.after()
        await story.phase('cleanup', () => cleanHost(input.operationId))
      })
      return checks.warnings
    },
    async () => {
      await leaveMachines(input.operationId)
      // Nothing was begun on a host whose worker nobody may have started yet: it is not waited for.
      if (!input.dryRun && (begun || !isServed())) return await patient.undoRestore(input)
      if (!isServed()) await cleanHost(input.operationId)
      return false
    },
  )
}

/** Dumped from the copy, which is then removed; its restore is an operation of its own, and asks for consent by itself. */
async function oneDatabase(story: Story, input: PitrInput, { dump }: OneDatabase): Promise<void> {
  await story.phase(
    'finish',
    () => long.serveCopy(input),
    () => 'the copy answers on a socket of its own',
  )
  await partBackup(story, 'dump', input.operationId, dump)
  await CancellationScope.nonCancellable(() => story.phase('cleanup', () => patient.undoRestore(input)))
  await story.phase(
    'load',
    () => onceFree(() => quick.restoreDump(input.operationId), input.parkSeconds),
    id => `goes on as ${id}`,
  )
}

/** While another operation holds the server that gets it. */
async function onceFree<T>(ask: () => Promise<T>, longestSeconds: number): Promise<T> {
  const until = Date.now() + longestSeconds * 1000
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (factsOf(error).code !== 'operation.conflict' || Date.now() > until) throw error
    }
    await sleep(againSeconds * 1000)
  }
}
