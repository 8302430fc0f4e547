/** Keeps what a step moves to and from destinations within the limits that hold now; the catalog knows who else transfers. */
import { randomBytes } from 'node:crypto'
import { readable } from '../model/ids.ts'
import { newBucket, type Pace, paced } from '../storage/pace.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'

/** Limits are changed, others come and go: so often the share is asked for, with a limit and without. */
const askEveryMs = { limited: 2000, free: 5000 }

/** The same context with its destinations paced. Says in the step's progress what it is limited to. */
export function pacing(context: WorkerContext, turn: Turn, operationId: string): WorkerContext {
  const paces = new Map<string, Pace>()
  const paceOf = (destination: string): Pace => {
    const known = paces.get(destination)
    if (known) return known
    const made = paceFor(context, turn, operationId, destination)
    paces.set(destination, made)
    return made
  }
  return {
    ...context,
    destination: async name => paced(turn.signal, await context.destination(name), paceOf(name)),
  }
}

function paceFor(context: WorkerContext, turn: Turn, operationId: string, destination: string): Pace {
  const transfer = readable(randomBytes(10))
  let share: number | null | undefined
  let askedAt = Number.NEGATIVE_INFINITY

  const ask = async (seconds: number) => {
    const { bytes, waited } = bucket.used()
    const wanted = waited || !Number.isFinite(seconds) ? null : Math.ceil((1.5 * bytes) / seconds)
    const place = { transfer, operationId, destination, host: context.host.name }
    const { bytesPerSecond } = await context.catalog.bandwidthShare({ ...place, wanted })
    if (bytesPerSecond === share) return
    share = bytesPerSecond
    turn.progress({ limitBytesPerSecond: bytesPerSecond })
  }
  const bucket = newBucket(async () => {
    const now = performance.now()
    if (now - askedAt >= (share === null ? askEveryMs.free : askEveryMs.limited)) {
      const asking = ask((now - askedAt) / 1000)
      askedAt = now
      // While the API is away, the last answer holds.
      if (share === undefined) await asking
      else asking.catch(() => {})
    }
    return share ?? null
  })
  return bucket.pace
}
