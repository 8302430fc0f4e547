/** Objects of an S3 destination. */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  DeleteObjectCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadBucketCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandOutput,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import type { CallOptions, ObjectStat, PutOptions } from '../destination.ts'
import { expectSmall, tooLargeToRead } from '../limits.ts'
import { ownObject } from '../lost-put.ts'
import { checkKey, checkPrefix } from '../object-key.ts'
import { passes } from '../retry-calls.ts'
import { frozenIn } from './archives.ts'
import { lockedError, protectionOf } from './lock.ts'
import { knownSha256, type Store, whereKnown } from './store.ts'

export async function putObject(
  store: Store,
  key: string,
  body: Uint8Array,
  options: PutOptions = {},
): Promise<ObjectStat> {
  checkKey(key)
  expectSmall(key, body)
  if (!options.ifAbsent) return await putOnce(store, key, body, options, false)
  return await whereKnown(store.findings, 'conditionalPut', async known => {
    if (known) return await putIfAbsent(store, key, body, options)
    // The store cannot decide it; this narrows the race to the time between two requests.
    if (await statObject(store, key, options)) throw exists(store, key)
    return await putOnce(store, key, body, options, false)
  })
}

async function putIfAbsent(
  store: Store,
  key: string,
  body: Uint8Array,
  options: PutOptions,
): Promise<ObjectStat> {
  try {
    return await putOnce(store, key, body, options, true)
  } catch (error) {
    if (!hasCode(error, 'destination.exists')) throw error
    // The SDK may have tried again after an answer was lost: then what is there is ours, byte for byte.
    if (Number(error.context.attempts) > 1) {
      const ours = await ownObject(
        body,
        () => statObject(store, key, options),
        () => readObject(store, key, options),
      )
      if (ours) return ours
    }
    throw exists(store, key)
  }
}

/**
 * A 409 that passes: another conditional write to this key is under way, or the store is tidying up around it. It asks to
 * try again, and the SDK does not.
 */
async function pastConflicts<T>(act: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await act()
    } catch (error) {
      const passing =
        error instanceof HoldfastError &&
        error.code === 'destination.throttled' &&
        error.context.status === 409
      if (!passing || tries === 8) throw error
      await sleep(50 * tries * Math.random())
    }
  }
}

async function putOnce(
  store: Store,
  key: string,
  body: Uint8Array,
  options: PutOptions,
  ifAbsent: boolean,
): Promise<ObjectStat> {
  const sha256 = createHash('sha256').update(body).digest()
  const answer = await whereKnown(store.findings, 'checksums', async checksums => {
    const command = new PutObjectCommand({
      Bucket: store.bucket,
      Key: store.fullKey(key),
      Body: body,
      ContentLength: body.length,
      ...(options.lasting ? store.written.lasting() : store.written.any()),
      ...(checksums ? { ChecksumSHA256: sha256.toString('base64') } : {}),
      // A lock wants one or the other.
      ...(store.protects && !checksums ? { ContentMD5: md5Of(body) } : {}),
      ...(ifAbsent ? { IfNoneMatch: '*' } : {}),
    })
    command.middlewareStack.add(knownSha256(sha256.toString('hex')), { step: 'build', name: 'knownSha256' })
    return await pastConflicts(() =>
      store.call('PutObject', key, options, http => store.client.send(command, http)),
    )
  })
  return {
    key,
    bytes: body.length,
    modifiedAt: new Date(),
    ...versionOf(answer.VersionId),
    ...(answer.ETag ? { tag: answer.ETag } : {}),
  }
}

export const md5Of = (body: Uint8Array): string => createHash('md5').update(body).digest('base64')

const exists = (store: Store, key: string) =>
  new HoldfastError('destination.exists', `${store.uri}/${key} is there already.`)

/** Stores answer "null" for objects older than the bucket's versioning. */
const versionOf = (version: string | undefined) => (version && version !== 'null' ? { version } : {})

export async function readObject(
  store: Store,
  key: string,
  options: CallOptions = {},
): Promise<Uint8Array | undefined> {
  checkKey(key)
  for (let tries = 1; ; tries += 1) {
    const opened = await openSmall(store, key, options)
    if (opened === undefined) return undefined
    try {
      const body = (await opened.Body?.transformToByteArray()) ?? new Uint8Array()
      if (opened.ContentLength === undefined || body.length === opened.ContentLength) return body
      throw new HoldfastError(
        'destination.unreachable',
        `Reading ${store.uri}/${key} was cut off after ${body.length} of ${opened.ContentLength} bytes.`,
      )
    } catch (error) {
      options.signal?.throwIfAborted()
      // The SDK tries again until the answer begins; a body that breaks is ours to ask for again.
      const explained = store.explain('GetObject', key, error)
      if (tries === bodyTries || !passes(explained)) throw explained
    }
  }
}

const bodyTries = 4

async function openSmall(
  store: Store,
  key: string,
  options: CallOptions,
): Promise<GetObjectCommandOutput | undefined> {
  try {
    const command = new GetObjectCommand({ Bucket: store.bucket, Key: store.fullKey(key) })
    const answer = await store.call('GetObject', key, options, http => store.client.send(command, http))
    const tooLarge = tooLargeToRead(`${store.uri}/${key}`, answer.ContentLength ?? 0)
    if (!tooLarge) return answer
    // Not read to its end: the connection must not wait for it.
    if (answer.Body && 'destroy' in answer.Body) answer.Body.destroy()
    throw tooLarge
  } catch (error) {
    if (hasCode(error, 'destination.object-missing')) return undefined
    throw error
  }
}

export async function statObject(
  store: Store,
  key: string,
  options: CallOptions = {},
): Promise<ObjectStat | undefined> {
  const answer = await headObject(store, key, options)
  return answer && statOf(key, answer)
}

export async function headObject(
  store: Store,
  key: string,
  options: CallOptions,
): Promise<HeadObjectCommandOutput | undefined> {
  checkKey(key)
  const command = new HeadObjectCommand({ Bucket: store.bucket, Key: store.fullKey(key) })
  try {
    return await store.call('HeadObject', key, options, http => store.client.send(command, http))
  } catch (error) {
    if (!hasCode(error, 'destination.object-missing')) throw error
    await expectBucket(store, options)
    return undefined
  }
}

export const statOf = (key: string, answer: HeadObjectCommandOutput): ObjectStat => ({
  key,
  bytes: answer.ContentLength ?? 0,
  modifiedAt: answer.LastModified ?? new Date(0),
  storageClass: answer.StorageClass ?? 'STANDARD',
  ...protectionOf(answer),
  ...frozenIn(answer),
  ...versionOf(answer.VersionId),
  ...(answer.ETag ? { tag: answer.ETag } : {}),
})

/** The answer to HEAD has no body: a missing object is told from a missing bucket by asking for the bucket, once. */
async function expectBucket(store: Store, options: CallOptions): Promise<void> {
  if (store.findings.bucketSeen) return
  try {
    const command = new HeadBucketCommand({ Bucket: store.bucket })
    await store.call('HeadBucket', '', options, http => store.client.send(command, http))
  } catch (error) {
    if (!hasCode(error, 'destination.object-missing')) throw error
    throw new HoldfastError('destination.missing', `The bucket of ${store.uri} does not exist.`)
  }
}

export async function* listObjects(
  store: Store,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<ObjectStat> {
  checkPrefix(prefix)
  let token: string | undefined
  do {
    const page = await store.call('ListObjectsV2', prefix, options, http =>
      store.client.send(
        new ListObjectsV2Command({
          Bucket: store.bucket,
          Prefix: store.fullKey(prefix),
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
        http,
      ),
    )
    for (const object of page.Contents ?? []) {
      const key = store.ownKey(object.Key)
      // "Directories" that some consoles make are no objects of ours.
      if (key === undefined || key === '' || key.endsWith('/')) continue
      yield {
        key,
        bytes: object.Size ?? 0,
        modifiedAt: object.LastModified ?? new Date(0),
        ...(object.ETag ? { tag: object.ETag } : {}),
      }
    }
    token = page.IsTruncated ? page.NextContinuationToken : undefined
  } while (token !== undefined)
}

export async function removeObject(
  store: Store,
  key: string,
  options: CallOptions & { version?: string } = {},
): Promise<void> {
  checkKey(key)
  if (options.version !== undefined) return await removeVersion(store, key, options.version, options)
  if (!(await isVersioned(store, options))) {
    const { DeleteMarker } = await deletePlainly(store, key, options)
    // It was versioned after all: the marker says so, and it and everything under it have to go as well.
    if (DeleteMarker !== true) return
    store.findings.versioned = true
  }
  for await (const version of versionsOf(store, key, options))
    await removeVersion(store, key, version, options)
}

export async function deletePlainly(
  store: Store,
  key: string,
  options: CallOptions,
): Promise<{ DeleteMarker?: boolean | undefined }> {
  const command = new DeleteObjectCommand({ Bucket: store.bucket, Key: store.fullKey(key) })
  try {
    return await store.call('DeleteObject', key, options, http => store.client.send(command, http))
  } catch (error) {
    if (hasCode(error, 'destination.object-missing')) return {}
    throw (await lockedError(store, key, undefined, error, options)) ?? error
  }
}

export async function removeVersion(
  store: Store,
  key: string,
  version: string,
  options: CallOptions,
): Promise<void> {
  const command = new DeleteObjectCommand({
    Bucket: store.bucket,
    Key: store.fullKey(key),
    VersionId: version,
  })
  try {
    await store.call('DeleteObjectVersion', key, options, http => store.client.send(command, http))
  } catch (error) {
    if (hasCode(error, 'destination.object-missing')) return
    const locked = await lockedError(store, key, version, error, options)
    if (locked) throw locked
    // For a version that is gone already some stores say "invalid argument"; the list settles it.
    if (!(error instanceof HoldfastError) || error.context.storeCode !== 'InvalidArgument') throw error
    for await (const there of versionsOf(store, key, options)) if (there === version) throw error
  }
}

/** Versions and delete markers of exactly this key. */
async function* versionsOf(store: Store, key: string, options: CallOptions): AsyncGenerator<string> {
  const fullKey = store.fullKey(key)
  for await (const page of versionPages(store, key, options)) {
    for (const { Key, VersionId } of [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])]) {
      if (Key === fullKey && VersionId) yield VersionId
    }
  }
}

/** Also of keys that begin like this one. The newest version of a key comes first. */
export async function* versionPages(
  store: Store,
  key: string,
  options: CallOptions,
): AsyncGenerator<ListObjectVersionsCommandOutput> {
  const fullKey = store.fullKey(key)
  let next: { KeyMarker?: string; VersionIdMarker?: string } | undefined = {}
  while (next) {
    const marker: { KeyMarker?: string; VersionIdMarker?: string } = next
    const page: ListObjectVersionsCommandOutput = await store.call('ListObjectVersions', key, options, http =>
      store.client.send(
        new ListObjectVersionsCommand({ Bucket: store.bucket, Prefix: fullKey, ...marker }),
        http,
      ),
    )
    yield page
    // Keys come in order: once others follow, this one is through.
    next =
      page.IsTruncated && page.NextKeyMarker === fullKey
        ? {
            KeyMarker: page.NextKeyMarker,
            ...(page.NextVersionIdMarker ? { VersionIdMarker: page.NextVersionIdMarker } : {}),
          }
        : undefined
  }
}

/** Asked once. Who may not ask is treated as unversioned until an answer to a delete says otherwise. */
export async function isVersioned(store: Store, options: CallOptions): Promise<boolean> {
  if (store.findings.versioned !== undefined) return store.findings.versioned
  try {
    const { Status } = await store.call('GetBucketVersioning', '', options, http =>
      store.client.send(new GetBucketVersioningCommand({ Bucket: store.bucket }), http),
    )
    // "Suspended" keeps what is old.
    store.findings.versioned = Status !== undefined
  } catch (error) {
    if (!hasCode(error, 'destination.denied', 'destination.misconfigured')) throw error
    store.findings.versioned = false
  }
  return store.findings.versioned
}
