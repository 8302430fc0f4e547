import { CancellationScope, isCancellation } from '@temporalio/workflow'
import type { Made } from '../activities/attempt.ts'
import type { Recorded } from '../activities/commit.ts'
import type { Ready } from '../activities/precheck.ts'
import type { Canary } from '../model/canary.ts'
import { compressionAdvice } from '../model/compression.ts'
import type { ErrorFacts } from '../model/errors.ts'
import type { BackupInput, Lost } from '../model/records.ts'
import { prechecked } from './checked.ts'
import { factsOf } from './facts.ts'
import { type Hooks, hooksOf } from './hooks.ts'
import { leaveMachines, onOneMachine } from './machine.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { attemptedThere, cleanHost, long, patient, quick } from './steps.ts'
import { type Story, tell } from './story.ts'
import { bytes } from './words.ts'

/** One backup, from request to record. Holds its server's lock by its workflow id. */
export async function backup(input: BackupInput): Promise<Told> {
  const story = tell(
    input,
    `${input.dryRun ? 'dry run: ' : ''}backup ${input.connection} (${input.engine}, ${input.type}) → ${input.destinations.join(', ')}`,
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
  // Before the database is looked at: the first one makes a table there.
  const canary = input.canary && !input.dryRun ? await canaryFor(story, input) : undefined
  const plan = await story.phase(
    'plan',
    () => quick.plan(input),
    made => made.title,
  )
  const precheck = () => prechecked(story, () => quick.precheck(input))
  if (input.dryRun) {
    const { warnings } = await precheck()
    await story.phase('cleanup', () => cleanHost(input.operationId))
    return [...plan.warnings, ...warnings]
  }
  const hooks = hooksOf(story, input.operationId, plan.hooks)
  let begun: Promise<void> | undefined
  const begin = async () => {
    const ready = await precheck()
    // Once, also where the work begins anew on another machine.
    begun ??= hooks.before()
    await begun
    return ready
  }
  const work = async () => {
    const ready = await begin()
    const made = plan.shape === 'streamed' ? streamed(story, input, ready) : staged(story, input, ready)
    return { ready, made: await made }
  }
  const { ready, made } =
    plan.shape === 'streamed'
      ? await work()
      : await onOneMachine(warning => story.warnings.push(warning), work)
  const { destinations, lost } = await story.phase('verify', () => quick.verify(input, made))
  const without = [...ready.lost, ...made.lost, ...lost]
  // From here on the backup may exist: what was asked to stop too late is finished.
  const facts = { ...made.facts, ...(canary ? { canary: { ...canary } } : {}) }
  await CancellationScope.nonCancellable(() =>
    finish(story, input, { ...made, facts, destinations }, without, hooks),
  )
  const advice = made.artifacts.flatMap(artifact => compressionAdvice(artifact) ?? [])
  return [...plan.warnings, ...ready.warnings, ...advice]
}

/** A backup without one is a backup: its drills go by its own times then. */
async function canaryFor(story: Story, input: BackupInput): Promise<Canary | undefined> {
  try {
    return await story.phase(
      'canary',
      () => attemptedThere.writeCanary(input),
      ({ lsn }) => (lsn === null ? 'written' : `written, the log at ${lsn}`),
    )
  } catch (error) {
    if (isCancellation(error)) throw error
    story.warnings.push(`The canary was not written: ${factsOf(error).detail}`)
    return undefined
  }
}

/** Answers true when the backup exists after all. */
export async function giveUpBackup(input: BackupInput, reason: ErrorFacts): Promise<boolean> {
  await leaveMachines(input.operationId)
  const { committed } = await patient.abandon(input, `${reason.code}: ${reason.detail}`)
  if (committed) await patient.record(input, [])
  return committed
}

/** Tool → destinations; run again from the start after a crash. */
const streamed = (story: Story, input: BackupInput, { to }: Ready): Promise<Made> =>
  story.phase('upload', () => long.stream(input, to), stored)

/** Tool → staging, re-attached after a crash; then staging → destinations, continued after a crash. */
async function staged(story: Story, input: BackupInput, { to }: Ready): Promise<Made> {
  await story.phase(
    'run tool',
    () => long.runTool(input),
    ({ stagedBytes }) => `${bytes(stagedBytes)} staged`,
  )
  return await story.phase('upload', () => long.upload(input, to), stored)
}

async function finish(
  story: Story,
  input: BackupInput,
  made: Made,
  without: readonly Lost[],
  hooks: Hooks,
): Promise<void> {
  const committed = await story.phase(
    'commit',
    () => quick.commit(input, made),
    ({ toolBytes, storedBytes }) => `${bytes(toolBytes)} as ${bytes(storedBytes)}`,
  )
  const recorded = await story.phase(
    'record',
    () => patient.record(input, [...without, ...committed.lost]),
    ({ destinations }) => `at ${destinations.join(', ')}`,
  )
  story.flaw ??= flawOf(recorded)
  await hooks.after()
  await story.phase('cleanup', async () => {
    await leaveMachines(input.operationId)
    await patient.cleanup(input, committed.attemptId)
  })
}

/** It exists, and not everywhere. */
function flawOf({ destinations, missing }: Recorded): ErrorFacts | null {
  const [first] = missing
  if (!first) return null
  const where = missing.map(({ destination, trouble }) => `${destination} (${trouble})`).join(', ')
  return {
    code: 'backup.partial',
    detail: `The backup is at ${destinations.join(', ')}, and not at ${where}. It is copied there by itself until ${first.wantedUntil}.`,
    hint: 'See to what is away; `holdfast backups show` tells when the copy is there. To copy it now: `holdfast backups copy BACKUP --to DESTINATION`.',
  }
}

const stored = (made: Made) => bytes(made.artifacts.reduce((sum, artifact) => sum + artifact.storedBytes, 0))
