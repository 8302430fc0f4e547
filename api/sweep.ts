/**
 * Removes what closed operations left behind, at destinations we hold: folders of backups that an attempt in our catalog names,
 * and staging of operations our catalog knows as closed. What else lies there is found and said: sweep-unknown.ts.
 */

import { isProbe } from '../activities/probe.ts'
import { listAttempts } from '../catalog/attempts.ts'
import { findBackup } from '../catalog/backups.ts'
import { listDestinations, markReadOnly, readOwnDestination } from '../catalog/destinations.ts'
import { rememberedEpoch } from '../catalog/epochs.ts'
import { hasWorker, listHosts } from '../catalog/hosts.ts'
import { writerIdentity } from '../catalog/installation.ts'
import { findOperation, isClosed } from '../catalog/operations.ts'
import { isInUse } from '../catalog/pins.ts'
import { HoldfastError } from '../model/errors.ts'
import type { AttemptRecord } from '../model/records.ts'
import {
  abandon,
  backupPrefix,
  type Locked,
  listBackups,
  purgeDeleted,
  removeOtherAttempts,
  settled,
} from '../storage/backups.ts'
import type { Destination } from '../storage/destination.ts'
import { claimOrCheck } from '../storage/installation.ts'
import { removeOldPrechecks } from '../storage/prechecks.ts'
import type { ApiContext } from './context.ts'
import { withDestination } from './routes/destinations.ts'
import { folders, sweepUnknown } from './sweep-unknown.ts'

export interface Swept {
  dryRun: boolean
  removed: string[]
  skipped: { what: string; code: string; detail: string }[]
}

const thirtyDaysMs = 30 * 24 * 3600 * 1000

/**
 * One destination that does not answer does not keep the others. `unknown`: what the catalog does not know goes, too.
 * `only`: this destination, and no machine.
 */
export async function sweep(
  context: ApiContext,
  { dryRun, unknown, only }: { dryRun: boolean; unknown: boolean; only: string | undefined },
): Promise<Swept> {
  const result: Swept = { dryRun, removed: [], skipped: [] }
  const skip = (what: string, error: unknown) => {
    if (!(error instanceof HoldfastError)) throw error
    result.skipped.push({ what, code: error.code, detail: error.message })
  }
  const names =
    only === undefined
      ? (await listDestinations(context.catalog)).map(({ name }) => name)
      : [(await readOwnDestination(context.catalog, only)).name]
  for (const name of names) {
    try {
      await withDestination(context, name, async opened => {
        await holdStill(context, name, opened)
        await sweepDestination(context, name, opened, unknown, result)
      })
    } catch (error) {
      skip(name, error)
    }
  }
  if (only !== undefined) return result
  // A host with a worker of its own is kept clear by that one.
  for (const name of [
    'local',
    ...(await listHosts(context.catalog)).filter(host => !hasWorker(host)).map(host => host.name),
  ]) {
    try {
      await sweepHost(context, name, result, unknown)
    } catch (error) {
      skip(`host ${name}`, error)
    }
  }
  return result
}

/** Throws `destination.read-only` when another Holdfast (or a copy of this one) writes there. */
async function holdStill({ catalog }: ApiContext, name: string, opened: Destination): Promise<void> {
  try {
    await claimOrCheck(opened, await writerIdentity(catalog), await rememberedEpoch(catalog, name))
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'destination.read-only') {
      await markReadOnly(catalog, name, true)
    }
    throw error
  }
}

async function sweepDestination(
  context: ApiContext,
  name: string,
  opened: Destination,
  unknown: boolean,
  result: Swept,
): Promise<void> {
  const { ours, open } = await knownBackups(context, name)
  const walked = folders()
  const present = await contents(opened, new Set(ours.keys()), walked)
  for (const [prefix, attempts] of ours) {
    const [{ connection, backupId }] = attempts as [AttemptRecord]
    const there = present.get(prefix) ?? { keys: [], uploads: [] }
    const names = new Set(there.keys.map(key => key.slice(prefix.length)))
    const elsewhere = await isElsewhere(context, backupId, name)
    let goes: (key: string) => boolean
    let remove: () => Promise<Locked | undefined>
    if (names.has('manifest.json') && !names.has('deleted.json')) {
      const state = await settled(opened, connection, backupId)
      if (state.state !== 'committed') continue
      const { attemptId } = state.signed
      goes = key => key.slice(prefix.length).includes('/') && !key.startsWith(`${prefix}${attemptId}/`)
      remove = () => removeOtherAttempts(opened, connection, backupId, attemptId)
    } else if (elsewhere && !names.has('deleted.json')) {
      // No marker: it may be copied here yet.
      goes = key => key.slice(prefix.length).includes('/')
      remove = () => removeOtherAttempts(opened, connection, backupId, '')
    } else {
      goes = key => key !== `${prefix}deleted.json`
      remove = () => abandon(opened, connection, backupId, { by: 'sweep', reason: 'its operation is closed' })
    }
    const leftovers = [
      ...there.keys.filter(goes).map(key => `${name}/${key}`),
      ...there.uploads.filter(goes).map(key => `upload ${name}/${key}`),
    ]
    // Ended from outside before anybody could say that it was given up: a late commit must find the marker.
    const unmarked =
      !elsewhere && !names.has('manifest.json') && !names.has('deleted.json') && attempts.some(isRecent)
    if (leftovers.length === 0 && !unmarked) continue
    // Asked now: a copy of it may have begun since, or is to come.
    if (await isInUse(context.catalog.db, name, backupId)) continue
    const locked = result.dryRun ? undefined : await remove()
    const stays = new Set(locked?.keys.map(key => `${name}/${key}`))
    result.removed.push(...leftovers.filter(what => !stays.has(what)))
    if (locked) {
      const { code, message } = locked.error
      for (const what of stays) result.skipped.push({ what, code, detail: message })
    }
  }
  const known = new Set([...ours.keys(), ...open])
  await sweepUnknown(context.catalog, name, opened, walked, known, unknown, result)
  const prechecks = await removeOldPrechecks(opened, new Date(), result.dryRun)
  result.removed.push(...prechecks.map(key => `${name}/${key}`))
  const purged = result.dryRun ? await purgeable(opened) : await purgeDeleted(opened, new Date())
  result.removed.push(...purged.map(id => `marker ${name}/${id}`))
}

/** Lost here, and not at its other destinations. */
const isElsewhere = async ({ catalog }: ApiContext, backupId: string, name: string): Promise<boolean> =>
  ((await findBackup(catalog, backupId))?.copies ?? []).some(
    copy => copy.destination !== name && copy.state === 'committed',
  )

const isRecent = ({ createdAt }: AttemptRecord): boolean => Date.now() - Date.parse(createdAt) < thirtyDaysMs

/** Attempts of ours by their backup's folder: where every operation that made one is closed, and the other folders. */
async function knownBackups(
  { catalog }: ApiContext,
  name: string,
): Promise<{ ours: Map<string, AttemptRecord[]>; open: Set<string> }> {
  const found = new Map<string, AttemptRecord[]>()
  const open = new Set<string>()
  for (const attempt of await listAttempts(catalog, { destination: name })) {
    const prefix = backupPrefix(attempt.connection, attempt.backupId)
    const operation = await findOperation(catalog, attempt.operationId)
    if (operation && !isClosed(operation.state)) open.add(prefix)
    found.set(prefix, [...(found.get(prefix) ?? []), attempt])
  }
  for (const prefix of open) found.delete(prefix)
  return { ours: found, open }
}

/** What lies in these folders, and what in all others: one walk over the destination. */
async function contents(
  opened: Destination,
  prefixes: ReadonlySet<string>,
  walked: ReturnType<typeof folders>,
) {
  const found = new Map<string, { keys: string[]; uploads: string[] }>()
  const at = (key: string) => {
    const prefix = `${key.split('/').slice(0, 3).join('/')}/`
    if (!prefixes.has(prefix)) return undefined
    const known = found.get(prefix) ?? { keys: [], uploads: [] }
    found.set(prefix, known)
    return known
  }
  for await (const { key, modifiedAt } of opened.list('')) {
    at(key)?.keys.push(key)
    walked.object(key, modifiedAt)
  }
  for await (const { key, startedAt } of opened.listUploads('')) {
    at(key)?.uploads.push(key)
    walked.upload(key, startedAt)
  }
  return found
}

/** Markers that a sweep would remove for good. */
async function purgeable(opened: Destination): Promise<string[]> {
  const ids: string[] = []
  for await (const { connection, backupId, state } of listBackups(opened)) {
    if (state !== 'deleted') continue
    const marker = await opened.stat(`${backupPrefix(connection, backupId)}deleted.json`)
    if (marker && Date.now() - marker.modifiedAt.getTime() > thirtyDaysMs) ids.push(backupId)
  }
  return ids
}

/**
 * Staging and jobs of operations that our catalog knows as closed. What it does not know may be somebody else's who was
 * given the same directory, or of a catalog that was lost: said, and left to whoever knows which.
 */
async function sweepHost(
  { catalog, hostNamed }: ApiContext,
  name: string,
  result: Swept,
  unknown: boolean,
): Promise<void> {
  const machine = await hostNamed(name)
  for (const id of await machine.operations()) {
    // Asking a server who it is; see probe.ts.
    if (isProbe(id)) continue
    const operation = await findOperation(catalog, id)
    if (operation && !isClosed(operation.state)) continue
    if (!operation && !unknown) {
      result.skipped.push({
        what: `host ${id}`,
        code: 'request.not-found',
        detail: `This catalog knows no such operation: of a lost catalog, or of another Holdfast with the staging directory ${machine.stagingRoot}. If it is no other's, \`holdfast sweep --unknown\` removes it.`,
      })
      continue
    }
    if (!result.dryRun) {
      await machine.stopOperation(id)
      await machine.removeOperation(id)
    }
    result.removed.push(`host ${id}`)
  }
}
