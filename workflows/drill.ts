import { CancellationScope, condition, defineSignal, isCancellation, setHandler } from '@temporalio/workflow'
import type { DrillInput } from '../model/records.ts'
import { targetWords } from '../model/recovery-time.ts'
import { prechecked } from './checked.ts'
import { factsOf, failureOf } from './facts.ts'
import { isServed, leaveMachines, onOneMachine, servedBy } from './machine.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { attempted, long, patient, quick } from './steps.ts'
import { type Story, tell } from './story.ts'
import { bytes, counted, duration, stopped } from './words.ts'

/**
 * A restore that never gives its copy a name: loaded, proven, examined, and torn down whatever became of it. Takes no server's
 * lock: it touches nothing there but what it makes itself.
 */
export async function drill(input: DrillInput): Promise<Told> {
  const what = input.recovery ? `${input.sourceConnection} to ${targetWords(input.recovery)}` : input.backupId
  const story = tell(input, `drill ${what} on ${input.targetConnection}`)
  let loading = false
  try {
    return await toItsEnd(
      input.operationId,
      story,
      () =>
        alarmed(input, story, async () => {
          const warnings = await inTime(input.drill.maxSeconds, () =>
            rehearse(input, story, () => (loading = true)),
          )
          await CancellationScope.nonCancellable(() => story.phase('cleanup', () => tornDown(input)))
          return warnings
        }),
      async () => {
        // Nothing was begun on a host whose worker nobody may have started yet: it is not waited for.
        if (loading || !isServed()) await tornDown(input)
        return false
      },
    )
  } finally {
    await CancellationScope.nonCancellable(() => patient.writeDrillReport(input.operationId)).catch(() => {
      // Whoever looks after operations writes it later.
    })
  }
}

const againSignal = defineSignal('again')

/** The same for what a drill that was ended from outside has left: until it is gone, or at once when somebody asks. */
export async function tearDown(input: DrillInput): Promise<void> {
  servedBy(input.hostWorker)
  let asked = 0
  setHandler(againSignal, () => {
    asked += 1
  })
  for (let tries = 1; ; tries += 1) {
    const before = asked
    try {
      return await tornDown(input)
    } catch (error) {
      if (isCancellation(error) || tries === mostTries) throw error
      await condition(() => asked > before, pauseSeconds * 1000)
    }
  }
}

/** What hinders it may be a connection that is gone for good: seldom, and by a new run now and then, it is tried again. */
const pauseSeconds = 600
const mostTries = 100

async function rehearse(input: DrillInput, story: Story, begins: () => void): Promise<string[]> {
  const plan = await story.phase('plan', () => quick.planRestore(input))
  const checks = await prechecked(story, () => quick.precheckRestore(input))
  if (plan.frozen) throw inAnArchive(input)
  story.warnings.push(...plan.warnings)
  const recover = async () => {
    begins()
    for (const run of plan.load) {
      const { warnings } = await story.phase(
        run.fetches ? 'fetch' : 'restore',
        () => long.restoreSteps(input, run.steps),
        moved => [run.title, moved.bytes > 0 ? bytes(moved.bytes) : ''].filter(Boolean).join(', '),
      )
      story.warnings.push(...warnings.filter(warning => !story.warnings.includes(warning)))
    }
    if (input.recovery) await story.phase('replay', () => long.replay(input), stopped)
    await story.phase('prove', () => long.prove(input, 'temporary'), passed)
    const { thorough, queries } = input.drill
    if (thorough || queries.length > 0) await story.phase('examine', () => long.examine(input), passed)
  }
  await (plan.staged ? onOneMachine(warning => story.warnings.push(warning), recover) : recover())
  return checks.warnings
}

const passed = (answer: { passed: number }) => `${counted(answer.passed, 'check')} passed`

async function tornDown(input: DrillInput): Promise<void> {
  await leaveMachines(input.operationId)
  await patient.tearDown(input)
}

/** A drill that failed is never a quiet line. */
async function alarmed<T>(input: DrillInput, { title }: Story, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!isCancellation(error) && !CancellationScope.current().consideredCancelled) {
      await attempted
        .notify({ event: 'drill.failed', operation: input.operationId, title, error: factsOf(error) })
        .catch(() => {
          // Said in the operation's log; the operation itself fails with it.
        })
    }
    throw error
  }
}

async function inTime<T>(maxSeconds: number | null, work: () => Promise<T>): Promise<T> {
  if (maxSeconds === null) return await work()
  const limited = new CancellationScope({ cancellable: true, timeout: maxSeconds * 1000 })
  try {
    return await limited.run(work)
  } catch (error) {
    // A step that is asked to stop may end with an error of its own.
    if (!limited.consideredCancelled || CancellationScope.current().consideredCancelled) throw error
    throw failureOf({
      code: 'drill.too-slow',
      detail: `The drill was given ${duration(maxSeconds)}, and its copy was not proven and examined by then.`,
      hint: 'The report says where the time went. Allow more time, or make restores faster.',
    })
  }
}

/** Bringing it back takes hours and money: nobody has asked for that. */
const inAnArchive = ({ backupId }: DrillInput) =>
  failureOf({
    code: 'destination.archived',
    detail: `Backup ${backupId} lies in an archive, and a drill brings nothing back from there.`,
    hint: 'Drill a copy that can be read as it lies (--from), or thaw it first: holdfast backups verify --thaw.',
  })
