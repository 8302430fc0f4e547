/**
 * The boundary between Temporal and everything else: heartbeats, cancellation, the lease, and errors.
 * Nothing below it knows Temporal; nothing above it sees an error that is not in the table of codes.
 */
import { ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity'
import { type ErrorFacts, errorClass, HoldfastError } from '../model/errors.ts'
import type { Phase, Progress } from '../model/types.ts'

/** Seconds without a heartbeat after which Temporal gives the step to another worker. Also set in workflows/steps.ts. */
export const heartbeatTimeoutSeconds = 10
const heartbeatEveryMs = 1000

/** One run of one step, as the code below the boundary sees it. */
export interface Turn {
  /** Aborted when the operation is cancelled, the step was given to another worker, or this worker shuts down. */
  signal: AbortSignal
  /** Grows with every run of this step, also across resets: the newest run has the highest. */
  fence: number
  /** Says how far the step has come; travels with the next heartbeat. */
  progress(update: Partial<Omit<Progress, 'phase' | 'startedAt'>>): void
  /**
   * Throws if this process was suspended for so long that another worker may have the step by now. Asked before each
   * act that others can see (opening an upload, starting a tool, putting an object).
   */
  assertLease(): void
}

/** Runs `work` as the activity's body under heartbeats; translates what it throws. */
export async function turn<T>(phase: Phase, work: (turn: Turn) => Promise<T>): Promise<T> {
  const context = Context.current()
  const progress: Progress = { phase, bytes: 0, startedAt: new Date().toISOString() }
  let lastBeat = Date.now()
  const lost = new AbortController()
  const assertLease = () => {
    context.cancellationSignal.throwIfAborted()
    if (Date.now() - lastBeat > heartbeatTimeoutSeconds * 1000) {
      const error = new HoldfastError(
        'host.job-lost',
        `The worker was suspended for over ${heartbeatTimeoutSeconds} seconds during "${phase}"; another one has the step by now.`,
      )
      lost.abort(error)
      throw error
    }
  }
  const beat = setInterval(() => {
    try {
      assertLease()
      lastBeat = Date.now()
      context.heartbeat(progress)
    } catch {
      // Cancelled or suspended: the signal says so to the work; there is nobody to beat for.
    }
  }, heartbeatEveryMs)
  context.heartbeat(progress)
  try {
    return await work({
      signal: AbortSignal.any([context.cancellationSignal, lost.signal]),
      fence: context.info.currentAttemptScheduledTimestampMs,
      progress: update => Object.assign(progress, update),
      assertLease,
    })
  } catch (error) {
    throw translate(error, context.cancellationSignal)
  } finally {
    clearInterval(beat)
  }
}

function translate(error: unknown, signal: AbortSignal): Error {
  if (signal.aborted) {
    const reason: unknown = signal.reason
    if (reason instanceof CancelledFailure && reason.message === 'WORKER_SHUTDOWN') {
      return ApplicationFailure.create({
        type: 'host.job-lost',
        message: 'This worker shuts down; the step goes on elsewhere.',
        nonRetryable: false,
      })
    }
    return reason instanceof Error ? reason : new CancelledFailure('cancelled')
  }
  if (error instanceof HoldfastError) return failure(error.facts())
  const detail = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  return failure({
    code: 'internal',
    detail: `Unexpected: ${detail}`,
    hint: 'Please report it with the operation id.',
  })
}

/** Transient and throttled errors are tried again; what needs an operator or is permanent ends the operation. */
function failure(facts: ErrorFacts): ApplicationFailure {
  const kind = errorClass(facts.code)
  return ApplicationFailure.create({
    type: facts.code,
    message: facts.detail,
    // An unknown error may be a passing one: it is tried again, a bounded number of times.
    nonRetryable: !(kind === 'transient' || kind === 'throttled' || facts.code === 'internal'),
    details: [facts],
  })
}
