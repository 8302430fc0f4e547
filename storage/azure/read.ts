/** Reading a long object of an Azure container; see resuming-read.ts for what happens to connections that break. */
import { Readable } from 'node:stream'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions } from '../destination.ts'
import { checkKey } from '../object-key.ts'
import { expectFrom, type Opened, readRange } from '../resuming-read.ts'
import { statObject } from './objects.ts'
import type { Store } from './store.ts'

export async function getObject(
  store: Store,
  key: string,
  options: CallOptions & { offset?: number; length?: number } = {},
): Promise<Readable> {
  checkKey(key)
  return await readRange(
    {
      where: `${store.uri}/${key}`,
      open: (position, end, tag) => openAt(store, key, options, position, end, tag),
      explain: error => store.explain('Get Blob', key, error),
      idleSeconds: store.silenceSeconds,
      isThere: async () => (await statObject(store, key, options)) !== undefined,
      isPastEnd: error =>
        error instanceof HoldfastError &&
        (error.context.status === 416 || error.context.storeCode === 'InvalidRange'),
    },
    options,
  )
}

async function openAt(
  store: Store,
  key: string,
  options: CallOptions,
  position: number,
  end?: number,
  tag?: string,
): Promise<Opened> {
  const answer = await store.call('Get Blob', key, options, abortSignal =>
    store.blob(key).download(position, end === undefined ? undefined : end - position, {
      abortSignal,
      // Reopened by us, at the byte where it broke.
      maxRetryRequests: 0,
      ...(tag === undefined ? {} : { conditions: { ifMatch: tag } }),
    }),
  )
  const body = answer.readableStreamBody
  if (!(body instanceof Readable) || answer.contentLength === undefined) {
    throw new HoldfastError('destination.misconfigured', `${store.uri}/${key} came without its length.`)
  }
  try {
    expectFrom(store.uri, key, answer.contentRange, position)
  } catch (error) {
    body.destroy()
    throw error
  }
  return { body, tag: answer.etag, end: position + answer.contentLength }
}
