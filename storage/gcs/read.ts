/** Reading a long object of a bucket; see resuming-read.ts for what happens to connections that break. */
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions } from '../destination.ts'
import { checkKey } from '../object-key.ts'
import { type Opened, resumingStream } from '../resuming-read.ts'
import { networkError } from './errors.ts'
import { orMissing, statObject } from './objects.ts'
import type { Store } from './store.ts'

const idleSeconds = 60

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
    const end = options.length === undefined ? undefined : offset + options.length
    first = await openAt(store, key, options, offset, end)
  } catch (error) {
    // Nothing lies behind the end of an object.
    if (error instanceof HoldfastError && error.context.status === 416) {
      return await nothing(store, key, options)
    }
    await orMissing(store, error, options)
    throw error
  }
  return resumingStream(
    {
      where: `${store.uri}/${key}`,
      open: (position, end, tag) => openAt(store, key, options, position, end, tag),
      explain: error => networkError(error, `objects.get on ${store.uri}/${key}`),
      idleSeconds,
    },
    offset,
    first,
    options,
  )
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
  options: CallOptions,
  position: number,
  end?: number,
  tag?: string,
): Promise<Opened> {
  const whole = position === 0 && end === undefined
  const answer = await store.call(
    {
      action: 'objects.get',
      key,
      path: store.objectPath(key),
      query: { alt: 'media', ...(tag === undefined ? {} : { ifGenerationMatch: tag }) },
      ...(whole ? {} : { headers: { range: `bytes=${position}-${end === undefined ? '' : end - 1}` } }),
    },
    options,
    async opened => opened,
  )
  const generation = answer.headers.get('x-goog-generation') ?? undefined
  const length = Number(answer.headers.get('content-length') ?? Number.NaN)
  const range = answer.headers.get('content-range')
  const from = range === null ? 0 : Number(/bytes (\d+)-/.exec(range)?.[1])
  const trouble =
    answer.body === null || !Number.isFinite(length)
      ? new HoldfastError('destination.misconfigured', `${store.uri}/${key} came without its length.`)
      : from !== position
        ? new HoldfastError(
            'destination.misconfigured',
            `${store.uri} gave bytes from ${from} on of "${key}" where ${position} was asked for.`,
          )
        : tag !== undefined && generation !== tag
          ? new HoldfastError('destination.exists', `${store.uri}/${key} is another one now.`)
          : undefined
  if (trouble) {
    await answer.body?.cancel()
    throw trouble
  }
  const body = Readable.fromWeb(answer.body as ReadableStream)
  // It may break before anybody reads it, or after everybody did.
  body.on('error', () => {})
  return { body, tag: generation, end: position + length }
}
