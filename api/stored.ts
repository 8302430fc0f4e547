/** What the stores say of a backup's objects just now: locks, holds, classes. Nobody waits long for one. */
import { destinationSecrets, readDestination } from '../catalog/destinations.ts'
import { HoldfastError } from '../model/errors.ts'
import type { BackupRecord } from '../model/records.ts'
import type { BackupShown } from '../model/views.ts'
import { artifactKey, backupPrefix } from '../storage/backups.ts'
import { boundTo } from '../storage/bound.ts'
import type { ObjectStat } from '../storage/destination.ts'
import { openDestination } from '../storage/index.ts'
import type { ApiContext } from './context.ts'

const lookSeconds = 5

type Stored = BackupShown['stored'][number]

/** Of a list: not more stores' answers are waited for at once than this. */
const backupsAtOnce = 8
/** Of a list as a whole: what has not answered until then is left out. */
const listSeconds = 15

/** One entry for each copy in a store that has such things and answers. */
export async function lookAtStored(
  context: ApiContext,
  backup: BackupRecord,
  late = AbortSignal.timeout(lookSeconds * 1000),
): Promise<Stored[]> {
  const there = backup.copies.filter(copy => copy.state === 'committed')
  const looked = await Promise.all(there.map(copy => lookAt(context, backup, copy.destination, late)))
  return looked.filter(one => one !== undefined)
}

/** The same for each of a list, in its order. */
export async function lookAtEach(context: ApiContext, backups: readonly BackupRecord[]): Promise<Stored[][]> {
  const late = AbortSignal.timeout(listSeconds * 1000)
  const found: Stored[][] = backups.map(() => [])
  const queue = [...backups.entries()]
  const work = async () => {
    for (let next = queue.shift(); next && !late.aborted; next = queue.shift()) {
      const [index, backup] = next
      found[index] = await lookAtStored(context, backup, late)
    }
  }
  await Promise.all(Array.from({ length: backupsAtOnce }, work))
  return found
}

async function lookAt(
  { catalog, shellOn }: ApiContext,
  { id, connection, manifest, foreign }: BackupRecord,
  destination: string,
  late: AbortSignal,
): Promise<Stored | undefined> {
  try {
    const record = await readDestination(catalog, destination)
    const opened = await openDestination(record, await destinationSecrets(catalog, destination), { shellOn })
    try {
      if (!opened.capabilities.objectLock) return undefined
      const bound = boundTo(late, opened)
      const objects = await Promise.all(
        manifest.artifacts.map(artifact => bound.stat(artifactKey(connection, id, artifact))),
      )
      return summed(
        destination,
        [
          ...objects,
          ...(foreign ? [] : [await bound.stat(`${backupPrefix(connection, id)}manifest.json`)]),
        ].filter(one => one !== undefined),
      )
    } finally {
      await opened.close()
    }
  } catch (error) {
    // What is wrong there is said by the status and by verifying.
    if (late.aborted || error instanceof HoldfastError) return undefined
    throw error
  }
}

/** Of the whole: locked only while every object of it is, the manifest among them. */
function summed(destination: string, objects: readonly ObjectStat[]): Stored {
  const ends = objects.map(({ protection }) => protection?.lockedUntil?.getTime() ?? 0)
  const locked = objects.length > 0 ? Math.min(...ends) : 0
  const artifacts = objects.filter(({ key }) => !key.endsWith('/manifest.json'))
  const classes = new Set(artifacts.flatMap(({ storageClass }) => storageClass ?? []))
  return {
    destination,
    lockedUntil: locked > 0 ? new Date(locked).toISOString() : null,
    legalHold: objects.length > 0 && objects.every(({ protection }) => protection?.legalHold === true),
    storageClass: classes.size === 0 ? null : [...classes].sort().join(', '),
    archived: artifacts.some(({ frozen }) => frozen !== undefined),
  }
}
