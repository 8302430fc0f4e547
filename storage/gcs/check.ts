/** Whether a bucket takes, gives back, lists and removes what a backup needs, and locks it where that is wanted. */
import { HoldfastError, hasCode } from '../../model/errors.ts'
import { checkDestination, needing } from '../check.ts'
import type { CallOptions, Destination } from '../destination.ts'
import { precheckFolder } from '../object-key.ts'
import { lookAtBucket } from './objects.ts'
import type { Store } from './store.ts'
import { abortUpload, openUpload } from './uploads.ts'

export async function checkGcs(
  store: Store,
  destination: Destination,
  options: CallOptions,
): Promise<string[]> {
  await expectBucketWorks(store, options)
  try {
    // Opens an upload as an artifact is, with its lock: nothing is locked before an upload is completed.
    await checkDestination(destination, options)
  } catch (error) {
    throw await withRetention(store, error, options)
  }
  return []
}

async function expectBucketWorks(store: Store, options: CallOptions): Promise<void> {
  const bucket = await lookAtBucket(store, options)
  if (bucket === undefined) return
  if (bucket.retentionPolicy?.retentionPeriod !== undefined || bucket.defaultEventBasedHold === true) {
    throw new HoldfastError(
      'destination.misconfigured',
      `The bucket of ${store.uri} keeps every object by itself (${bucket.defaultEventBasedHold ? 'event-based holds' : `a retention policy of ${bucket.retentionPolicy?.retentionPeriod} seconds`}), also the records of uploads, which must change.`,
      {
        hint: 'Use a bucket with object retention instead, and lock what belongs to backups: --lock.',
      },
    )
  }
  const { retention } = store.written.lasting().fields
  if (retention !== undefined && bucket.objectRetention?.mode !== 'Enabled') {
    throw new HoldfastError(
      'destination.misconfigured',
      `The bucket of ${store.uri} has no object retention, which objectLock needs.`,
      { hint: 'Switch it on: gcloud storage buckets update gs://BUCKET --enable-per-object-retention.' },
    )
  }
}

/** An upload that is refused, but is not without a lock: then the permission for that is the missing one. */
async function withRetention(store: Store, error: unknown, options: CallOptions): Promise<unknown> {
  if (!hasCode(error, 'destination.denied') || store.written.lasting().fields.retention === undefined) {
    return error
  }
  const key = `${precheckFolder}/retention`
  try {
    const uploadId = await openUpload(store, key, { ...options, written: store.written.any })
    await abortUpload(store, new Map(), key, uploadId, options)
  } catch (other) {
    if (hasCode(other, 'destination.denied')) return error
    throw other
  }
  return needing(error, 'storage.objects.setRetention')
}
