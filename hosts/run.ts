/** The three kinds of attached jobs: captured, streamed, fed. */
import { constants, open } from 'node:fs'
import { Socket } from 'node:net'
import { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import type { Command, CommandResult } from '../engines/engine.ts'
import { HoldfastError } from '../model/errors.ts'
import { letGo } from '../model/let-go.ts'
import { attach, throwIfAborted } from './attached.ts'
import { errno } from './files.ts'
import type { JobId, RunningFeed, RunningStream, RunOptions } from './host.ts'
import { describe } from './launch.ts'
import type { Place } from './place.ts'

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
  const { child, runDirectory, ended } = attached.wrapper
  let tail = Buffer.alloc(0)
  attached.stdout.on('data', (chunk: Buffer) => {
    tail = Buffer.concat([tail, chunk])
    if (tail.length > feedTailBytes) tail = tail.subarray(tail.length - feedTailBytes)
  })
  let fifo: Awaited<ReturnType<typeof openFeed>>
  try {
    fifo = await openFeed(`${runDirectory}/feed`)
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
      if (child.stdin.writable) child.stdin.write('complete\n', () => resolve())
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

const broken = () => Object.assign(new Error('the program takes no more input'), { code: 'EPIPE' })

/**
 * The worker's end of the FIFO, written without blocking and without the thread pool. It stays open until `close`,
 * however `stdin` ends: the program must not see the end of file even if the wrapper's end is lost.
 */
async function openFeed(path: string): Promise<{ stdin: Writable; close(): void }> {
  const socket = await new Promise<Socket | undefined>((resolve, reject) => {
    open(path, constants.O_WRONLY | constants.O_NONBLOCK, (cause, descriptor) => {
      if (cause === null) resolve(new Socket({ fd: descriptor, readable: false, writable: true }))
      // Nobody reads any more.
      else if (errno(cause) === 'ENXIO' || errno(cause) === 'ENOENT') resolve(undefined)
      else reject(cause)
    })
  })
  const stdin = new Writable({
    highWaterMark: 1024 * 1024,
    write(chunk: Buffer, _encoding, callback) {
      if (socket === undefined) callback(broken())
      else {
        socket.write(chunk, cause => {
          letGo(chunk)
          callback(cause)
        })
      }
    },
  })
  // Handlers come later, and an error without one would end the process; `result` tells what happened.
  stdin.on('error', () => {})
  socket?.on('error', cause => stdin.destroy(cause))
  return { stdin, close: () => void socket?.destroy() }
}
