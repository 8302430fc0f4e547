/** Objects of an Azure container. */
import { createHash } from 'node:crypto'
import type { BlobGetPropertiesResponse, BlobItem } from '@azure/storage-blob'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import type { CallOptions, ObjectStat, Protection, PutOptions } from '../destination.ts'
import { expectSmall, tooLargeToRead } from '../limits.ts'
import { isProtected, lockedObject } from '../locked.ts'
import { ownObject } from '../lost-put.ts'
import { checkKey, checkPrefix, inKeyOrder, uploadsFolder } from '../object-key.ts'
import { frozenIn } from './archive.ts'
import type { Store, WrittenWith } from './store.ts'

const isMissing = (error: unknown) => hasCode(error, 'destination.object-missing')

export async function putObject(
  store: Store,
  key: string,
  body: Uint8Array,
  options: PutOptions & { written?: WrittenWith } = {},
): Promise<ObjectStat> {
  checkKey(key)
  expectSmall(key, body)
  const { lasting, written = lasting ? store.written.lasting() : store.written.any } = options
  let lastTry = 1
  try {
    return await store.call(
      'Put Blob',
      key,
      options,
      async (abortSignal, attempt) => {
        lastTry = attempt
        const answer = await store.blob(key).upload(Buffer.from(body), body.length, {
          abortSignal,
          ...written,
          ...(options.ifAbsent ? { conditions: { ifNoneMatch: '*' } } : {}),
        })
        return {
          key,
          bytes: body.length,
          modifiedAt: answer.lastModified ?? new Date(),
          ...(answer.etag ? { tag: answer.etag } : {}),
          ...(answer.versionId ? { version: answer.versionId } : {}),
        }
      },
      body.length,
    )
  } catch (error) {
    if (!hasCode(error, 'destination.exists')) throw error
    // The answer to an earlier try may have been lost: then what is there is ours, byte for byte.
    if (lastTry > 1) {
      const ours = await ownObject(
        body,
        () => statObject(store, key, options),
        () => readObject(store, key, options),
      )
      if (ours) return ours
    }
    throw new HoldfastError('destination.exists', `${store.uri}/${key} is there already.`)
  }
}

export async function readObject(
  store: Store,
  key: string,
  options: CallOptions = {},
): Promise<Uint8Array | undefined> {
  checkKey(key)
  try {
    return await store.call('Get Blob', key, options, async abortSignal => {
      const answer = await store.blob(key).download(0, undefined, { abortSignal, maxRetryRequests: 0 })
      const expected = answer.contentLength ?? 0
      const body = answer.readableStreamBody
      const tooLarge = tooLargeToRead(`${store.uri}/${key}`, expected)
      if (tooLarge) {
        // Not read to its end: the connection must not wait for it.
        if (body && 'destroy' in body && typeof body.destroy === 'function') body.destroy()
        throw tooLarge
      }
      const chunks: Buffer[] = []
      for await (const chunk of body ?? []) chunks.push(chunk as Buffer)
      const whole = Buffer.concat(chunks)
      if (whole.length !== expected) {
        throw new HoldfastError(
          'destination.unreachable',
          `Reading ${store.uri}/${key} was cut off after ${whole.length} of ${expected} bytes.`,
        )
      }
      return whole
    })
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

export async function statObject(
  store: Store,
  key: string,
  options: CallOptions = {},
): Promise<ObjectStat | undefined> {
  checkKey(key)
  return (await lookAt(store, key, options))?.stat
}

/** For keys that are ours, too; with the blob's metadata. */
export async function lookAt(
  store: Store,
  key: string,
  options: CallOptions,
): Promise<{ stat: ObjectStat; metadata: Record<string, string> } | undefined> {
  try {
    const answer = await store.call('Get Blob Properties', key, options, abortSignal =>
      store.blob(key).getProperties({ abortSignal }),
    )
    const stat: ObjectStat = {
      key,
      bytes: answer.contentLength ?? 0,
      modifiedAt: answer.lastModified ?? new Date(0),
      ...(answer.accessTier ? { storageClass: answer.accessTier } : {}),
      ...protectionOf(answer),
      ...frozenIn(answer),
      ...(answer.etag ? { tag: answer.etag } : {}),
      ...(answer.versionId ? { version: answer.versionId } : {}),
    }
    return { stat, metadata: answer.metadata ?? {} }
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

function protectionOf(answer: BlobGetPropertiesResponse): { protection?: Protection } {
  const { immutabilityPolicyExpiresOn: until, legalHold } = answer
  if (until === undefined && legalHold !== true) return {}
  return {
    protection: {
      ...(until === undefined ? {} : { lockedUntil: until }),
      ...(legalHold === true ? { legalHold } : {}),
    },
  }
}

export async function* listObjects(
  store: Store,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<ObjectStat> {
  checkPrefix(prefix)
  for await (const { key, item } of inKeyOrder(listBlobs(store, prefix, options))) {
    if (key.startsWith(`${uploadsFolder}/`)) continue
    yield {
      key,
      bytes: item.properties.contentLength ?? 0,
      modifiedAt: item.properties.lastModified,
      ...(item.properties.etag ? { tag: item.properties.etag } : {}),
    }
  }
}

/** What lies below the prefix as the store lists it, page by page. */
export async function* listBlobs(
  store: Store,
  prefix: string,
  options: CallOptions & { includeMetadata?: boolean },
): AsyncGenerator<{ key: string; item: BlobItem }> {
  let marker: string | undefined
  do {
    const page = await store.call('List Blobs', prefix, options, async abortSignal => {
      const pages = store.container
        .listBlobsFlat({
          abortSignal,
          prefix: store.fullKey(prefix),
          includeMetadata: options.includeMetadata === true,
        })
        .byPage(marker === undefined ? {} : { continuationToken: marker })
      return (await pages.next()).value as
        | { segment: { blobItems: BlobItem[] }; continuationToken?: string }
        | undefined
    })
    for (const item of page?.segment.blobItems ?? []) {
      const key = store.ownKey(item.name)
      if (key !== undefined && key !== '') yield { key, item }
    }
    marker = page?.continuationToken || undefined
  } while (marker !== undefined)
}

export async function removeObject(
  store: Store,
  key: string,
  options: CallOptions & { version?: string } = {},
): Promise<void> {
  checkKey(key)
  const where = `${store.uri}/${key}`
  // Removed without its version a locked blob becomes an old version of itself: gone to see, and paid for until its end.
  if (store.protects && options.version === undefined) {
    const { protection } = (await statObject(store, key, options)) ?? {}
    if (isProtected(protection)) throw lockedObject(where, protection)
  }
  try {
    await removeBlob(store, key, options)
  } catch (error) {
    if (!hasCode(error, 'destination.locked')) throw error
    throw lockedObject(where, (await statObject(store, key, options))?.protection)
  }
}

/** For keys that are ours, too. */
export async function removeBlob(
  store: Store,
  key: string,
  options: CallOptions & { version?: string; ifMatch?: string },
): Promise<void> {
  const { version, ifMatch } = options
  const blob = version === undefined ? store.blob(key) : store.blob(key).withVersion(version)
  try {
    await store.call('Delete Blob', key, options, abortSignal =>
      blob.delete({
        abortSignal,
        ...(version === undefined ? { deleteSnapshots: 'include' as const } : {}),
        ...(ifMatch === undefined ? {} : { conditions: { ifMatch } }),
      }),
    )
  } catch (error) {
    if (!isMissing(error)) throw error
  }
}

/** Hex, as journals have it. */
export const sha256Of = (body: Uint8Array): string => createHash('sha256').update(body).digest('hex')
