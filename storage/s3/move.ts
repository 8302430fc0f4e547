/**
 * Moving objects between classes. S3 changes no class in place: the store copies the object onto itself, which is whole under its
 * key all the time. Bytes and names stay as they are, so whoever does it again, or at the same time, makes the same.
 */
import {
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  type HeadObjectCommandOutput,
  ListMultipartUploadsCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import { archivedObject, missingObject } from '../classes.ts'
import type { CallOptions } from '../destination.ts'
import { isProtected, lockedObject } from '../locked.ts'
import { headObject, isVersioned, removeVersion, statOf, versionPages } from './objects.ts'
import type { Store, WrittenWith } from './store.ts'
import { abortUpload, listParts } from './uploads.ts'

const gib = 1024 ** 3

export interface CopyLimits {
  /** What the store copies by one request. */
  wholeBytes: number
  /** Above that by parts, at least this long. */
  partBytes: number
  maxParts: number
}

export const usualLimits = { wholeBytes: 5 * gib, partBytes: gib } as const
const partsAtOnce = 4

export async function moveObject(
  store: Store,
  key: string,
  storageClass: string,
  limits: CopyLimits,
  options: CallOptions = {},
): Promise<void> {
  const where = `${store.uri}/${key}`
  const head = await headObject(store, key, options)
  if (head === undefined) throw missingObject(where)
  const there = statOf(key, head)
  // What is locked stays beside its copy, and is paid for until its end.
  if (isProtected(there.protection)) throw lockedObject(where, there.protection)
  let made = there
  if (there.storageClass !== storageClass) {
    if (there.frozen) throw archivedObject(where)
    if (there.bytes <= limits.wholeBytes) await copyWhole(store, key, storageClass, head, options)
    else await copyByParts(store, key, storageClass, head, limits, options)
    const after = await headObject(store, key, options)
    if (after === undefined) throw missingObject(where)
    made = statOf(key, after)
    if (made.storageClass !== storageClass || made.bytes !== there.bytes) {
      throw new HoldfastError(
        'destination.misconfigured',
        `${where} was to be moved to ${storageClass}; the store has ${made.bytes} of its ${there.bytes} bytes, in ${made.storageClass}.`,
      )
    }
  }
  if (made.version !== undefined) await removeOlder(store, key, made.version, options)
}

/** In a bucket that keeps versions the object as it was is paid for, too. Also what an earlier run did not get to. */
async function removeOlder(store: Store, key: string, current: string, options: CallOptions): Promise<void> {
  if (!(await isVersioned(store, options))) return
  let found = false
  // The newest comes first: what comes before ours is somebody else's, who removes what is older than that.
  for await (const { Versions = [] } of versionPages(store, key, options)) {
    for (const { Key, VersionId, IsLatest } of Versions) {
      if (Key !== store.fullKey(key) || VersionId === undefined) continue
      if (found) await removeVersion(store, key, VersionId, options)
      else found = IsLatest === true && VersionId === current
    }
  }
}

const sourceOf = (store: Store, key: string): string =>
  `${store.bucket}/${store.fullKey(key).split('/').map(encodeURIComponent).join('/')}`

/** What is not taken along by itself. */
function writtenAs(store: Store, storageClass: string, head: HeadObjectCommandOutput) {
  const { ServerSideEncryption, SSEKMSKeyId } = store.written.any()
  return {
    StorageClass: storageClass as NonNullable<WrittenWith['StorageClass']>,
    ...(ServerSideEncryption === undefined ? {} : { ServerSideEncryption }),
    ...(SSEKMSKeyId === undefined ? {} : { SSEKMSKeyId }),
    ...(head.Metadata === undefined ? {} : { Metadata: head.Metadata }),
    ...(head.ContentType === undefined ? {} : { ContentType: head.ContentType }),
  }
}

async function copyWhole(
  store: Store,
  key: string,
  storageClass: string,
  head: HeadObjectCommandOutput,
  options: CallOptions,
): Promise<void> {
  const command = new CopyObjectCommand({
    Bucket: store.bucket,
    Key: store.fullKey(key),
    CopySource: sourceOf(store, key),
    // Some stores take a copy onto itself only where it is written anew.
    MetadataDirective: 'REPLACE',
    ...writtenAs(store, storageClass, head),
  })
  await store.call('CopyObject', key, options, http => store.patientClient.send(command, http))
}

/** Goes on with the upload of an earlier run: the bytes are the same, whoever began it. */
async function copyByParts(
  store: Store,
  key: string,
  storageClass: string,
  head: HeadObjectCommandOutput,
  { partBytes, maxParts }: CopyLimits,
  options: CallOptions,
): Promise<void> {
  const bytes = head.ContentLength ?? 0
  const length = Math.max(partBytes, Math.ceil(bytes / maxParts))
  const uploadId =
    (await openBefore(store, key, storageClass, options)) ??
    (await openCopy(store, key, storageClass, head, options))
  const there = new Map(
    (await listParts(store, key, uploadId, options))?.map(part => [part.number, part]) ?? [],
  )
  const wanted = Array.from({ length: Math.ceil(bytes / length) }, (_, index) => ({
    number: index + 1,
    first: index * length,
    last: Math.min(bytes, (index + 1) * length) - 1,
  }))
  const done: CompletedPart[] = []
  const queue = [...wanted]
  const work = async () => {
    for (let part = queue.shift(); part; part = queue.shift()) {
      const { number, first, last } = part
      const known = there.get(number)
      const tag =
        known?.bytes === last - first + 1
          ? known.tag
          : await copyPart(store, key, uploadId, part, options).catch(error => {
              queue.length = 0
              throw error
            })
      done.push({ PartNumber: number, ETag: tag })
    }
  }
  // Nothing is still being copied when this ends, well or not.
  const ended = await Promise.allSettled(Array.from({ length: partsAtOnce }, work))
  for (const one of ended) if (one.status === 'rejected') throw one.reason
  done.sort((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0))
  const command = new CompleteMultipartUploadCommand({
    Bucket: store.bucket,
    Key: store.fullKey(key),
    UploadId: uploadId,
    MultipartUpload: { Parts: done },
  })
  try {
    await store.call('CompleteMultipartUpload', key, options, http => store.patientClient.send(command, http))
  } catch (error) {
    // Completed by an earlier try whose answer was lost, or by somebody else: the object tells.
    if (!hasCode(error, 'destination.upload-gone')) throw error
  }
}

async function copyPart(
  store: Store,
  key: string,
  uploadId: string,
  { number, first, last }: { number: number; first: number; last: number },
  options: CallOptions,
): Promise<string> {
  const command = new UploadPartCopyCommand({
    Bucket: store.bucket,
    Key: store.fullKey(key),
    UploadId: uploadId,
    PartNumber: number,
    CopySource: sourceOf(store, key),
    CopySourceRange: `bytes=${first}-${last}`,
  })
  const { CopyPartResult } = await store.call('UploadPartCopy', key, options, http =>
    store.patientClient.send(command, http),
  )
  if (CopyPartResult?.ETag) return CopyPartResult.ETag
  throw new HoldfastError(
    'destination.misconfigured',
    `${store.uri} copied part ${number} without naming it.`,
  )
}

async function openCopy(
  store: Store,
  key: string,
  storageClass: string,
  head: HeadObjectCommandOutput,
  options: CallOptions,
): Promise<string> {
  const { Tagging } = store.written.any()
  const command = new CreateMultipartUploadCommand({
    Bucket: store.bucket,
    Key: store.fullKey(key),
    ...writtenAs(store, storageClass, head),
    ...(Tagging === undefined ? {} : { Tagging }),
  })
  const { UploadId } = await store.call('CreateMultipartUpload', key, options, http =>
    store.client.send(command, http),
  )
  if (UploadId) return UploadId
  throw new HoldfastError('destination.misconfigured', `${store.uri} opened an upload without an id.`)
}

/** What an earlier run left for this class; what it left for another one is given back. */
async function openBefore(
  store: Store,
  key: string,
  storageClass: string,
  options: CallOptions,
): Promise<string | undefined> {
  const command = new ListMultipartUploadsCommand({ Bucket: store.bucket, Prefix: store.fullKey(key) })
  const { Uploads = [] } = await store.call('ListMultipartUploads', key, options, http =>
    store.client.send(command, http),
  )
  let found: string | undefined
  for (const { Key, UploadId, StorageClass } of Uploads) {
    if (Key !== store.fullKey(key) || UploadId === undefined) continue
    if (found === undefined && StorageClass === storageClass) found = UploadId
    else await abortUpload(store, key, UploadId, options)
  }
  return found
}
