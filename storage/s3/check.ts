/** Whether a bucket takes, gives back, lists and removes what a backup needs; names the permission that is missing. */
import { randomBytes } from 'node:crypto'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import { archiveNote, soonAfter } from '../check.ts'
import type { CallOptions } from '../destination.ts'
import { precheckFolder } from '../object-key.ts'
import { isArchive, thawHours } from './archives.ts'
import { expectThaw } from './classes.ts'
import { bucketLock } from './lock.ts'
import { deletePlainly, listObjects, putObject, readObject, removeObject } from './objects.ts'
import { withMissingPermission } from './permissions.ts'
import type { Store } from './store.ts'
import { abortUpload, listParts, listUploads, openUpload } from './uploads.ts'

export async function checkS3(store: Store, options: CallOptions): Promise<string[]> {
  const lock = await bucketLock(store, options)
  if (store.protects && lock?.enabled === false) {
    throw new HoldfastError(
      'destination.misconfigured',
      `The bucket of ${store.uri} has no object lock, which objectLock and legalHold need.`,
      {
        hint: 'A bucket gets object lock when it is made, or later by its owner: put-object-lock-configuration.',
      },
    )
  }
  const key = `${precheckFolder}/${randomBytes(9).toString('hex')}`
  const body = randomBytes(4096)
  const last = soonAfter(options.signal)
  try {
    await putObject(store, key, body, { ...options, ifAbsent: true })
  } catch (error) {
    // Whoever does not wait for the answer does not know whether it is there.
    if (options.signal?.aborted) await removePrecheck(store, key, last)
    throw await withMissingPermission(store, key, error, last)
  }
  try {
    await findConditionalPut(store, key, body, options)
    const back = await readObject(store, key, options)
    if (!back || !body.equals(back)) {
      throw new HoldfastError(
        'destination.corrupted',
        `${store.uri} gave back other bytes than were written to it.`,
      )
    }
    let listed = false
    for await (const found of listObjects(store, key, options)) listed ||= found.key === key
    if (!listed)
      throw new HoldfastError('destination.corrupted', `${store.uri} does not list what was written to it.`)
    await checkUploads(store, `${key}-parts`, options)
    if (isArchive(store.storageClass ?? '')) await expectThaw(store, key, options)
  } finally {
    await removePrecheck(store, key, last)
  }
  return [
    ...(lock?.byDefault === undefined
      ? []
      : [
          `The bucket itself locks what is written (${lock.byDefault}): what is given up stays until then, also without objectLock.`,
        ]),
    ...archiveNote(store.storageClass, isArchive, thawHours),
  ]
}

/** Some stores take If-None-Match and overwrite all the same: found out here, before anything leans on it. */
async function findConditionalPut(
  store: Store,
  key: string,
  body: Uint8Array,
  options: CallOptions,
): Promise<void> {
  try {
    await putObject(store, key, body, { ...options, ifAbsent: true })
    store.findings.conditionalPut = false
  } catch (error) {
    if (!hasCode(error, 'destination.exists')) throw error
  }
}

/** Opened as an artifact is, with its lock: nothing is locked before an upload is completed. */
async function checkUploads(store: Store, key: string, options: CallOptions): Promise<void> {
  const uploadId = await openUpload(store, key, options).catch(async error => {
    throw await withMissingPermission(store, key, error, soonAfter(options.signal))
  })
  try {
    await listParts(store, key, uploadId, options)
    for await (const _upload of listUploads(store, key, options)) break
  } finally {
    await abortUpload(store, key, uploadId, soonAfter(options.signal))
  }
}

/** A bucket that locks what is written locks this object too; hiding it is all that can be done then. */
async function removePrecheck(store: Store, key: string, options: CallOptions): Promise<void> {
  try {
    await removeObject(store, key, options)
  } catch (error) {
    const locked = hasCode(error, 'destination.denied') && store.findings.versioned
    if (!locked && !hasCode(error, 'destination.locked')) throw error
    await deletePlainly(store, key, options)
  }
}
