/** Jobs that live and die with this process: the wrapper's standard input is their leash. */
import { basename } from 'node:path'
import type { Readable } from 'node:stream'
import type { Command } from '../engines/engine.ts'
import { type ErrorCode, HoldfastError } from '../model/errors.ts'
import { stagingCode } from './files.ts'
import type { JobId, RunOptions } from './host.ts'
import { stopRun } from './jobs.ts'
import { describe, launch, type Wrapper } from './launch.ts'
import type { Place } from './place.ts'
import { stderrTail } from './tails.ts'

export interface Attached {
  wrapper: Wrapper
  stdout: Readable
  /** Settles once every stage ended, all output was read or thrown away, and nothing is left of the group. */
  result: Promise<{ exits: number[]; stderrTail: string }>
  /** True from the moment somebody here asked for the end. */
  stopping(): boolean
  stop(): Promise<void>
}

/** The leash pulls for five seconds; past this it must be broken, and the host is asked directly. */
const patienceMs = 8_000

export async function attach(
  place: Place,
  job: JobId,
  command: Command,
  options: RunOptions & { feeds: boolean },
): Promise<Attached> {
  const { signal } = options
  throwIfAborted(signal, command)
  const wrapper = await launch(place, job, command, {
    mode: 'attached',
    feeds: options.feeds,
    fence: 0,
    ...(options.secrets === undefined ? {} : { secrets: options.secrets }),
  })
  const { shell } = wrapper
  const { stdout } = shell
  // Handlers come later, and an error without one would end the process; `result` tells what happened.
  stdout.on('error', () => {})
  const { beats } = place.reach
  const closed = new Promise<void>(resolve => {
    stdout.once('close', () => {
      // A pipe that nobody reads any more ends its writers; over a link they have to be told.
      if (beats && !stdout.readableEnded && shell.stdin.writable) shell.stdin.write('stop\n')
      resolve()
    })
  })
  const failed = (what: string, code: ErrorCode = 'host.job-lost') =>
    new HoldfastError(code, `Running ${describe(command)} on ${place.name}: ${what}.${saying(wrapper)}`)
  const breakUp = async () => {
    shell.stdin.destroy()
    await stopRun(place, job, basename(wrapper.runDirectory))
  }

  let stopped: Promise<void> | undefined
  const stop = () => {
    stopped ??= (async () => {
      if (shell.stdin.writable) shell.stdin.write('stop\n')
      const patience = setTimeout(() => {
        stopRun(place, job, basename(wrapper.runDirectory)).catch(() => {})
      }, patienceMs)
      await wrapper.ended.catch(() => {})
      stdout.destroy()
      await wrapper.gone.catch(() => {})
      clearTimeout(patience)
      await result.catch(() => {})
    })()
    return stopped
  }
  const onAbort = () => void stop()

  const finish = async () => {
    const report = await wrapper.ended
    if (report === undefined || report === 'lost') {
      await breakUp()
      stdout.destroy()
      if (stopped === undefined) throw failed('its wrapper vanished without an exit code')
      return { exits: command.stages.map(() => 143), stderrTail: '' }
    }
    const exits = report.split(' ').slice(1).map(Number)
    const said = await stderrTail(place, wrapper.runDirectory, exits, Object.values(options.secrets ?? {}))
    // Only now the wrapper may go, and remove its directory. Before, its exit would have let unread output flow away.
    await closed
    const cut = stopped !== undefined && !stdout.readableEnded
    shell.stdin.end()
    await wrapper.gone
    if (shell.spilled()) throw failed('it was stopped before its output was read')
    return { exits: cut ? exits.map(exit => (exit === 0 ? 143 : exit)) : exits, stderrTail: said }
  }
  const beating =
    beats &&
    setInterval(() => {
      if (shell.stdin.writable) shell.stdin.write('beat\n')
    }, beats.everyMs)
  const result = finish().finally(() => {
    clearInterval(beating)
    signal?.removeEventListener('abort', onAbort)
  })
  result.catch(() => {})

  signal?.addEventListener('abort', onAbort, { once: true })
  if (signal?.aborted) onAbort()
  const begun = await wrapper.begun
  if (begun !== 'started') {
    stdout.destroy()
    await result.catch(() => {})
    throwIfAborted(signal, command)
    const what = begun?.replace(/^failed /, '') ?? 'its wrapper ended before it started'
    throw failed(what, stagingCode([what, ...wrapper.noise].join('\n')) ?? 'host.job-lost')
  }
  return { wrapper, stdout, result, stopping: () => stopped !== undefined, stop }
}

const saying = (wrapper: Wrapper) =>
  wrapper.noise.length === 0 ? '' : ` The shell said: ${wrapper.noise.join('; ').slice(0, 1000)}`

/** Whoever aborted said why; without a reason of its own it is a cancellation. */
export function throwIfAborted(signal: AbortSignal | undefined, command: Command): void {
  if (!signal?.aborted) return
  if (signal.reason instanceof Error) throw signal.reason
  throw new HoldfastError('operation.cancelled', `Running ${describe(command)}: it was cancelled.`)
}
