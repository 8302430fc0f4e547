/** Steps that can stop halfway: they hear of a pause while they run. */
import { setTimeout as sleep } from 'node:timers/promises'
import { HoldfastError } from '../model/errors.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'

/** A turn that may be asked to stop between two parts. */
export interface PausableTurn extends Turn {
  /** Aborted, with `operation.paused`, once somebody wants a pause. */
  pausing: AbortSignal
}

const askEveryMs = 1000

/** Asks the catalog while `work` runs. An API that is away says nothing: the work goes on. */
export async function pausable<T>(
  context: WorkerContext,
  turn: Turn,
  operationId: string,
  work: (turn: PausableTurn) => Promise<T>,
): Promise<T> {
  const ended = new AbortController()
  const pausing = new AbortController()
  const { catalog } = context.within(AbortSignal.any([turn.signal, ended.signal]))
  const listen = async () => {
    while (!ended.signal.aborted && !turn.signal.aborted) {
      if (await catalog.pauseWanted(operationId).catch(() => false)) {
        pausing.abort(new HoldfastError('operation.paused', 'The step stops here; it goes on when resumed.'))
        return
      }
      await sleep(askEveryMs, undefined, { signal: ended.signal }).catch(() => {})
    }
  }
  void listen()
  try {
    return await work({ ...turn, pausing: pausing.signal })
  } finally {
    ended.abort()
  }
}
