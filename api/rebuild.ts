/** The catalog's list of backups, read again from the destinations: signatures checked, nothing invented. */
import { backupRecord } from '../activities/commit.ts'
import { findBackup, markDeleted, recordBackup } from '../catalog/backups.ts'
import { recordOpeners } from '../catalog/openers.ts'
import { trustedInstallations } from '../catalog/trust.ts'
import { HoldfastError } from '../model/errors.ts'
import { backupIdPattern, slugPattern } from '../model/ids.ts'
import { homePaths } from '../model/settings.ts'
import { type ListedBackup, listBackups, readKeySidecars } from '../storage/backups.ts'
import type { Destination } from '../storage/destination.ts'
import { verifyManifest } from '../storage/manifest.ts'
import { openersOf } from '../storage/sidecars.ts'
import type { ApiContext } from './context.ts'

export interface Rebuilt {
  /** Committed backups that were met. */
  found: number
  /** Of these, those that the catalog did not know. */
  added: number
  refused: { backup: string; destination: string; code: string; detail: string }[]
}

/** One that is refused (forged, damaged, of an unknown installation) does not keep the others. */
export async function rebuildFrom(context: ApiContext, name: string, opened: Destination): Promise<Rebuilt> {
  const { catalog, settings } = context
  const trusted = await trustedInstallations(catalog, homePaths(settings.home).keys)
  const result: Rebuilt = { found: 0, added: 0, refused: [] }
  for await (const listed of listBackups(opened)) {
    if (listed.state === 'deleted') await markDeleted(catalog, listed.backupId, name)
    if (listed.state !== 'committed') continue
    result.found += 1
    try {
      if ((await take(context, name, opened, listed, trusted)) === 'added') result.added += 1
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      const backup = `${listed.connection}/${listed.backupId}`.slice(0, 200)
      result.refused.push({ backup, destination: name, code: error.code, detail: error.message })
    }
  }
  return result
}

async function take(
  { catalog }: ApiContext,
  destination: string,
  opened: Destination,
  listed: ListedBackup,
  trusted: Record<string, Record<string, string>>,
): Promise<'added' | 'known'> {
  const { connection, backupId } = listed
  if (!slugPattern.test(connection) || !backupIdPattern.test(backupId)) {
    throw new HoldfastError('manifest.invalid', 'The folder is not named as a backup of ours.')
  }
  const manifest = await verifyManifest(listed.signed, trusted)
  // A manifest that was copied to another place would give its backup another name.
  if (manifest.connection !== connection || manifest.backupId !== backupId) {
    throw new HoldfastError(
      'manifest.invalid',
      `The manifest is that of backup ${manifest.backupId} of ${manifest.connection}.`,
    )
  }
  const known = await findBackup(catalog, backupId)
  if (known && known.destination !== destination) {
    throw new HoldfastError(
      'request.exists',
      `Backup ${backupId} is known at destination ${known.destination} already.`,
    )
  }
  const answer = await recordBackup(catalog, backupRecord(manifest, destination, null))
  const sidecars = await readKeySidecars(opened, connection, backupId, manifest.attemptId)
  await recordOpeners(catalog.db, { destination, connection, backupId }, openersOf(manifest, sidecars))
  return answer
}
