/**
 * The lease of one run of a step: how long ago its last heartbeat was. A process that was suspended for longer than
 * Temporal waits for one has been replaced. Knows no Temporal: the thread that moves bytes asks it, too.
 */
import { HoldfastError } from '../model/errors.ts'

/** Seconds without a heartbeat after which Temporal gives the step to another worker. Also set in workflows/steps.ts. */
export const heartbeatTimeoutSeconds = 10

/** When the last heartbeat was, in milliseconds of the epoch; shared by the threads of the process. */
export type LastBeat = Float64Array<SharedArrayBuffer>

export function newLastBeat(): LastBeat {
  const lastBeat = new Float64Array(new SharedArrayBuffer(8))
  lastBeat[0] = Date.now()
  return lastBeat
}

/** Throws once the run is cancelled or superseded; `lost` is aborted by what finds that out. */
export function leaseOf(what: string, lastBeat: LastBeat, cancelled: AbortSignal, lost: AbortController) {
  return (): void => {
    cancelled.throwIfAborted()
    if (Date.now() - (lastBeat[0] ?? 0) <= heartbeatTimeoutSeconds * 1000) return
    const error = new HoldfastError(
      'host.job-lost',
      `The worker was suspended for over ${heartbeatTimeoutSeconds} seconds during "${what}"; another one has the step by now.`,
    )
    lost.abort(error)
    throw error
  }
}
