import { CancellationScope } from '@temporalio/workflow'
import type { Made } from '../activities/attempt.ts'
import { compressionAdvice } from '../model/compression.ts'
import type { ErrorFacts } from '../model/errors.ts'
import type { BackupInput } from '../model/records.ts'
import { type Hooks, hooksOf } from './hooks.ts'
import { leaveMachines, onOneMachine } from './machine.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { long, patient, quick } from './steps.ts'
import { type Story, tell } from './story.ts'
import { bytes, counted } from './words.ts'

/** One backup, from request to record. Holds its server's lock by its workflow id. */
export async function backup(input: BackupInput): Promise<Told> {
  const story = tell(
    input,
    `${input.dryRun ? 'dry run: ' : ''}backup ${input.connection} (${input.engine}, ${input.type}) → ${input.destination}`,
  )
  return await toItsEnd(
    input.operationId,
    story,
    () => makeBackup(story, input),
    reason => giveUpBackup(input, reason),
  )
}

/** From plan to record. Also what a restore does first when it is asked for a safety backup. */
export async function makeBackup(story: Story, input: BackupInput): Promise<string[]> {
  const plan = await story.phase(
    'plan',
    () => quick.plan(input),
    made => made.title,
  )
  const precheck = () => story.phase('precheck', () => quick.precheck(input), checked)
  if (input.dryRun) {
    const { warnings } = await precheck()
    await story.phase('cleanup', () => patient.cleanHost(input.operationId))
    return [...plan.warnings, ...warnings]
  }
  const hooks = hooksOf(story, input.operationId, plan.hooks)
  let begun: Promise<void> | undefined
  const begin = async () => {
    const checks = await precheck()
    // Once, also where the work begins anew on another machine.
    begun ??= hooks.before()
    await begun
    return checks
  }
  const { checks, made } =
    plan.shape === 'streamed'
      ? { checks: await begin(), made: await streamed(story, input) }
      : await onOneMachine(
          warning => story.warnings.push(warning),
          async () => ({ checks: await begin(), made: await staged(story, input) }),
        )
  await story.phase('verify', () => quick.verify(input, made))
  // From here on the backup may exist: what was asked to stop too late is finished.
  await CancellationScope.nonCancellable(() => finish(story, input, made, hooks))
  const advice = made.artifacts.flatMap(artifact => compressionAdvice(artifact) ?? [])
  return [...plan.warnings, ...checks.warnings, ...advice]
}

/** Answers true when the backup exists after all. */
export async function giveUpBackup(input: BackupInput, reason: ErrorFacts): Promise<boolean> {
  await leaveMachines(input.operationId)
  const { committed } = await patient.abandon(input, `${reason.code}: ${reason.detail}`)
  if (committed) await patient.record(input)
  return committed
}

/** Tool → destination; run again from the start after a crash. */
const streamed = (story: Story, input: BackupInput): Promise<Made> =>
  story.phase('upload', () => long.stream(input), stored)

/** Tool → staging, re-attached after a crash; then staging → destination, continued after a crash. */
async function staged(story: Story, input: BackupInput): Promise<Made> {
  await story.phase(
    'run tool',
    () => long.runTool(input),
    ({ stagedBytes }) => `${bytes(stagedBytes)} staged`,
  )
  return await story.phase('upload', () => long.upload(input), stored)
}

async function finish(story: Story, input: BackupInput, made: Made, hooks: Hooks): Promise<void> {
  const committed = await story.phase(
    'commit',
    () => quick.commit(input, made),
    ({ toolBytes, storedBytes }) => `${bytes(toolBytes)} as ${bytes(storedBytes)}`,
  )
  await story.phase('record', () => patient.record(input))
  await hooks.after()
  await story.phase('cleanup', async () => {
    await leaveMachines(input.operationId)
    await patient.cleanup(input, committed.attemptId)
  })
}

const checked = ({ passed, warnings }: { passed: number; warnings: string[] }) =>
  `${counted(passed, 'check')} passed${warnings.length > 0 ? `, ${warnings.length} warned` : ''}`

const stored = (made: Made) => bytes(made.artifacts.reduce((sum, artifact) => sum + artifact.storedBytes, 0))
