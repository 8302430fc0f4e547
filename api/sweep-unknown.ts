/**
 * What lies at a destination that the catalog knows nothing of: folders of backups that nobody committed, and uploads that
 * nobody goes on with, as they are left by a catalog that was lost. Found from the store's side; said always, removed on request only,
 * and never what is younger than an operation that may still be at work there.
 */
import { listAttempts } from '../catalog/attempts.ts'
import type { Catalog } from '../catalog/open.ts'
import { isInUse, oldestOpenSince } from '../catalog/pins.ts'
import { backupIdPattern, slugPattern } from '../model/ids.ts'
import { abandon, backupPrefix, type Locked, settled } from '../storage/backups.ts'
import type { Destination } from '../storage/destination.ts'
import { precheckFolder } from '../storage/object-key.ts'
import type { Swept } from './sweep.ts'

/** Clocks differ, and somebody may just be looking for the catalog. */
const quietMs = 24 * 3600 * 1000

/** What the store has of one backup's folder. */
export interface Folder {
  connection: string
  backupId: string
  objects: number
  uploads: number
  committed: boolean
  deleted: boolean
  /** The youngest of its objects and uploads, by the store's clock. */
  newest: Date
}

/** Collects folders while the store is walked over; keys that are in none are told apart. */
export function folders() {
  const found = new Map<string, Folder>()
  const strays: { key: string; startedAt: Date }[] = []
  const at = (key: string, time: Date): Folder | undefined => {
    const [connection = '', kind, backupId = '', ...rest] = key.split('/')
    const ours = kind === 'backups' && slugPattern.test(connection) && backupIdPattern.test(backupId)
    if (!ours || rest.length === 0) return undefined
    const prefix = backupPrefix(connection, backupId)
    const known = found.get(prefix) ?? {
      connection,
      backupId,
      objects: 0,
      uploads: 0,
      committed: false,
      deleted: false,
      newest: time,
    }
    if (time > known.newest) known.newest = time
    found.set(prefix, known)
    return known
  }
  return {
    found,
    strays,
    object(key: string, modifiedAt: Date): void {
      const folder = at(key, modifiedAt)
      if (!folder) return
      folder.objects += 1
      folder.committed ||= key.endsWith('/manifest.json')
      folder.deleted ||= key.endsWith('/deleted.json')
    },
    upload(key: string, startedAt: Date): void {
      const folder = at(key, startedAt)
      if (folder) folder.uploads += 1
      else if (!key.startsWith(`${precheckFolder}/`)) strays.push({ key, startedAt })
    },
  }
}

/** `known`: folders that the catalog's attempts name. `remove`: those that are old enough go. */
export async function sweepUnknown(
  catalog: Catalog,
  name: string,
  opened: Destination,
  walked: Pick<ReturnType<typeof folders>, 'found' | 'strays'>,
  known: ReadonlySet<string>,
  remove: boolean,
  result: Swept,
): Promise<void> {
  const open = await oldestOpenSince(catalog.db, name)
  const until = new Date(Math.min(Date.now() - quietMs, open ? Date.parse(open) : Number.POSITIVE_INFINITY))
  for (const [prefix, folder] of walked.found) {
    // What is left in the folder of a committed backup may be of a copy of it, or of those who wrote it.
    if (known.has(prefix) || folder.committed) continue
    if (folder.deleted && folder.objects === 1 && folder.uploads === 0) continue
    // Asked after the store was: an attempt is written down before its first byte is sent.
    if (await isKnown(catalog, name, folder)) continue
    const what = `${name}/${prefix} (${folder.objects} objects, ${folder.uploads} uploads)`
    const since = folder.newest.toISOString()
    if (!remove) {
      result.skipped.push(
        unknown(
          what,
          `It was last written to at ${since}. If no other Holdfast writes there, \`holdfast sweep --unknown\` removes it a day after.`,
        ),
      )
    } else if (folder.newest > until) {
      const why =
        open && folder.newest.toISOString() > open
          ? `an operation is at work there since ${open}`
          : 'that is less than a day ago'
      result.skipped.push(unknown(what, `It was last written to at ${since}: ${why}, so it stays.`))
    } else {
      const locked = result.dryRun ? undefined : await giveUp(opened, folder)
      result.removed.push(what)
      if (locked) result.skipped.push({ what, code: locked.error.code, detail: locked.error.message })
    }
  }
  for (const { key, startedAt } of walked.strays) {
    result.skipped.push(
      unknown(
        `upload ${name}/${key}`,
        `It is open since ${startedAt.toISOString()} and of no backup; it is left to whoever began it.`,
      ),
    )
  }
}

const unknown = (what: string, detail: string): Swept['skipped'][number] => ({
  what,
  code: 'request.not-found',
  detail: `This catalog knows nothing of it. ${detail}`,
})

async function isKnown(catalog: Catalog, name: string, { backupId }: Folder): Promise<boolean> {
  const attempts = await listAttempts(catalog, { backup: backupId })
  return (
    attempts.some(attempt => attempt.destinations.includes(name)) ||
    (await isInUse(catalog.db, name, backupId))
  )
}

/** Asked once more: whoever wrote there may have come to its end since it was listed. */
async function giveUp(opened: Destination, { connection, backupId }: Folder): Promise<Locked | undefined> {
  if ((await settled(opened, connection, backupId)).state === 'committed') return undefined
  return await abandon(opened, connection, backupId, { by: 'sweep', reason: 'no catalog knows it' })
}
