/** The thread of activities/thread.ts: runs the steps it is told, with a context and destinations of its own. */
import { parentPort, workerData } from 'node:worker_threads'
import type { Turn } from './boundary.ts'
import { type ContextOptions, openContext } from './context.ts'
import { createActivities } from './index.ts'
import { leaseOf } from './lease.ts'
import { errorThrown, type FromThread, factsThrown, type StepName, type ToThread } from './thread-messages.ts'

const port = parentPort
if (!port) throw new Error('thread-program.ts is started by thread.ts')
const tell = (message: FromThread) => port.postMessage(message)
const context = await openContext(workerData as ContextOptions)
const stops = new Map<number, AbortController>()

port.on('message', (message: ToThread) => {
  if ('abort' in message) stops.get(message.abort)?.abort(errorThrown(message.reason))
  else void run(message)
})

async function run({ start: of, name, input, fence, runId, lastBeat }: Extract<ToThread, { start: number }>) {
  const cancelled = new AbortController()
  const lost = new AbortController()
  stops.set(of, cancelled)
  const turn: Turn = {
    signal: AbortSignal.any([cancelled.signal, lost.signal]),
    fence,
    runId,
    lastBeat,
    assertLease: leaseOf(name, lastBeat, cancelled.signal, lost),
    progress: progress => tell({ of, progress }),
  }
  const steps = createActivities(context, (phase, work) => {
    turn.progress({ phase })
    return work(turn)
  })
  try {
    const step = steps[name] as (...input: unknown[]) => Promise<unknown>
    tell({ of, done: await step(...input) })
  } catch (error) {
    tell({ of, failed: factsThrown(error) })
  } finally {
    stops.delete(of)
  }
}

const names = Object.keys(createActivities(context, () => Promise.reject())) as StepName[]
tell({ names })
