/** Reading a long object of an Azure container; see resuming-read.ts for what happens to connections that break. */
import { Readable } from 'node:stream'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions } from '../destination.ts'
import { checkKey } from '../object-key.ts'
import { type Opened, resumingStream } from '../resuming-read.ts'
import { statObject } from './objects.ts'
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
    if (
      error instanceof HoldfastError &&
      (error.context.status === 416 || error.context.storeCode === 'InvalidRange')
    ) {
      return await nothing(store, key, options)
    }
    throw error
  }
  return resumingStream(
    {
      where: `${store.uri}/${key}`,
      open: (position, end, tag) => openAt(store, key, options, position, end, tag),
      explain: error => store.explain('Get Blob', key, error),
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
  const from = answer.contentRange === undefined ? 0 : Number(/bytes (\d+)-/.exec(answer.contentRange)?.[1])
  if (from !== position) {
    body.destroy()
    throw new HoldfastError(
      'destination.misconfigured',
      `${store.uri} gave bytes from ${from} on of "${key}" where ${position} was asked for.`,
    )
  }
  return { body, tag: answer.etag, end: position + answer.contentLength }
}
