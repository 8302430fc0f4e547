/**
 * Keeps a transfer within a rate that may change while it is under way. Bytes wait before they are sent, and before they are
 * taken from what was read: nobody holds a request open without sending, and no store loses its patience.
 */
import { Readable } from 'node:stream'
import { setTimeout as sleepFor } from 'node:timers/promises'
import type { Destination } from './destination.ts'

/** Waits until so many bytes may go. Throws the signal's reason. */
export type Pace = (bytes: number, signal?: AbortSignal) => Promise<void>

export interface Clock {
  /** Milliseconds. */
  now(): number
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

const realClock: Clock = {
  now: () => performance.now(),
  // An aborted sleep ends early; whoever waits then says why.
  sleep: (ms, signal) => sleepFor(ms, undefined, signal ? { signal } : {}).catch(() => undefined),
}

/** A rate that changes is seen within so long. */
const longestNapMs = 500

interface Bucket {
  pace: Pace
  /** Since it was last asked: how many bytes went, and whether any had to wait. */
  used(): { bytes: number; waited: boolean }
}

/**
 * `rate`: bytes per second now; null: no limit; asked again and again. Time that nobody used is worth what the next
 * bytes need, as a slow source fills a part while the time for it passes, and a second more, as timers are late. Who comes first goes first.
 */
export function newBucket(rate: () => Promise<number | null> | number | null, clock = realClock): Bucket {
  let credit = 0
  let since = clock.now()
  let turn: Promise<void> = Promise.resolve()
  let bytesUsed = 0
  let waited = false

  const wait = async (bytes: number, signal: AbortSignal | undefined) => {
    for (;;) {
      signal?.throwIfAborted()
      const bytesPerSecond = await rate()
      const now = clock.now()
      if (bytesPerSecond === null) {
        credit = 0
        since = now
        break
      }
      credit = Math.min(bytes + bytesPerSecond, credit + ((now - since) / 1000) * bytesPerSecond)
      since = now
      if (credit >= bytes) {
        credit -= bytes
        break
      }
      waited = true
      await clock.sleep(Math.min(longestNapMs, Math.ceil(((bytes - credit) / bytesPerSecond) * 1000)), signal)
    }
    bytesUsed += bytes
  }
  return {
    async pace(bytes, signal) {
      const before = turn
      const mine = before.then(() => wait(bytes, signal))
      turn = mine.catch(() => {})
      await mine
    },
    used() {
      const answer = { bytes: bytesUsed, waited }
      bytesUsed = 0
      waited = false
      return answer
    },
  }
}

/**
 * A bound destination with its bulk paced: parts that are sent, objects that are read. What is small goes as it comes. A call
 * that brings no signal of its own goes by `signal`.
 */
export function paced(signal: AbortSignal, destination: Destination, pace: Pace): Destination {
  return {
    ...destination,
    get capabilities() {
      return destination.capabilities
    },
    async get(key, options) {
      const stream = await destination.get(key, options)
      const chunks = async function* () {
        for await (const chunk of stream as AsyncIterable<Buffer>) {
          await pace(chunk.length, options?.signal ?? signal)
          yield chunk
        }
      }
      const slower = Readable.from(chunks(), { objectMode: false, highWaterMark: 1 << 20 })
      // One that is destroyed before it is read never starts its generator.
      slower.once('close', () => stream.destroy())
      slower.on('error', () => {})
      return slower
    },
    async putPart(key, uploadId, part, options) {
      await pace(part.body.length, options?.signal ?? signal)
      return await destination.putPart(key, uploadId, part, options)
    },
  }
}
