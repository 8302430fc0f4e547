/** How workflows end: one place that knows success, cancellation and failure, and tells the catalog each of them. */
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  isCancellation,
  TimeoutFailure,
} from '@temporalio/workflow'
import type { ErrorFacts } from '../model/errors.ts'
import type { Phase } from '../model/types.ts'
import { classOf, factsOf, failureOf } from './facts.ts'
import { reasonOfCancel } from './holding.ts'
import { attempted, patient } from './steps.ts'
import type { Story } from './story.ts'

const cancelledFacts = (): ErrorFacts => ({
  code: 'operation.cancelled',
  detail: reasonOfCancel() ?? 'The operation was cancelled.',
  hint: 'Nothing is left behind; start it again when you are ready.',
})

/**
 * A step that was asked to stop may end otherwise: its worker dies or shuts down, or it meets what would have been tried
 * again, or waited for an operator. It is not tried again then, and the error is not why the operation ends.
 */
function endedByCancel(error: unknown): boolean {
  if (!CancellationScope.current().consideredCancelled || !(error instanceof ActivityFailure)) return false
  const { cause } = error
  if (cause instanceof TimeoutFailure) return true
  return cause instanceof ApplicationFailure && (!cause.nonRetryable || classOf(error) === 'needs-operator')
}

/** What work answers when another workflow goes on with the operation. */
export const handedOver = 'handed over'

/** A workflow's result, for whoever reads it in Temporal's UI: each phase in a few words. */
export type Told = Partial<Record<Phase, string>>

/**
 * Runs `work`; whatever happens, `givenUp` takes back what was done (not cancellable) and the catalog is told.
 * `givenUp` answers true when the work turned out to be finished after all: then it counts as success.
 */
export async function toItsEnd(
  operationId: string,
  story: Story,
  work: () => Promise<string[] | typeof handedOver>,
  givenUp: (reason: ErrorFacts) => Promise<boolean>,
): Promise<Told> {
  let warnings: string[] = []
  try {
    const ended = await work()
    // Another workflow goes on with the operation, and closes it.
    if (ended === handedOver) return told(story)
    warnings = ended
  } catch (error) {
    const cancelled = isCancellation(error) || endedByCancel(error)
    const facts = cancelled ? cancelledFacts() : factsOf(error)
    await CancellationScope.nonCancellable(async () => {
      let finished = false
      try {
        await story.whenGivenUp(cancelled ? 'cancelled' : 'failed')
        finished = await story.phase('cleanup', () => givenUp(facts))
      } catch (cleanup) {
        const left = factsOf(cleanup)
        warnings.push(`Not everything could be cleaned up (${left.detail}); run \`holdfast sweep\` later.`)
      }
      const state = finished ? 'succeeded' : cancelled ? 'cancelled' : 'failed'
      await close(operationId, story, state, finished ? null : facts, warnings)
      if (finished) return
      if (cancelled) throw error
      throw failureOf(facts)
    })
    return told(story)
  }
  const state = story.flaw ? 'partial' : 'succeeded'
  await CancellationScope.nonCancellable(async () => {
    await close(operationId, story, state, story.flaw, warnings)
    if (story.flaw) await notifyOf(operationId, story.title, story.flaw)
  })
  return told(story)
}

const told = (story: Story): Told =>
  Object.fromEntries(story.phases.map(({ phase, summary }) => [phase, summary ?? 'done']))

/** Somebody may want to know that something of it is left to do. */
async function notifyOf(operation: string, title: string, error: ErrorFacts): Promise<void> {
  try {
    await attempted.notify({ event: 'operation.partial', operation, title, error })
  } catch {
    // Said in the operation's log.
  }
}

async function close(
  operationId: string,
  story: Story,
  state: 'succeeded' | 'partial' | 'failed' | 'cancelled',
  error: ErrorFacts | null,
  warnings: string[],
): Promise<void> {
  story.state(state)
  await story.told()
  await patient.close(operationId, {
    state,
    error,
    warnings: [...warnings, ...story.warnings],
    phases: story.phases,
  })
}
