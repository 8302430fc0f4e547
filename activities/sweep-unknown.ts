/**
 * What lies at a destination that the catalog knows nothing of: folders of backups that nobody committed, and uploads that
 * nobody goes on with, as they are left by a catalog that was lost. Said always, removed on request only, and never what is younger
 * than an operation that may still be at work there.
 */
import { settled } from '../storage/backups.ts'
import { type Folder, walk } from './sweep-folders.ts'
import { giveUp, type Place } from './sweep-remove.ts'

/** Clocks differ, and somebody may just be looking for the catalog. */
const quietMs = 24 * 3600 * 1000

/** `openSince`: when the oldest open operation there began. */
export async function sweepUnknown(place: Place, folder: Folder, openSince: string | null): Promise<void> {
  // What is left in the folder of a committed backup may be of a copy of it, or of those who wrote it.
  if (folder.committed) return
  const { name, input, notes, turn, destination } = place
  const { prefix, connection, backupId } = folder
  // Whoever is at work there may have written since it was listed.
  const [now] = (await walk(destination, turn.signal, prefix)).folders
  if (!now || now.committed) return
  const what = `${name}/${prefix} (${now.objects} objects, ${now.uploads} uploads)`
  const since = now.newest.toISOString()
  const why = tooYoung(now.newest, openSince)
  if (!input.unknown) {
    await notes.unknown(
      what,
      `It was last written to at ${since}. If no other Holdfast writes there, \`holdfast sweep --unknown\` removes it a day after.`,
    )
  } else if (why !== undefined) {
    await notes.unknown(what, `It was last written to at ${since}: ${why}, so it stays.`)
  } else if ((await settled(destination, connection, backupId)).state !== 'committed') {
    await giveUp(place, folder, 'no catalog knows it')
  }
}

/** Why what was last touched then may still be somebody's. */
export function tooYoung(touched: Date, openSince: string | null): string | undefined {
  if (openSince !== null && touched.toISOString() > openSince) {
    return `an operation is at work there since ${openSince}`
  }
  return Date.now() - touched.getTime() < quietMs ? 'that is less than a day ago' : undefined
}
