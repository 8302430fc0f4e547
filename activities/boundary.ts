/**
 * The boundary between Temporal and everything else: heartbeats, cancellation, the lease, and errors.
 * Nothing below it knows Temporal; nothing above it sees an error that is not in the table of codes.
 */
import { ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity'
import { type ErrorFacts, errorClass, HoldfastError } from '../model/errors.ts'
import type { Progress } from '../model/types.ts'
import { type LastBeat, leaseOf, newLastBeat } from './lease.ts'

const heartbeatEveryMs = 1000

/** One run of one step, as the code below the boundary sees it. */
export interface Turn {
  /** Aborted when the operation is cancelled, the step was given to another worker, or this worker shuts down. */
  signal: AbortSignal
  /** Grows with every run of this step, also across resets: the newest run has the highest. */
  fence: number
  /** The run of the workflow that this step belongs to. A reset makes another one. */
  runId: string
  /** Says how far the step has come; travels with the next heartbeat. */
  progress(update: Partial<Omit<Progress, 'startedAt'>>): void
  /**
   * Throws if this process was suspended for so long that another worker may have the step by now. Asked before each
   * act that others can see (opening an upload, starting a tool, putting an object).
   */
  assertLease(): void
  /** What `assertLease` goes by, for another thread's own. */
  lastBeat: LastBeat
}

/** Runs `work` as the activity's body under heartbeats; translates what it throws. */
export async function turn<T>(work: (turn: Turn) => Promise<T>): Promise<T> {
  const context = Context.current()
  const progress: Omit<Progress, 'phase'> = { bytes: 0, startedAt: new Date().toISOString() }
  const lastBeat = newLastBeat()
  const lost = new AbortController()
  const assertLease = leaseOf(context.info.activityType, lastBeat, context.cancellationSignal, lost)
  const beat = () => {
    try {
      assertLease()
      lastBeat[0] = Date.now()
      context.heartbeat(progress)
    } catch {
      // Cancelled or suspended: the signal says so to the work; there is nobody to beat for.
    }
  }
  // A local one is over within a workflow task; nobody waits for its heartbeats.
  const beating = context.info.isLocal ? undefined : setInterval(beat, heartbeatEveryMs)
  try {
    return await work({
      signal: AbortSignal.any([context.cancellationSignal, lost.signal]),
      fence: context.info.currentAttemptScheduledTimestampMs,
      runId: context.info.workflowExecution?.runId ?? '',
      progress(update) {
        Object.assign(progress, update)
        if (update.phase !== undefined) beat()
      },
      assertLease,
      lastBeat,
    })
  } catch (error) {
    throw translate(error, context.cancellationSignal)
  } finally {
    clearInterval(beating)
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

/**
 * Transient and throttled errors are tried again by Temporal. The others go to the workflow, with their class: it parks
 * the operation where an operator is needed, and ends it otherwise.
 */
function failure(facts: ErrorFacts): ApplicationFailure {
  const kind = errorClass(facts.code)
  return ApplicationFailure.create({
    type: facts.code,
    message: facts.detail,
    // An unknown error may be a passing one: it is tried again, a bounded number of times.
    nonRetryable: !(kind === 'transient' || kind === 'throttled' || facts.code === 'internal'),
    details: [facts, kind],
  })
}
