/** The three kinds of attached jobs: captured, streamed, fed. */
import { finished } from 'node:stream/promises'
import type { Command, CommandResult } from '../engines/engine.ts'
import { HoldfastError } from '../model/errors.ts'
import { attach, throwIfAborted } from './attached.ts'
import type { JobId, RunningFeed, RunningStream, RunOptions } from './host.ts'
import { describe } from './launch.ts'
import type { FeedEnd, Place } from './place.ts'
import { broken } from './shell.ts'

const captureBytes = 4 * 1024 * 1024
const feedTailBytes = 64 * 1024

export async function run(
  place: Place,
  job: JobId,
  command: Command,
  options: RunOptions = {},
): Promise<CommandResult> {
  const attached = await attach(place, job, command, { ...options, feeds: false })
  const chunks: Buffer[] = []
  let bytes = 0
  attached.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes <= captureBytes) chunks.push(chunk)
    else void attached.stop()
  })
  let late = false
  const { timeoutSeconds } = options
  const timer =
    timeoutSeconds === undefined
      ? undefined
      : setTimeout(() => {
          late = true
          void attached.stop()
        }, timeoutSeconds * 1000)
  try {
    const { exits, stderrTail } = await attached.result
    if (attached.stopping()) {
      throwIfAborted(options.signal, command)
      const context = { stderrTail }
      if (bytes > captureBytes) {
        throw new HoldfastError(
          'tool.failed',
          `Running ${describe(command)} on ${place.name}: it printed more than ${captureBytes} bytes.`,
          { context },
        )
      }
      if (late) {
        throw new HoldfastError(
          'tool.interrupted',
          `Running ${describe(command)} on ${place.name}: it was stopped because it took longer than ${timeoutSeconds} s.`,
          { context },
        )
      }
    }
    return { exits, stdout: Buffer.concat(chunks).toString('utf8'), stderrTail }
  } finally {
    clearTimeout(timer)
  }
}

export async function stream(
  place: Place,
  job: JobId,
  command: Command,
  options: RunOptions = {},
): Promise<RunningStream> {
  const { stdout, result, stop } = await attach(place, job, command, { ...options, feeds: false })
  return { stdout, result: handled(result.then(ended => ({ ...ended, stdout: '' }))), stop }
}

export async function feed(
  place: Place,
  job: JobId,
  command: Command,
  options: RunOptions = {},
): Promise<RunningFeed> {
  const attached = await attach(place, job, command, { ...options, feeds: true })
  const { shell, runDirectory, ended } = attached.wrapper
  let tail = Buffer.alloc(0)
  attached.stdout.on('data', (chunk: Buffer) => {
    tail = Buffer.concat([tail, chunk])
    if (tail.length > feedTailBytes) tail = tail.subarray(tail.length - feedTailBytes)
  })
  let fifo: FeedEnd
  try {
    fifo = await place.reach.openFeed(runDirectory)
  } catch (cause) {
    await attached.stop()
    throw cause
  }
  const { stdin } = fifo
  ended
    .catch(() => undefined)
    .then(() => {
      fifo.close()
      if (!stdin.writableFinished && !stdin.destroyed) stdin.destroy(broken())
    })
  const doing = `Feeding ${describe(command)} on ${place.name}`
  const complete = async () => {
    if (attached.stopping()) throw new HoldfastError('tool.interrupted', `${doing}: it was stopped.`)
    try {
      if (!stdin.writableEnded) stdin.end()
      await finished(stdin)
    } catch (cause) {
      throw new HoldfastError(
        'tool.interrupted',
        `${doing}: not all data was taken, so its end is not said.`,
        { cause },
      )
    }
    await new Promise<void>(resolve => {
      // A program that ended by itself needs no end of file.
      if (shell.stdin.writable) shell.stdin.write('complete\n', () => resolve())
      else resolve()
    })
    fifo.close()
  }
  const result = attached.result.then(how => ({ ...how, stdout: tail.toString('utf8') }))
  return { stdin, complete, result: handled(result), stop: attached.stop }
}

/** The caller may look at the result late; until then its failure must not count as unhandled. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}
