/**
 * Reading a long object. A connection that breaks, that falls silent, or that the store closes because the reader paused
 * for minutes (a restore building indexes does), is opened again where it broke, on the same version of the object.
 */
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { HoldfastError } from '../model/errors.ts'
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

/** `first` was opened at `offset`. */
export function resumingStream(
  reading: Reading,
  offset: number,
  first: Opened,
  options: CallOptions,
): Readable {
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
      if (explained instanceof HoldfastError && explained.code === 'destination.exists') {
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
