/**
 * Reading a long object. A connection that breaks, that falls silent, or that the store closes because the reader paused
 * for minutes (a restore building indexes does), is opened again where it broke, on the same version of the object.
 */
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { CallOptions } from './destination.ts'
import { passes } from './retry-calls.ts'

/** Openings in a row that bring no byte before the stream gives up. */
const fruitlessOpenings = 4

export interface Opened {
  body: Readable
  /** Names the version that is read. */
  tag: string | undefined
  /** Where the last byte of the wanted range lies, plus one. */
  end: number
}

export interface Reading {
  /** `s3://bucket/key` */
  where: string
  /** Opens at `position`; later openings of the same object give `end` and `tag`, and fail when it is another one now. */
  open(position: number, end?: number, tag?: string): Promise<Opened>
  /** In our words; for errors of the stream itself. */
  explain(error: unknown): unknown
  /** A connection without a byte for so long is broken. Absent: the client itself notices. */
  idleSeconds?: number
}

type Range = CallOptions & { offset?: number; length?: number }

/**
 * Opens the range that is asked for. `isPastEnd`: of an opening's error, that nothing lies there; then, and for no bytes at
 * all, `isThere` tells an empty range from an object that is missing. Throws `destination.object-missing`.
 */
export async function readRange(
  reading: Reading & { isThere(): Promise<boolean>; isPastEnd(error: unknown): boolean },
  options: Range,
): Promise<Readable> {
  const { where, isThere, isPastEnd } = reading
  const { offset = 0, length } = options
  const nothing = async () => {
    if (await isThere()) return Readable.from([], { objectMode: false })
    throw new HoldfastError('destination.object-missing', `${where} is not there.`)
  }
  if (length === 0) return await nothing()
  try {
    const first = await reading.open(offset, length === undefined ? undefined : offset + length)
    return resumingStream(reading, offset, first, options)
  } catch (error) {
    if (isPastEnd(error)) return await nothing()
    throw error
  }
}

/** Throws when a store that ignores ranges gave the beginning of an object instead of its middle. `contentRange`: its header. */
export function expectFrom(
  uri: string,
  key: string,
  contentRange: string | null | undefined,
  position: number,
): void {
  const from = typeof contentRange === 'string' ? Number(/bytes (\d+)-/.exec(contentRange)?.[1]) : 0
  if (from === position) return
  throw new HoldfastError(
    'destination.misconfigured',
    `${uri} gave bytes from ${from} on of "${key}" where ${position} was asked for.`,
  )
}

/** `first` was opened at `offset`. */
function resumingStream(reading: Reading, offset: number, first: Opened, options: CallOptions): Readable {
  const stream = Readable.from(chunks(reading, offset, first, options), {
    objectMode: false,
    highWaterMark: 1024 * 1024,
    ...(options.signal ? { signal: options.signal } : {}),
  })
  // A stream that is destroyed before it is read never starts its generator.
  stream.once('close', () => first.body.destroy())
  return stream
}

async function* chunks(
  reading: Reading,
  offset: number,
  first: Opened,
  options: CallOptions,
): AsyncGenerator<Buffer> {
  const { where } = reading
  let position = offset
  let opened: Opened | undefined = first
  let fruitless = 0
  while (position < first.end) {
    try {
      opened ??= await reading.open(position, first.end, first.tag)
      for await (const chunk of awake(opened.body, reading)) {
        yield chunk
        position += chunk.length
        fruitless = 0
      }
      if (position >= first.end) return
      throw new HoldfastError(
        'destination.unreachable',
        `Reading ${where} was cut off at byte ${position} of ${first.end}.`,
      )
    } catch (error) {
      options.signal?.throwIfAborted()
      opened?.body.destroy()
      const explained = reading.explain(error)
      if (hasCode(explained, 'destination.exists')) {
        throw new HoldfastError('destination.corrupted', `${where} changed while it was read.`)
      }
      fruitless += 1
      if (!passes(explained) || fruitless >= fruitlessOpenings) throw explained
      opened = undefined
      // An aborted wait ends early; the next opening then says why.
      await sleep(200 * 2 ** fruitless * Math.random(), undefined, options).catch(() => undefined)
    }
  }
}

/** The body's chunks; a body that is asked and says nothing for too long is destroyed. A reader may take its time. */
async function* awake(body: Readable, { idleSeconds, where }: Reading): AsyncGenerator<Buffer> {
  const chunks: AsyncIterator<Buffer> = body[Symbol.asyncIterator]()
  try {
    for (;;) {
      const silent =
        idleSeconds === undefined
          ? undefined
          : setTimeout(() => {
              const words = `Reading ${where} brought nothing for ${idleSeconds} seconds.`
              body.destroy(new HoldfastError('destination.unreachable', words))
            }, idleSeconds * 1000)
      const step = await chunks.next().finally(() => clearTimeout(silent))
      if (step.done) return
      yield step.value
    }
  } finally {
    body.destroy()
  }
}
