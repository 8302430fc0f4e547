/** Tries of one request, for stores whose SDK is told not to try by itself: so that a lost answer is known as one. */
import { setTimeout as sleep } from 'node:timers/promises'
import { errorClass, HoldfastError } from '../model/errors.ts'

const tries = 4
const longestWaitMs = 30_000

export const passes = (error: unknown): boolean =>
  error instanceof HoldfastError && ['transient', 'throttled'].includes(errorClass(error.code))

/**
 * Runs `request` up to four times while its error passes by itself; waits as long as the store asked (`retryAfterMs` of the
 * error's context, half a minute at most). The number of the try, from 1, is given to it. Rethrows the signal's reason once it is aborted.
 */
export async function tryCalls<T>(
  signal: AbortSignal | undefined,
  request: (attempt: number) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    signal?.throwIfAborted()
    try {
      return await request(attempt)
    } catch (error) {
      signal?.throwIfAborted()
      if (attempt === tries || !passes(error)) throw error
      const asked = error instanceof HoldfastError ? Number(error.context.retryAfterMs) : Number.NaN
      const backoffMs = 200 * 2 ** attempt * (0.5 + Math.random() / 2)
      const waitMs = Math.min(longestWaitMs, Number.isFinite(asked) ? asked : backoffMs)
      await sleep(waitMs, undefined, signal === undefined ? {} : { signal }).catch(() => {})
    }
  }
}

/** Milliseconds of a Retry-After header, in seconds or as a date; undefined when it says nothing. */
export function retryAfterMs(header: string | null | undefined): number | undefined {
  if (!header) return undefined
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now()
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined
}
