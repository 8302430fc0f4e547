/**
 * Reading a long object. A connection that breaks, or that the store closes because the reader paused for minutes (a
 * restore building indexes does), is opened again where it broke, on the same version of the object.
 */
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { GetObjectCommand } from '@aws-sdk/client-s3'
import { errorClass, HoldfastError } from '../../model/errors.ts'
import type { CallOptions } from '../destination.ts'
import { checkKey } from '../object-key.ts'
import { statObject } from './objects.ts'
import type { Store } from './store.ts'

/** Openings in a row that bring no byte before the stream gives up; each is tried four times by the SDK. */
const fruitlessOpenings = 4

interface Opened {
  body: Readable
  etag: string | undefined
  /** Where the last byte of the wanted range lies, plus one. */
  end: number
}

export async function getObject(
  store: Store,
  key: string,
  options: CallOptions & { offset?: number; length?: number } = {},
): Promise<Readable> {
  checkKey(key)
  const offset = options.offset ?? 0
  if (options.length === 0) return await nothing(store, key, options)
  let first: Opened
  try {
    first = await openAt(store, key, options, offset, undefined, undefined)
  } catch (error) {
    // Nothing lies behind the end of an object.
    if (error instanceof HoldfastError && error.context.storeCode === 'InvalidRange') {
      return await nothing(store, key, options)
    }
    throw error
  }
  const stream = Readable.from(chunks(store, key, options, offset, first), {
    objectMode: false,
    highWaterMark: 1024 * 1024,
    ...(options.signal ? { signal: options.signal } : {}),
  })
  // A stream that is destroyed before it is read never starts its generator.
  stream.once('close', () => first.body.destroy())
  return stream
}

async function nothing(store: Store, key: string, options: CallOptions): Promise<Readable> {
  if (!(await statObject(store, key, options))) {
    throw new HoldfastError('destination.object-missing', `${store.uri}/${key} is not there.`)
  }
  return Readable.from([], { objectMode: false })
}

async function openAt(
  store: Store,
  key: string,
  options: CallOptions & { offset?: number; length?: number },
  position: number,
  end: number | undefined,
  etag: string | undefined,
): Promise<Opened> {
  const last = end ?? (options.length === undefined ? undefined : position + options.length)
  const whole = position === 0 && last === undefined
  const answer = await store.call('GetObject', key, options, http =>
    store.client.send(
      new GetObjectCommand({
        Bucket: store.bucket,
        Key: store.fullKey(key),
        ...(whole ? {} : { Range: `bytes=${position}-${last === undefined ? '' : last - 1}` }),
        ...(etag === undefined ? {} : { IfMatch: etag }),
      }),
      http,
    ),
  )
  const { Body: body, ContentLength: length } = answer
  if (!(body instanceof Readable) || length === undefined) {
    throw new HoldfastError('destination.misconfigured', `${store.uri}/${key} came without its length.`)
  }
  // A store that ignores ranges would give the beginning of the object instead of its middle.
  const from = answer.ContentRange === undefined ? 0 : Number(/bytes (\d+)-/.exec(answer.ContentRange)?.[1])
  if (from !== position) {
    body.destroy()
    throw new HoldfastError(
      'destination.misconfigured',
      `${store.uri} gave bytes from ${from} on of "${key}" where ${position} was asked for.`,
    )
  }
  return { body, etag: answer.ETag, end: position + length }
}

async function* chunks(
  store: Store,
  key: string,
  options: CallOptions & { offset?: number; length?: number },
  offset: number,
  first: Opened,
): AsyncGenerator<Buffer> {
  let position = offset
  let opened: Opened | undefined = first
  let fruitless = 0
  while (position < first.end) {
    try {
      opened ??= await openAt(store, key, options, position, first.end, first.etag)
      for await (const chunk of opened.body as AsyncIterable<Buffer>) {
        yield chunk
        position += chunk.length
        fruitless = 0
      }
      if (position >= first.end) return
      throw new HoldfastError(
        'destination.unreachable',
        `Reading ${store.uri}/${key} was cut off at byte ${position} of ${first.end}.`,
      )
    } catch (error) {
      options.signal?.throwIfAborted()
      const explained = store.explain('GetObject', key, error)
      if (explained instanceof HoldfastError && explained.code === 'destination.exists') {
        throw new HoldfastError('destination.corrupted', `${store.uri}/${key} changed while it was read.`)
      }
      fruitless += 1
      if (!passes(explained) || fruitless >= fruitlessOpenings) throw explained
      opened = undefined
      // An aborted wait ends early; the next opening then says why.
      await sleep(200 * 2 ** fruitless * Math.random(), undefined, options).catch(() => undefined)
    }
  }
}

const passes = (error: unknown) =>
  error instanceof HoldfastError && ['transient', 'throttled'].includes(errorClass(error.code))
