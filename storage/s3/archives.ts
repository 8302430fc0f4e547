/** Which classes are archives, and what is said of objects in them. */
import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3'
import type { ObjectStat } from '../destination.ts'

/** Hours that Amazon names for its standard retrieval. */
const hours: Record<string, number> = { GLACIER: 5, DEEP_ARCHIVE: 12 }
/** It archives by itself, if at all: each object tells. */
export const movesByItself = 'INTELLIGENT_TIERING'

export const isArchive = (storageClass: string): boolean => Object.hasOwn(hours, storageClass)

export const thawHours = (storageClass: string): number =>
  hours[storageClass] ?? (storageClass === movesByItself ? 12 : 0)

/** What an answer to HEAD says. `Restore` is that of a copy: on its way, or readable until a date. */
export function frozenIn({
  StorageClass: storageClass = 'STANDARD',
  ArchiveStatus: archiveStatus,
  Restore: restore = '',
}: Pick<HeadObjectCommandOutput, 'StorageClass' | 'ArchiveStatus' | 'Restore'>): Pick<
  ObjectStat,
  'frozen' | 'thawed'
> {
  if (!isArchive(storageClass) && archiveStatus === undefined) return {}
  if (restore.includes('ongoing-request="true"')) return { frozen: 'thawing' }
  const until = Date.parse(/expiry-date="([^"]+)"/.exec(restore)?.[1] ?? '')
  return until > Date.now() ? { thawed: true } : { frozen: 'archived' }
}
