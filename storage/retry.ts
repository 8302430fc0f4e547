/**
 * Waiting out what passes by itself: transient and throttled errors of a destination.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { errorClass, HoldfastError } from '../model/errors.ts'

const passesByItself = (error: unknown): boolean =>
  error instanceof HoldfastError && ['transient', 'throttled'].includes(errorClass(error.code))

export interface Patience {
  /** Waits before the next try, or throws `error` when the patience is used up or the error does not pass by itself. */
  after(error: unknown): Promise<void>
  /** Something moved: the next trouble gets the full patience again. */
  progressed(): void
}

/** Backs off from 0.2 to 10 seconds with jitter. `seconds` of trouble without progress are borne. */
export function patience(seconds: number, signal?: AbortSignal): Patience {
  let troubledSince: number | undefined
  let tries = 0
  return {
    async after(error) {
      signal?.throwIfAborted()
      if (!passesByItself(error)) throw error
      const now = performance.now()
      troubledSince ??= now
      const waitMs = Math.min(10_000, 200 * 2 ** tries) * (0.5 + Math.random() / 2)
      if (now + waitMs - troubledSince > seconds * 1000) throw error
      tries += 1
      try {
        await sleep(waitMs, undefined, signal === undefined ? {} : { signal })
      } finally {
        signal?.throwIfAborted() // the reason of the one who cancelled, not the timer's
      }
    },
    progressed() {
      troubledSince = undefined
      tries = 0
    },
  }
}

/** Acts until it succeeds, or the patience is used up, or the error is none that passes by itself. */
export async function borne<T>(
  seconds: number,
  signal: AbortSignal | undefined,
  act: () => Promise<T>,
): Promise<T> {
  const trouble = patience(seconds, signal)
  for (;;) {
    try {
      return await act()
    } catch (error) {
      await trouble.after(error)
    }
  }
}

/** It is this destination that is in trouble; another one may do. */
export const isOfDestination = (error: unknown): error is HoldfastError =>
  error instanceof HoldfastError && error.code.startsWith('destination.')
