/** Reading a long object of an S3 store; see resuming-read.ts for what happens to connections that break. */
import { Readable } from 'node:stream'
import { GetObjectCommand } from '@aws-sdk/client-s3'
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
      explain: error => store.explain('GetObject', key, error),
      isThere: async () => (await statObject(store, key, options)) !== undefined,
      isPastEnd: error => error instanceof HoldfastError && error.context.storeCode === 'InvalidRange',
    },
    options,
  )
}

async function openAt(
  store: Store,
  key: string,
  options: CallOptions,
  position: number,
  end: number | undefined,
  etag: string | undefined,
): Promise<Opened> {
  const whole = position === 0 && end === undefined
  const answer = await store.call('GetObject', key, options, http =>
    store.client.send(
      new GetObjectCommand({
        Bucket: store.bucket,
        Key: store.fullKey(key),
        ...(whole ? {} : { Range: `bytes=${position}-${end === undefined ? '' : end - 1}` }),
        ...(etag === undefined ? {} : { IfMatch: etag }),
      }),
      http,
    ),
  )
  const { Body: body, ContentLength: length } = answer
  if (!(body instanceof Readable) || length === undefined) {
    throw new HoldfastError('destination.misconfigured', `${store.uri}/${key} came without its length.`)
  }
  try {
    expectFrom(store.uri, key, answer.ContentRange, position)
  } catch (error) {
    body.destroy()
    throw error
  }
  return { body, tag: answer.ETag, end: position + length }
}
