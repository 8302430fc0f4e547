/** Bringing back what lies in the archive. */
import { archivedObject, missingObject } from '../classes.ts'
import type { CallOptions, StorageClasses } from '../destination.ts'
import { isArchive, thawHours } from './archive.ts'
import { statObject } from './objects.ts'
import type { Store } from './store.ts'

export const classesOf = (store: Store): StorageClasses => ({
  isArchive,
  thawHours,
  async thaw(key, _days, options = {}) {
    // Asked again while it is on its way, Azure refuses. It gives no copy: the blob itself moves.
    if ((await statObject(store, key, options))?.frozen === 'archived')
      await setTier(store, key, 'Hot', options)
  },
})

/** In place: also where it is locked, and without another version. */
export async function moveObject(
  store: Store,
  key: string,
  tier: string,
  options: CallOptions = {},
): Promise<void> {
  const there = await statObject(store, key, options)
  if (there === undefined) throw missingObject(`${store.uri}/${key}`)
  if (there.storageClass === tier) return
  if (there.frozen) throw archivedObject(`${store.uri}/${key}`)
  await setTier(store, key, tier, options)
}

async function setTier(store: Store, key: string, tier: string, options: CallOptions): Promise<void> {
  await store.call('Set Blob Tier', key, options, abortSignal =>
    store.blob(key).setAccessTier(tier, { abortSignal, rehydratePriority: 'Standard' }),
  )
}
