/** Object lock: retention and legal holds. A bucket has it from its making on, always with versions. */
import {
  GetObjectLockConfigurationCommand,
  GetObjectRetentionCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
} from '@aws-sdk/client-s3'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import type { CallOptions, ObjectStat, Protection } from '../destination.ts'
import { expectProtection, isProtected, lockedObject } from '../locked.ts'
import type { Store } from './store.ts'

/** What an answer to HEAD says; nothing to those who may not know. */
export function protectionOf(
  answer: Pick<HeadObjectCommandOutput, 'ObjectLockRetainUntilDate' | 'ObjectLockLegalHoldStatus'>,
): { protection?: Protection } {
  const { ObjectLockRetainUntilDate: until, ObjectLockLegalHoldStatus: hold } = answer
  if (until === undefined && hold !== 'ON') return {}
  return {
    protection: {
      ...(until === undefined ? {} : { lockedUntil: until }),
      ...(hold === 'ON' ? { legalHold: true } : {}),
    },
  }
}

/**
 * Whether removing a version was refused for its lock: then that, with its end where the store tells it. `error`: what the
 * store said.
 */
export async function lockedError(
  store: Store,
  key: string,
  version: string | undefined,
  error: unknown,
  options: CallOptions,
): Promise<HoldfastError | undefined> {
  if (!(error instanceof HoldfastError)) return undefined
  const said = /object[ -]?lock|WORM|retention|legal hold/i.test(
    `${error.context.storeCode} ${error.message}`,
  )
  if (!said && error.code !== 'destination.denied') return undefined
  const command = new HeadObjectCommand({
    Bucket: store.bucket,
    Key: store.fullKey(key),
    ...(version === undefined ? {} : { VersionId: version }),
  })
  const seen = await store
    .call('HeadObject', key, options, http => store.client.send(command, http))
    .catch(() => undefined)
  const { protection } = seen ? protectionOf(seen) : {}
  return said || isProtected(protection) ? lockedObject(`${store.uri}/${key}`, protection) : undefined
}

/** Throws `destination.misconfigured` where the store did not lock what it was told to; `destination.denied` where it does not say. */
export async function expectProtected(store: Store, made: ObjectStat, options: CallOptions): Promise<void> {
  const asked = store.written.lasting()
  const locked = asked.ObjectLockRetainUntilDate !== undefined
  const seen = { ...made.protection }
  // HEAD keeps it from those who may not ask for it; this says which permission that is.
  if (locked && seen.lockedUntil === undefined) {
    const until = await retentionOf(store, made, options)
    if (until) seen.lockedUntil = until
  }
  const held = asked.ObjectLockLegalHoldStatus === 'ON'
  expectProtection(`${store.uri}/${made.key}`, seen, { locked, held })
}

async function retentionOf(store: Store, made: ObjectStat, options: CallOptions): Promise<Date | undefined> {
  const command = new GetObjectRetentionCommand({ Bucket: store.bucket, Key: store.fullKey(made.key) })
  try {
    const { Retention } = await store.call('GetObjectRetention', made.key, options, http =>
      store.client.send(command, http),
    )
    return Retention?.RetainUntilDate
  } catch (error) {
    if (hasCode(error, 'destination.denied')) throw error
    return undefined
  }
}

/** `undefined`: the store does not say, or not to us. */
export interface BucketLock {
  enabled: boolean
  /** What the bucket itself does to every object, e.g. "GOVERNANCE, 30 days". */
  byDefault: string | undefined
}

export async function bucketLock(store: Store, options: CallOptions): Promise<BucketLock | undefined> {
  try {
    const { ObjectLockConfiguration } = await store.call('GetObjectLockConfiguration', '', options, http =>
      store.client.send(new GetObjectLockConfigurationCommand({ Bucket: store.bucket }), http),
    )
    const { Mode, Days, Years } = ObjectLockConfiguration?.Rule?.DefaultRetention ?? {}
    const length = Days ? `${Days} days` : `${Years} years`
    return {
      enabled: ObjectLockConfiguration?.ObjectLockEnabled === 'Enabled',
      byDefault: Mode ? `${Mode}, ${length}` : undefined,
    }
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    if (error.context.storeCode === 'ObjectLockConfigurationNotFoundError') {
      return { enabled: false, byDefault: undefined }
    }
    // Stores that know no such question answer it in many ways, and who may not ask is refused.
    if (hasCode(error, 'destination.denied', 'destination.misconfigured', 'destination.object-missing'))
      return undefined
    throw error
  }
}
