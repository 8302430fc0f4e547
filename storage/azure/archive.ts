/** What is said of blobs in the archive tier. */
import type { BlobGetPropertiesResponse } from '@azure/storage-blob'
import type { ObjectStat } from '../destination.ts'

export const isArchive = (tier: string): boolean => tier === 'Archive'

/** What Azure names as the most for blobs of standard priority. */
export const thawHours = (tier: string): number => (isArchive(tier) ? 15 : 0)

export function frozenIn({
  accessTier = '',
  archiveStatus,
}: Pick<BlobGetPropertiesResponse, 'accessTier' | 'archiveStatus'>): Pick<ObjectStat, 'frozen'> {
  if (!isArchive(accessTier)) return {}
  return { frozen: archiveStatus?.startsWith('rehydrate-pending') ? 'thawing' : 'archived' }
}
