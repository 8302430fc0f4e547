/**
 * What holds an operation up without ending it: an operator's pause, and errors that an operator has to mend. Every step
 * goes through `held`, so that the operation goes on at the very step where it stopped.
 */
import {
  CancellationScope,
  CancelledFailure,
  condition,
  defineSignal,
  setHandler,
} from '@temporalio/workflow'
import type { ErrorFacts } from '../model/errors.ts'
import type { Patience } from '../model/records.ts'
import type { Phase } from '../model/types.ts'
import { classOf, factsOf, failureOf } from './facts.ts'
import { duration } from './words.ts'

export const pauseSignal = defineSignal('pause')
export const resumeSignal = defineSignal('resume')
/** Like Temporal's own cancellation, and may say why. Whoever sends it by other means than ours may say anything. */
export const cancelSignal = defineSignal<[reason?: unknown]>('cancel')

/** A stop for an operator. */
export interface Stop {
  /** ISO time at which it ends as failed. */
  until: string
  /** ISO time at which the step is tried again without being told; null: it waits to be told. */
  retryAt: string | null
  /** It stood for the same trouble before: tried again by itself, in vain. */
  again: boolean
}

/** How holding is shown and told; the story's part. */
export interface Holder {
  phase(): Phase | undefined
  /** Lets go of what would hurt the source, tells the catalog, notifies. Settles when the source is free. */
  parked(facts: ErrorFacts, stop: Stop): Promise<void>
  paused(): void
  goesOn(): void
  /** Somebody wants a pause, or no longer does. */
  wanted(pause: boolean): void
  /** Settles when the catalog was told everything so far. */
  told(): Promise<void>
}

/** Of this workflow: each run of a workflow has its modules to itself. */
let holder: Holder | undefined
let patience: Patience & { dryRun?: boolean } = { unattended: false, parkSeconds: 0, parkRetrySeconds: 0 }
let pauseWanted = false
let resumes = 0
let cancelReason: string | undefined
let cancelled = (): boolean => false

/** Called once, at the beginning, in the workflow's own scope. */
export function holdable(by: Holder, borne: Patience & { dryRun?: boolean }): void {
  holder = by
  patience = borne
  const whole = CancellationScope.current()
  cancelled = () => whole.consideredCancelled
  setHandler(pauseSignal, () => {
    pauseWanted = true
    by.wanted(true)
  })
  setHandler(resumeSignal, () => {
    pauseWanted = false
    resumes += 1
    by.wanted(false)
  })
  setHandler(cancelSignal, reason => {
    if (typeof reason === 'string') cancelReason = reason.slice(0, 500)
    whole.cancel()
  })
}

/** Why it was cancelled, where somebody said so. */
export const reasonOfCancel = (): string | undefined => cancelReason

/**
 * Runs one step. Waits before it while a pause is wanted; runs it again after a pause that it stopped for, and after an
 * operator mended what it failed for, or it may have passed.
 */
export async function held<T>(work: () => Promise<T>): Promise<T> {
  let until: number | undefined
  let retried = 0
  for (;;) {
    await pausedWhileWanted()
    try {
      return await work()
    } catch (error) {
      if (cancelled()) throw error
      const facts = factsOf(error)
      if (facts.code === 'operation.paused') {
        // It may have been resumed meanwhile: the step must find that in the catalog, or it would stop again.
        await holder?.told()
        continue
      }
      const mendable = classOf(error) === 'needs-operator'
      const passing = mayPass(error, facts) || (mendable && patience.persistent === true)
      if (!(passing || mendable) || patience.failsFast || !worthKeeping(facts)) throw error
      until ??= Date.now() + patience.parkSeconds * 1000
      const retryMs = passing ? retryAfterMs(facts, retried) : undefined
      const how = await park(facts, until, retryMs, retried > 0)
      retried += 1
      // Whoever resumes it by hand gives it its whole time anew.
      if (how === 'resumed') [until, retried] = [undefined, 0]
    }
  }
}

/**
 * What was tried in vain for minutes: a store, a server, a worker that is away. It may come back while everybody sleeps. And what
 * somebody does in their own time, of which nobody tells us.
 */
function mayPass(error: unknown, { code }: ErrorFacts): boolean {
  const kind = classOf(error)
  return (
    kind === 'transient' ||
    kind === 'throttled' ||
    code === 'database.unreachable' ||
    code === 'wal.needs-restart'
  )
}

/**
 * Before the work begins there is nothing to keep: who asked for the operation is told at once, and asks again. Where
 * nobody watches, it waits for somebody. A worker that is missing on its host is started, and then nobody need ask again.
 */
function worthKeeping({ code }: ErrorFacts): boolean {
  const phase = holder?.phase()
  if (code === 'host.no-worker') return !patience.dryRun
  return patience.unattended || !(phase === 'plan' || phase === 'precheck')
}

async function pausedWhileWanted(): Promise<void> {
  // From the commit on, and while cleaning up, there is nothing to gain by waiting.
  if (!pauseWanted || !CancellationScope.current().cancellable) return
  holder?.paused()
  await condition(() => !pauseWanted)
  holder?.goesOn()
}

/** Each try may cost the source a dump: twice as long each time, up to an hour. Where nobody began it costs nothing. */
function retryAfterMs({ code }: ErrorFacts, retried: number): number {
  const { parkRetrySeconds } = patience
  if (code === 'host.no-worker') return 1000 * Math.min(parkRetrySeconds, noWorkerRetrySeconds)
  // A question, and for days: neither often nor ever more seldom.
  if (code === 'wal.needs-restart') return 1000 * parkRetrySeconds
  return 1000 * Math.min(parkRetrySeconds * 2 ** retried, Math.max(3600, parkRetrySeconds))
}

/** A day of it stays well below what Temporal keeps of one workflow. */
const noWorkerRetrySeconds = 120

async function park(
  facts: ErrorFacts,
  until: number,
  retryMs: number | undefined,
  again: boolean,
): Promise<'resumed' | 'tried again'> {
  const before = resumes
  const leftMs = Math.max(1, until - Date.now())
  const retries = retryMs !== undefined && retryMs < leftMs
  const released = holder?.parked(facts, {
    until: new Date(until).toISOString(),
    retryAt: retries ? new Date(Date.now() + retryMs).toISOString() : null,
    again,
  })
  try {
    // Also where a cancellation does not reach, as around a commit: parked there, it must still be heard.
    await condition(() => resumes > before || cancelled(), retries ? retryMs : leftMs)
  } finally {
    await released
  }
  if (cancelled()) throw new CancelledFailure('Cancelled while parked')
  const resumed = resumes > before
  if (!resumed && !retries) throw overdue(facts)
  holder?.goesOn()
  return resumed ? 'resumed' : 'tried again'
}

const overdue = (facts: ErrorFacts) =>
  failureOf({
    ...facts,
    detail: `${facts.detail} Nobody resumed the operation within ${duration(patience.parkSeconds)}.`,
  })
