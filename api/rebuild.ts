/** The catalog's list of backups, read again from the destinations: signatures checked, nothing invented. */
import { backupFacts } from '../activities/commit.ts'
import { findBackup, recordBackup } from '../catalog/backups.ts'
import { markDeleted } from '../catalog/copies.ts'
import { recordOpeners } from '../catalog/openers.ts'
import { trustedInstallations } from '../catalog/trust.ts'
import { HoldfastError } from '../model/errors.ts'
import { backupIdPattern, slugPattern } from '../model/ids.ts'
import { canonical, type Manifest } from '../model/manifest.ts'
import { homePaths } from '../model/settings.ts'
import { committedAtOf, type ListedBackup, listBackups, readKeySidecars } from '../storage/backups.ts'
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
  if (known && !isCopyOf(known.manifest, manifest)) {
    const [copy] = known.copies
    throw new HoldfastError(
      'request.exists',
      `Backup ${backupId} is known at destination ${copy?.destination}, and is not the same there: made by installation ${known.manifest.installationId}, attempt ${known.manifest.attemptId}.`,
    )
  }
  const committedAt = await committedAtOf(opened, connection, backupId)
  const answer = await recordBackup(catalog, backupFacts(manifest, null), [{ destination, committedAt }])
  const sidecars = await readKeySidecars(opened, connection, backupId, manifest.attemptId)
  await recordOpeners(catalog.db, { destination, connection, backupId }, openersOf(manifest, sidecars))
  return answer
}

/** Copies of one backup have one manifest, bit for bit. */
const isCopyOf = (one: Manifest, other: Manifest): boolean => canonical(one) === canonical(other)
