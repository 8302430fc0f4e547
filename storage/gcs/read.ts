/** Reading a long object of a bucket; see resuming-read.ts for what happens to connections that break. */
import type { Readable } from 'node:stream'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions } from '../destination.ts'
import { checkKey } from '../object-key.ts'
import { expectFrom, type Opened, readRange } from '../resuming-read.ts'
import { networkError } from './errors.ts'
import { orMissing, statObject } from './objects.ts'
import type { Store } from './store.ts'

export async function getObject(
  store: Store,
  key: string,
  options: CallOptions & { offset?: number; length?: number } = {},
): Promise<Readable> {
  checkKey(key)
  try {
    return await readRange(
      {
        where: `${store.uri}/${key}`,
        open: (position, end, tag) => openAt(store, key, options, position, end, tag),
        explain: error => networkError(error, `objects.get on ${store.uri}/${key}`),
        idleSeconds: store.silenceSeconds,
        isThere: async () => (await statObject(store, key, options)) !== undefined,
        isPastEnd: error => error instanceof HoldfastError && error.context.status === 416,
      },
      options,
    )
  } catch (error) {
    await orMissing(store, error, options)
    throw error
  }
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
  const generation = answer.header('x-goog-generation')
  const length = Number(answer.header('content-length') ?? Number.NaN)
  try {
    if (!Number.isFinite(length)) {
      throw new HoldfastError('destination.misconfigured', `${store.uri}/${key} came without its length.`)
    }
    expectFrom(store.uri, key, answer.header('content-range'), position)
    if (tag !== undefined && generation !== tag) {
      throw new HoldfastError('destination.exists', `${store.uri}/${key} is another one now.`)
    }
  } catch (error) {
    answer.body.destroy()
    throw error
  }
  return { body: answer.body, tag: generation, end: position + length }
}
