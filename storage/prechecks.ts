/** What a check of a destination leaves there when its process is killed in the middle of it: a few kilobytes each time. */
import { hasCode } from '../model/errors.ts'
import type { Destination } from './destination.ts'
import { precheckFolder } from './object-key.ts'

const dayMs = 24 * 3600 * 1000

/** Removes what is older than a day, by the store's clock; one that runs now is left alone. Returns what went, or would. */
export async function removeOldPrechecks(
  destination: Destination,
  now: Date,
  dryRun: boolean,
): Promise<string[]> {
  const gone: string[] = []
  const isOld = (at: Date) => now.getTime() - at.getTime() > dayMs
  for await (const { key, uploadId, startedAt } of destination.listUploads(`${precheckFolder}/`)) {
    if (!isOld(startedAt)) continue
    if (!dryRun) await destination.abortUpload(key, uploadId)
    gone.push(key)
  }
  for await (const { key, modifiedAt } of destination.list(`${precheckFolder}/`)) {
    if (!isOld(modifiedAt)) continue
    try {
      if (!dryRun) await destination.remove(key)
      gone.push(key)
    } catch (error) {
      // A bucket that locks whatever is written keeps this, too, for its time.
      if (!hasCode(error, 'destination.locked')) throw error
    }
  }
  return gone
}
