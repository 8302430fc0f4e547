/**
 * Changes of operations for those who watch. However many watch one operation, it is looked at once a second; nobody watches,
 * nobody looks. What is sent is always the whole state: whoever missed something has missed nothing.
 */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { HoldfastError } from '../model/errors.ts'
import type { OperationView } from '../model/views.ts'

export interface Snapshot {
  /** Changes with the state: what a client has seen last. */
  id: string
  view: OperationView
}

export interface EventHub {
  now(operationId: string): Promise<Snapshot>
  /** Takes one of a limited number of places; throws `request.rate-limited` when there is none. Returned gives it back. */
  enter(credentialId: string): () => void
  /** The state as soon as it is another than `seen`; undefined when it did not change for `waitMs`, or on `signal`. */
  next(
    operationId: string,
    seen: string | undefined,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<Snapshot | undefined>
  /** True from now on: whoever watches should end. */
  readonly stopping: AbortSignal
  stop(): void
}

const everyMs = 1000
const mostStreams = 200
const mostOfOne = 20

export function createEventHub(read: (operationId: string) => Promise<OperationView>): EventHub {
  const entered: string[] = []
  const stopping = new AbortController()
  /** Of operations that somebody waits for. */
  const looks = new Map<string, Promise<Snapshot>>()

  const now = async (operationId: string): Promise<Snapshot> => snapshotOf(await read(operationId))
  /** One look serves all who ask before it is over. */
  const sharedLook = (operationId: string): Promise<Snapshot> => {
    const known = looks.get(operationId)
    if (known) return known
    const made = sleep(everyMs).then(() => {
      looks.delete(operationId)
      return now(operationId)
    })
    looks.set(operationId, made)
    return made
  }

  return {
    now,
    enter(credentialId) {
      const own = entered.filter(one => one === credentialId).length
      if (entered.length >= mostStreams || own >= mostOfOne) {
        throw new HoldfastError(
          'request.rate-limited',
          `There are ${entered.length} open streams of events, ${own} of them yours: no more.`,
          { context: { retryAfterSeconds: 10 } },
        )
      }
      entered.push(credentialId)
      return () => {
        const place = entered.indexOf(credentialId)
        if (place >= 0) entered.splice(place, 1)
      }
    },
    async next(operationId, seen, waitMs, signal) {
      const until = Date.now() + waitMs
      let found = await now(operationId)
      while (found.id === seen) {
        if (Date.now() >= until || signal.aborted || stopping.signal.aborted) return undefined
        found = await sharedLook(operationId)
      }
      return found
    },
    stopping: stopping.signal,
    stop: () => stopping.abort(),
  }
}

function snapshotOf(view: OperationView): Snapshot {
  const id = createHash('sha256').update(JSON.stringify(view)).digest('base64url').slice(0, 22)
  return { id, view }
}
