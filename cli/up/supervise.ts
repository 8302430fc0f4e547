/** Keeps one child running: started again with growing pauses when it dies, ended in order when we end. */
import type { ChildProcess } from 'node:child_process'
import { endChild } from '../leash.ts'

export interface Supervised {
  readonly name: string
  /** 0 while it is between two runs. */
  pid(): number
  /** TERM, then KILL after `graceSeconds`; it is not started again. */
  stop(graceSeconds: number): Promise<void>
  /** KILL at once; it is not started again. */
  kill(): void
}

const longestPauseMs = 10_000
/** A child that lived this long was healthy: the next pause is short again. */
const healthyMs = 30_000

export function supervise(options: {
  name: string
  spawn(): ChildProcess
  /** After each start, the first included. */
  onStart(pid: number): void
  /** It died by itself and will be started again after `pauseMs`. */
  onDeath(how: string, pauseMs: number): void
}): Supervised {
  let child: ChildProcess | undefined
  let timer: NodeJS.Timeout | undefined
  let stopping = false
  let pauseMs = 250

  const start = () => {
    timer = undefined
    const startedAt = Date.now()
    const current = options.spawn()
    child = current
    const died = (how: string) => {
      if (child !== current) return
      child = undefined
      if (stopping) return
      pauseMs = Date.now() - startedAt > healthyMs ? 250 : Math.min(pauseMs * 2, longestPauseMs)
      options.onDeath(how, pauseMs)
      timer = setTimeout(start, pauseMs)
    }
    current.once('exit', (code, signal) => died(signal ?? `exit code ${code}`))
    current.once('error', error => died(error.message))
    if (current.pid !== undefined) options.onStart(current.pid)
  }
  start()

  return {
    name: options.name,
    pid: () => child?.pid ?? 0,
    stop: async graceSeconds => {
      stopping = true
      clearTimeout(timer)
      if (child !== undefined) await endChild(child, graceSeconds)
    },
    kill: () => {
      stopping = true
      clearTimeout(timer)
      child?.kill('SIGKILL')
    },
  }
}
