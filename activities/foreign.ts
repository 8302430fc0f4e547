/** Foreign backups: what the catalog's description promises, held against what lies there. */
import { HoldfastError } from '../model/errors.ts'
import { type ForeignFile, isSameFile, isUnwrapped, manifestOfForeign } from '../model/foreign.ts'
import type { Manifest } from '../model/manifest.ts'
import type { Destination } from '../storage/destination.ts'
import type { WorkerContext } from './context.ts'

/**
 * The description in the form of a manifest, once what lies there is found to be what was catalogued. Throws
 * `destination.object-missing`, `artifact.corrupted`.
 */
export async function loadForeign(
  { catalog }: Pick<WorkerContext, 'catalog'>,
  destination: Destination,
  backupId: string,
): Promise<Manifest> {
  const file = await catalog.foreign(backupId)
  await expectUnchanged(destination, file)
  return manifestOfForeign(backupId, file)
}

/** No restore without a hash to hold it to, a format that is known, and a wrapping that comes off on the way to the tool. */
export function expectRestorable(backupId: string, file: ForeignFile): void {
  const isKnown = file.engine !== null && file.format !== null
  if (file.sha256 === null || !isKnown) {
    throw new HoldfastError(
      'restore.unread',
      file.sha256 === null
        ? `Foreign backup ${backupId} (${file.key}): there is no hash yet that its restore could be held to.`
        : `Foreign backup ${backupId} (${file.key}): it was read, and is of no format that is known.`,
      { hint: `holdfast backups verify ${backupId} --level deep` },
    )
  }
  if (file.wrapping === null || isUnwrapped(file.wrapping)) return
  throw new HoldfastError(
    'restore.mismatch',
    `Foreign backup ${backupId} (${file.key}) is compressed by ${file.wrapping}, which a restore does not unpack on its way.`,
    {
      hint: `Unpack it where it lies (${file.wrapping} -dk FILE), then \`holdfast catalog sync\` once more, and verify and restore what that finds.`,
    },
  )
}

/** Throws `destination.object-missing`, `artifact.corrupted`. */
export async function expectUnchanged(destination: Destination, file: ForeignFile): Promise<void> {
  const stat = await destination.stat(file.key)
  if (stat === undefined) {
    throw new HoldfastError(
      'destination.object-missing',
      `Looking for ${file.key}: it is not in ${destination.uri} any more.`,
      { hint: 'holdfast catalog sync finds out what is there now.' },
    )
  }
  const now = { bytes: stat.bytes, tag: stat.tag ?? null, modifiedAt: stat.modifiedAt.toISOString() }
  if (isSameFile(file, now)) return
  throw new HoldfastError(
    'artifact.corrupted',
    `Looking at ${file.key}: it is not the file that was catalogued. It has ${now.bytes} bytes and is of ${now.modifiedAt}; it had ${file.bytes} and was of ${file.modifiedAt}.`,
    { hint: 'If somebody wrote another one there: holdfast catalog sync makes it a backup of its own.' },
  )
}
