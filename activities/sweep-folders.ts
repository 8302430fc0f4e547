/** What a store has of each backup, from one walk over it: objects and open uploads, whoever put them there. */
import { backupIdPattern, slugPattern } from '../model/ids.ts'
import { backupPrefix } from '../storage/backups.ts'
import type { Destination } from '../storage/destination.ts'
import { precheckFolder } from '../storage/object-key.ts'

export interface Folder {
  prefix: string
  connection: string
  backupId: string
  objects: number
  uploads: number
  /** Folders of attempts in it. */
  attempts: Set<string>
  committed: boolean
  deleted: boolean
  /** The youngest of its objects and uploads, by the store's clock. */
  newest: Date
}

export interface Walked {
  folders: Folder[]
  /** Uploads that are of no backup. */
  strays: { key: string; startedAt: Date }[]
}

/** `below`: one folder, looked at again. */
export async function walk(destination: Destination, stop: AbortSignal, below = ''): Promise<Walked> {
  const found = new Map<string, Folder>()
  const strays: Walked['strays'] = []
  const at = (key: string, time: Date): Folder | undefined => {
    const [connection = '', kind, backupId = '', ...rest] = key.split('/')
    const ours = kind === 'backups' && slugPattern.test(connection) && backupIdPattern.test(backupId)
    if (!ours || rest.length === 0) return undefined
    const prefix = backupPrefix(connection, backupId)
    const known = found.get(prefix) ?? {
      prefix,
      connection,
      backupId,
      objects: 0,
      uploads: 0,
      attempts: new Set(),
      committed: false,
      deleted: false,
      newest: time,
    }
    if (time > known.newest) known.newest = time
    if (rest.length > 1) known.attempts.add(rest[0] ?? '')
    found.set(prefix, known)
    return known
  }
  for await (const { key, modifiedAt } of destination.list(below)) {
    stop.throwIfAborted()
    const folder = at(key, modifiedAt)
    if (!folder) continue
    folder.objects += 1
    folder.committed ||= key === `${folder.prefix}manifest.json`
    folder.deleted ||= key === `${folder.prefix}deleted.json`
  }
  for await (const { key, startedAt } of destination.listUploads(below)) {
    stop.throwIfAborted()
    const folder = at(key, startedAt)
    if (folder) folder.uploads += 1
    else if (!key.startsWith(`${precheckFolder}/`)) strays.push({ key, startedAt })
  }
  return { folders: [...found.values()], strays }
}
