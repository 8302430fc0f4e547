/**
 * Multipart uploads. The checksum is SHA-256: the caller has made it anyway, so it costs us nothing; the store verifies
 * it before it keeps the part, gives it back in ListParts (a resumed upload can compare what is there with what it would
 * send), and it signs the request, so that a store without checksum headers verifies it as well.
 */
import { createHash } from 'node:crypto'
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import type { CallOptions, ObjectStat, OpenUpload, OutgoingPart, PartInfo } from '../destination.ts'
import { checkKey, checkPrefix } from '../object-key.ts'
import { expectProtected } from './lock.ts'
import { md5Of, statObject } from './objects.ts'
import { knownSha256, type Store, type WrittenWith, whereKnown } from './store.ts'

const isGone = (error: unknown) => hasCode(error, 'destination.upload-gone')

export async function openUpload(
  store: Store,
  key: string,
  options: CallOptions & { written?: WrittenWith } = {},
): Promise<string> {
  checkKey(key)
  return await whereKnown(store.findings, 'checksums', async checksums => {
    const command = new CreateMultipartUploadCommand({
      Bucket: store.bucket,
      Key: store.fullKey(key),
      ...(options.written ?? store.written.artifact()),
      ...(checksums ? { ChecksumAlgorithm: 'SHA256' as const } : {}),
    })
    const { UploadId } = await store.call('CreateMultipartUpload', key, options, http =>
      store.client.send(command, http),
    )
    if (!UploadId) {
      throw new HoldfastError('destination.misconfigured', `${store.uri} opened an upload without an id.`)
    }
    return UploadId
  })
}

export async function putPart(
  store: Store,
  key: string,
  uploadId: string,
  part: OutgoingPart,
  options: CallOptions = {},
): Promise<PartInfo> {
  const { number, body } = part
  const sha256 = part.sha256 ?? createHash('sha256').update(body).digest('hex')
  return await whereKnown(store.findings, 'checksums', async checksums => {
    const command = new UploadPartCommand({
      Bucket: store.bucket,
      Key: store.fullKey(key),
      UploadId: uploadId,
      PartNumber: number,
      Body: body,
      ContentLength: body.length,
      ...(checksums ? { ChecksumSHA256: Buffer.from(sha256, 'hex').toString('base64') } : {}),
      ...(store.protects && !checksums ? { ContentMD5: md5Of(body) } : {}),
    })
    command.middlewareStack.add(knownSha256(sha256), { step: 'build', name: 'knownSha256' })
    const { ETag, ChecksumSHA256 } = await store.call('UploadPart', key, options, http =>
      store.client.send(command, http),
    )
    if (!ETag) {
      throw new HoldfastError(
        'destination.misconfigured',
        `${store.uri} took part ${number} without naming it.`,
      )
    }
    return { number, bytes: body.length, tag: ETag, ...sha256Of(ChecksumSHA256) }
  })
}

const sha256Of = (base64: string | undefined) =>
  base64 ? { sha256: Buffer.from(base64, 'base64').toString('hex') } : {}

export async function listParts(
  store: Store,
  key: string,
  uploadId: string,
  options: CallOptions = {},
): Promise<PartInfo[] | undefined> {
  const parts: PartInfo[] = []
  let marker: string | undefined
  try {
    do {
      const command = new ListPartsCommand({
        Bucket: store.bucket,
        Key: store.fullKey(key),
        UploadId: uploadId,
        ...(marker === undefined ? {} : { PartNumberMarker: marker }),
      })
      const page = await store.call('ListParts', key, options, http => store.client.send(command, http))
      for (const { PartNumber, Size, ETag, ChecksumSHA256 } of page.Parts ?? []) {
        if (PartNumber === undefined || !ETag) continue
        parts.push({ number: PartNumber, bytes: Size ?? 0, tag: ETag, ...sha256Of(ChecksumSHA256) })
      }
      marker = page.IsTruncated ? page.NextPartNumberMarker : undefined
    } while (marker !== undefined)
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
  return parts
}

export async function completeUpload(
  store: Store,
  key: string,
  uploadId: string,
  parts: readonly PartInfo[],
  options: CallOptions = {},
): Promise<ObjectStat> {
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0)
  try {
    await whereKnown(store.findings, 'conditionalPut', async ifAbsent => {
      const command = new CompleteMultipartUploadCommand({
        Bucket: store.bucket,
        Key: store.fullKey(key),
        UploadId: uploadId,
        MultipartUpload: {
          Parts: parts.map(({ number, tag, sha256 }) => ({
            PartNumber: number,
            ETag: tag,
            ...(sha256 ? { ChecksumSHA256: Buffer.from(sha256, 'hex').toString('base64') } : {}),
          })),
        },
        ...(ifAbsent ? { IfNoneMatch: '*' } : {}),
      })
      return await store.call('CompleteMultipartUpload', key, options, http =>
        store.patientClient.send(command, http),
      )
    })
  } catch (error) {
    // An answer that was lost, here or in an earlier call: the object says whether it was made. Keys of artifacts are
    // random, so that what lies there with our length is ours.
    const settleable = ['destination.upload-gone', 'destination.exists', 'destination.unreachable']
    if (!(error instanceof HoldfastError) || !settleable.includes(error.code)) throw error
    const there = await statObject(store, key, options)
    if (there?.bytes !== bytes || (error.code === 'destination.exists' && (await isOpen()))) throw error
    return there
  }
  // A 200 may carry an error that the SDK did not see; only the object itself proves that it was made.
  const made = await statObject(store, key, options)
  if (made?.bytes !== bytes) {
    throw new HoldfastError(
      'destination.corrupted',
      `${store.uri}/${key} was completed, but the store has ${made ? `${made.bytes} bytes` : 'no object'}; ${bytes} were sent.`,
    )
  }
  if (store.protects) await expectProtected(store, made, options)
  return made

  /** Refused because of an object that this upload did not make: then the upload is still there. */
  async function isOpen(): Promise<boolean> {
    return (await listParts(store, key, uploadId, options)) !== undefined
  }
}

export async function abortUpload(
  store: Store,
  key: string,
  uploadId: string,
  options: CallOptions = {},
): Promise<void> {
  const command = new AbortMultipartUploadCommand({
    Bucket: store.bucket,
    Key: store.fullKey(key),
    UploadId: uploadId,
  })
  try {
    await store.call('AbortMultipartUpload', key, options, http => store.client.send(command, http))
  } catch (error) {
    if (!isGone(error)) throw error
  }
}

export async function* listUploads(
  store: Store,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<OpenUpload> {
  checkPrefix(prefix)
  let next: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {}
  while (next) {
    const marker: { KeyMarker?: string; UploadIdMarker?: string } = next
    const page = await store.call('ListMultipartUploads', prefix, options, http =>
      store.client.send(
        new ListMultipartUploadsCommand({ Bucket: store.bucket, Prefix: store.fullKey(prefix), ...marker }),
        http,
      ),
    )
    for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
      const key = store.ownKey(Key)
      if (key === undefined || !UploadId) continue
      yield { key, uploadId: UploadId, startedAt: Initiated ?? new Date(0) }
    }
    next =
      page.IsTruncated && page.NextKeyMarker
        ? {
            KeyMarker: page.NextKeyMarker,
            ...(page.NextUploadIdMarker ? { UploadIdMarker: page.NextUploadIdMarker } : {}),
          }
        : undefined
  }
}
