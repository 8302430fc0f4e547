/** Reading a long object of an S3 store; see resuming-read.ts for what happens to connections that break. */
import { Readable } from 'node:stream'
import { GetObjectCommand } from '@aws-sdk/client-s3'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions } from '../destination.ts'
import { checkKey } from '../object-key.ts'
import { type Opened, resumingStream } from '../resuming-read.ts'
import { statObject } from './objects.ts'
import type { Store } from './store.ts'

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
  return resumingStream(
    {
      where: `${store.uri}/${key}`,
      open: (position, end, tag) => openAt(store, key, options, position, end, tag),
      explain: error => store.explain('GetObject', key, error),
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
  return { body, tag: answer.ETag, end: position + length }
}
