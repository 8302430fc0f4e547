/**
 * The steps run in a thread of their own, with their own heap. Bytes come and go there by the gigabyte; each few dozen
 * megabytes of buffers make V8 walk the whole heap of their isolate, and that of Temporal's SDK is large. Heartbeats and
 * cancellation stay outside, so that nothing a step does can delay them.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { HoldfastError } from '../model/errors.ts'
import { type Turn, turn } from './boundary.ts'
import type { ContextOptions } from './context.ts'
import { errorThrown, type FromThread, factsThrown, type StepName, type ToThread } from './thread-messages.ts'

export interface StepsThread {
  /** The steps by name, as Temporal's worker takes them. */
  activities: Record<string, (...input: unknown[]) => Promise<unknown>>
  /** Ends the thread, whatever it does. */
  close(): Promise<void>
}

interface Running {
  turn: Turn
  resolve(value: unknown): void
  reject(error: unknown): void
}

export const stepsThreadOptions = {
  // Buffers lie outside; what is young here is small, and a larger place for it would only be given back late.
  resourceLimits: { maxYoungGenerationSizeMb: 8 },
  // Node would close at the thread's end whatever was opened by number in it, by that number. A feed's end belongs to its socket
  // by then: it was closed long ago, and the number is somebody else's.
  trackUnmanagedFds: false,
} as const

/** A thread that died takes its steps with it, to be tried again; another one is started with the next step. */
export async function openStepsThread(options: ContextOptions): Promise<StepsThread> {
  const running = new Map<number, Running>()
  let next = 0
  let closed = false

  const start = (): Worker => {
    const thread = new Worker(new URL('./thread-program.ts', import.meta.url), {
      ...stepsThreadOptions,
      workerData: options,
    })
    // What keeps the process alive is Temporal's worker.
    thread.unref()
    thread.on('message', (message: FromThread) => {
      if ('names' in message) return
      const step = running.get(message.of)
      if (!step) return
      if ('progress' in message) return step.turn.progress(message.progress)
      running.delete(message.of)
      if ('done' in message) step.resolve(message.done)
      else step.reject(errorThrown(message.failed))
    })
    const ended = (reason: string) => {
      if (current === thread) current = undefined
      for (const [id, step] of running) {
        running.delete(id)
        step.reject(new HoldfastError('host.job-lost', `The thread of the worker's steps ended: ${reason}.`))
      }
    }
    thread.on('error', error => ended(error instanceof Error ? error.message : String(error)))
    thread.on('exit', code => ended(`exit ${code}`))
    return thread
  }

  const run = (name: StepName, turn: Turn, input: readonly unknown[]) =>
    new Promise((resolve, reject) => {
      if (closed) return reject(new HoldfastError('host.job-lost', 'This worker shuts down.'))
      current ??= start()
      const thread = current
      const id = next++
      const post = (message: ToThread) => thread.postMessage(message)
      const abort = () => post({ abort: id, reason: factsThrown(turn.signal.reason) })
      const settled = () => turn.signal.removeEventListener('abort', abort)
      running.set(id, {
        turn,
        resolve: value => {
          settled()
          resolve(value)
        },
        reject: error => {
          settled()
          reject(error)
        },
      })
      post({ start: id, name, input, fence: turn.fence, runId: turn.runId, lastBeat: turn.lastBeat })
      if (turn.signal.aborted) abort()
      else turn.signal.addEventListener('abort', abort, { once: true })
    })

  let current: Worker | undefined = start()
  const [first] = (await once(current, 'message')) as [FromThread]
  const names = 'names' in first ? first.names : []
  return {
    activities: Object.fromEntries(
      names.map(name => [name, (...input: unknown[]) => turn(t => run(name, t, input))]),
    ),
    async close() {
      closed = true
      await current?.terminate()
    },
  }
}
