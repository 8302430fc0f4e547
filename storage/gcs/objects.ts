/** Objects of a Google Cloud Storage bucket. */
import { createHash, randomBytes } from 'node:crypto'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import type { CallOptions, ObjectStat, PutOptions } from '../destination.ts'
import { expectSmall, tooLargeToRead } from '../limits.ts'
import { isProtected, lockedObject } from '../locked.ts'
import { ownObject } from '../lost-put.ts'
import { checkKey, checkPrefix, uploadsFolder } from '../object-key.ts'
import { type Resource, type Store, statOf, type WrittenWith } from './store.ts'

export async function putObject(
  store: Store,
  key: string,
  body: Uint8Array,
  options: PutOptions = {},
): Promise<ObjectStat> {
  checkKey(key)
  expectSmall(key, body)
  const seen = { attempt: 0 }
  const written = options.lasting ? store.written.lasting() : store.written.any
  try {
    const made = await insert(store, key, body, written, options.ifAbsent ? '0' : undefined, options, seen)
    return statOf(key, made)
  } catch (error) {
    if (!hasCode(error, 'destination.exists')) throw error
    // The answer to an earlier try may have been lost: then what is there is ours, byte for byte.
    if (seen.attempt > 1) {
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

/**
 * One request with the object and what belongs to it; the store verifies the MD5. `generation`: what must be there now,
 * '0' for nothing. `seen.attempt` is the number of the last try.
 */
export async function insert(
  store: Store,
  key: string,
  body: Uint8Array,
  written: WrittenWith,
  generation: string | undefined,
  options: CallOptions,
  seen: { attempt: number } = { attempt: 0 },
): Promise<Resource> {
  const md5Hash = createHash('md5').update(body).digest('base64')
  const boundary = `holdfast-${randomBytes(12).toString('hex')}`
  const resource = JSON.stringify({
    name: store.fullKey(key),
    md5Hash,
    contentType: 'application/octet-stream',
    ...written.fields,
  })
  const whole = Buffer.concat([
    Buffer.from(`--${boundary}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n${resource}\r\n`),
    Buffer.from(`--${boundary}\r\ncontent-type: application/octet-stream\r\n\r\n`),
    body,
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ])
  return await store.call(
    {
      action: 'objects.insert',
      key,
      path: `/upload/storage/v1${store.bucketPath}`,
      query: {
        uploadType: 'multipart',
        ...written.query,
        ...(generation === undefined ? {} : { ifGenerationMatch: generation }),
      },
      method: 'POST',
      headers: { 'content-type': `multipart/related; boundary=${boundary}` },
      body: whole,
    },
    options,
    async answer => {
      const made = (await answer.json()) as Resource
      // Not every server that speaks the protocol verifies what it was told.
      if (made.md5Hash !== undefined && made.md5Hash !== md5Hash) {
        throw new HoldfastError('destination.corrupted', `${store.uri}/${key} was stored as other bytes.`)
      }
      return made
    },
    seen,
  )
}

export async function readObject(
  store: Store,
  key: string,
  options: CallOptions = {},
): Promise<Uint8Array | undefined> {
  checkKey(key)
  return await readRaw(store, key, options)
}

/** For keys that are ours, too. */
export async function readRaw(
  store: Store,
  key: string,
  options: CallOptions,
): Promise<Uint8Array | undefined> {
  try {
    return await store.call(
      { action: 'objects.get', key, path: store.objectPath(key), query: { alt: 'media' } },
      options,
      async answer => {
        const expected = Number(answer.header('content-length') ?? Number.NaN)
        const tooLarge = tooLargeToRead(`${store.uri}/${key}`, expected)
        if (tooLarge) {
          // Not read to its end: the connection must not wait for it.
          answer.body.destroy()
          throw tooLarge
        }
        const body = await answer.bytes()
        if (Number.isFinite(expected) && body.length !== expected) {
          throw new HoldfastError(
            'destination.unreachable',
            `Reading ${store.uri}/${key} was cut off after ${body.length} of ${expected} bytes.`,
          )
        }
        return body
      },
    )
  } catch (error) {
    return await orMissing(store, error, options)
  }
}

export async function statObject(
  store: Store,
  key: string,
  options: CallOptions = {},
): Promise<ObjectStat | undefined> {
  checkKey(key)
  const found = await lookAt(store, key, options)
  return found && statOf(key, found)
}

/** For keys that are ours, too. */
export async function lookAt(store: Store, key: string, options: CallOptions): Promise<Resource | undefined> {
  try {
    return await store.call(
      { action: 'objects.get', key, path: store.objectPath(key) },
      options,
      async answer => (await answer.json()) as Resource,
    )
  } catch (error) {
    return await orMissing(store, error, options)
  }
}

/** undefined for an object that is not there; throws for everything else, a bucket that is not there among it. */
export async function orMissing(store: Store, error: unknown, options: CallOptions): Promise<undefined> {
  if (!hasCode(error, 'destination.object-missing')) throw error
  if (store.findings.bucketSeen) return undefined
  for await (const _object of listResources(store, '', options, { maxResults: '1' })) break
  return undefined
}

export async function* listObjects(
  store: Store,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<ObjectStat> {
  checkPrefix(prefix)
  for await (const { key, resource } of listResources(store, prefix, options)) {
    if (!key.startsWith(`${uploadsFolder}/`) && !key.endsWith('/')) yield statOf(key, resource)
  }
}

/** What lies below the prefix, with what belongs to it, page by page. Throws `destination.missing` without the bucket. */
export async function* listResources(
  store: Store,
  prefix: string,
  options: CallOptions,
  more: Record<string, string> = {},
): AsyncGenerator<{ key: string; resource: Resource }> {
  let pageToken: string | undefined
  do {
    const page = await store.call(
      {
        action: 'objects.list',
        key: prefix,
        path: `/storage/v1${store.bucketPath}`,
        query: { prefix: store.fullKey(prefix), ...more, ...(pageToken === undefined ? {} : { pageToken }) },
      },
      options,
      async answer => (await answer.json()) as { items?: Resource[]; nextPageToken?: string },
    )
    for (const resource of page.items ?? []) {
      const key = store.ownKey(resource.name)
      if (key !== undefined && key !== '') yield { key, resource }
    }
    pageToken = page.nextPageToken || undefined
  } while (pageToken !== undefined)
}

export async function removeObject(
  store: Store,
  key: string,
  options: CallOptions & { version?: string } = {},
): Promise<void> {
  checkKey(key)
  const where = `${store.uri}/${key}`
  const protection = async () => (await statObject(store, key, options))?.protection
  // Where versions are kept, a locked object that is removed becomes an old one: gone to see, and paid for until its end.
  if (store.protects && options.version === undefined) {
    const stands = await protection()
    if (isProtected(stands)) throw lockedObject(where, stands)
  }
  try {
    await removeAll(store, key, options)
  } catch (error) {
    throw hasCode(error, 'destination.locked') ? lockedObject(where, await protection()) : error
  }
}

async function removeAll(
  store: Store,
  key: string,
  options: CallOptions & { version?: string },
): Promise<void> {
  await removeRaw(store, key, options.version, options)
  if (options.version !== undefined || !(await isVersioned(store, options))) return
  for await (const { key: found, resource } of listResources(store, key, options, { versions: 'true' })) {
    if (found === key && resource.generation !== undefined) {
      await removeRaw(store, key, resource.generation, options)
    }
  }
}

/** For keys that are ours, too. */
export async function removeRaw(
  store: Store,
  key: string,
  generation: string | undefined,
  options: CallOptions,
): Promise<void> {
  try {
    await store.call(
      {
        action: 'objects.delete',
        key,
        path: store.objectPath(key),
        method: 'DELETE',
        ...(generation === undefined ? {} : { query: { generation } }),
      },
      options,
      async answer => void (await answer.bytes()),
    )
  } catch (error) {
    await orMissing(store, error, options)
  }
}

/** Asked once. Who may not ask is treated as one without versions. */
export async function isVersioned(store: Store, options: CallOptions): Promise<boolean> {
  store.findings.versioned ??= (await lookAtBucket(store, options))?.versioning?.enabled === true
  return store.findings.versioned
}

interface Bucket {
  versioning?: { enabled?: boolean }
  /** Every object stays for so long. */
  retentionPolicy?: { retentionPeriod?: string }
  defaultEventBasedHold?: boolean
  /** Objects may be given locks of their own. */
  objectRetention?: { mode?: string }
}

/** undefined: we may not ask. */
export async function lookAtBucket(store: Store, options: CallOptions): Promise<Bucket | undefined> {
  try {
    return await store.call(
      {
        action: 'buckets.get',
        key: '',
        path: `/storage/v1${store.bucketPath.replace(/\/o$/, '')}`,
        query: { fields: 'versioning,retentionPolicy,defaultEventBasedHold,objectRetention' },
      },
      options,
      async answer => (await answer.json()) as Bucket,
    )
  } catch (error) {
    if (!hasCode(error, 'destination.denied')) throw error
    return undefined
  }
}
