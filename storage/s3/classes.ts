/** Bringing back what lies in an archive. */
import { RestoreObjectCommand } from '@aws-sdk/client-s3'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import { missingObject } from '../classes.ts'
import type { CallOptions, StorageClasses } from '../destination.ts'
import { isArchive, movesByItself, thawHours } from './archives.ts'
import { statObject } from './objects.ts'
import type { Store } from './store.ts'

export const classesOf = (store: Store): StorageClasses => ({
  isArchive,
  thawHours,
  async thaw(key, days, options = {}) {
    const there = await statObject(store, key, options)
    if (there === undefined) throw missingObject(`${store.uri}/${key}`)
    // What archives by itself gives no copy, and takes no days.
    await askFor(store, key, there.storageClass === movesByItself ? undefined : days, options)
  },
})

/** It is on its way, or was never away. */
const fine = ['RestoreAlreadyInProgress', 'ObjectAlreadyInActiveTierError']

async function askFor(
  store: Store,
  key: string,
  days: number | undefined,
  options: CallOptions,
): Promise<void> {
  const command = new RestoreObjectCommand({
    Bucket: store.bucket,
    Key: store.fullKey(key),
    RestoreRequest: {
      ...(days === undefined ? {} : { Days: days }),
      GlacierJobParameters: { Tier: 'Standard' },
    },
  })
  try {
    await store.call('RestoreObject', key, options, http => store.client.send(command, http))
  } catch (error) {
    if (!(error instanceof HoldfastError) || !fine.includes(String(error.context.storeCode))) throw error
  }
}

/**
 * Whether objects can be brought back: asked for one that is in no archive, which a store that has archives refuses as just
 * that. Throws `destination.denied`, `destination.misconfigured`.
 */
export async function expectThaw(store: Store, key: string, options: CallOptions): Promise<void> {
  try {
    await askFor(store, key, 1, options)
  } catch (error) {
    if (!hasCode(error, 'destination.archived')) throw error
  }
}
