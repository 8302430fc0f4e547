/** A restore that may not wait: the backup that holds its server is told to end, and is waited for. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'

const askAgainMs = 500
/** Then the workflow looks whether its approval still holds. */
const patienceMs = 60_000

export async function makeWay(context: WorkerContext, turn: Turn, operationId: string): Promise<boolean> {
  const until = Date.now() + patienceMs
  for (;;) {
    turn.assertLease()
    const way = await context.catalog.makeWay(operationId)
    if (way !== 'leaving' || Date.now() > until) return way === 'free'
    turn.progress({ note: 'the backup that held the server ends' })
    await sleep(askAgainMs, undefined, { signal: turn.signal })
  }
}
