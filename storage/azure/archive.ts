/** What is said of blobs in the archive tier. */
import type { BlobGetPropertiesResponse } from '@azure/storage-blob'
import type { ObjectStat } from '../destination.ts'

/** As long as S3 is asked for a copy. */
const thawedDays = 7

export const isArchive = (tier: string): boolean => tier === 'Archive'

/** What Azure names as the most for blobs of standard priority. */
export const thawHours = (tier: string): number => (isArchive(tier) ? 15 : 0)

export function frozenIn({
  accessTier = '',
  archiveStatus,
  accessTierChangedOn: changedAt,
  accessTierInferred: inferred,
}: Pick<
  BlobGetPropertiesResponse,
  'accessTier' | 'archiveStatus' | 'accessTierChangedOn' | 'accessTierInferred'
>): Pick<ObjectStat, 'frozen' | 'thawed'> {
  // Azure does not say from where it came; what was put there a week ago is not moved either.
  const lately =
    !inferred && changedAt !== undefined && Date.now() - changedAt.getTime() < thawedDays * 86_400_000
  if (!isArchive(accessTier)) return accessTier === 'Hot' && lately ? { thawed: true } : {}
  return { frozen: archiveStatus?.startsWith('rehydrate-pending') ? 'thawing' : 'archived' }
}
