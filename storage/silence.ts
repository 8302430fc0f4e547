/** A store that says nothing is gone: after how long, and what is said of it then. */
import { HoldfastError } from '../model/errors.ts'

export const usualSilenceSeconds = 60
/** Whoever is sent bytes may be silent as long as they need on a line like this. */
const slowestBytesPerSecond = 64 * 1024

export interface Asking {
  /** `objects.get on gcs://bucket/key` */
  doing: string
  silenceSeconds: number
  /** Length of what is sent. */
  bytes: number
  signal: AbortSignal | undefined
}

/**
 * Runs one request, which ends when the signal that it is given aborts. Throws `destination.unreachable` when it took too
 * long, the reason of the caller's signal once that is aborted, else what `explain` makes of the error.
 */
export async function answered<T>(
  { doing, silenceSeconds, bytes, signal }: Asking,
  request: (signal: AbortSignal) => Promise<T>,
  explain: (error: unknown) => unknown,
): Promise<T> {
  const stop = new AbortController()
  const seconds = silenceSeconds + bytes / slowestBytesPerSecond
  const silence = setTimeout(() => stop.abort(), seconds * 1000)
  try {
    return await request(signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]))
  } catch (error) {
    signal?.throwIfAborted()
    if (!stop.signal.aborted) throw explain(error)
    throw new HoldfastError(
      'destination.unreachable',
      `${doing} failed: the store did not answer within ${Math.round(seconds)} seconds.`,
    )
  } finally {
    clearTimeout(silence)
  }
}
