/** What an error says to people, dug out of Temporal's wrapping, and the way back. */
import { ActivityFailure, ApplicationFailure, TimeoutFailure } from '@temporalio/workflow'
import type { ErrorClass, ErrorFacts } from '../model/errors.ts'

function causeOf(error: unknown): unknown {
  let cause: unknown = error
  while (cause instanceof ActivityFailure && cause.cause) cause = cause.cause
  return cause
}

export function factsOf(error: unknown): ErrorFacts {
  const cause = causeOf(error)
  if (cause instanceof ApplicationFailure) {
    const facts = cause.details?.[0] as ErrorFacts | undefined
    if (facts?.code) return facts
  }
  if (cause instanceof TimeoutFailure) {
    return {
      code: 'host.job-lost',
      detail: `A step gave no sign of life: ${cause.message}.`,
      hint: 'Check that a worker runs and reaches Temporal; then start the operation again.',
    }
  }
  const detail = cause instanceof Error ? cause.message : String(cause)
  return { code: 'internal', detail, hint: 'Please report it with the operation id.' }
}

/** As the step itself classed it: what is in the history does not change with the table of codes. */
export function classOf(error: unknown): ErrorClass | undefined {
  const cause = causeOf(error)
  // Its workers are gone, or it hung. One that a machine did not begin is begun anew on another: see machine.ts.
  if (cause instanceof TimeoutFailure) {
    return cause.timeoutType === 'SCHEDULE_TO_START' ? undefined : 'transient'
  }
  return cause instanceof ApplicationFailure ? (cause.details?.[1] as ErrorClass | undefined) : undefined
}

export const failureOf = (facts: ErrorFacts, kind?: ErrorClass): ApplicationFailure =>
  ApplicationFailure.create({
    type: facts.code,
    message: facts.detail,
    nonRetryable: true,
    details: kind === undefined ? [facts] : [facts, kind],
  })
