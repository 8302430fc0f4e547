/**
 * A sweep of one destination: what closed operations have left there goes, what the catalog does not know is said. The store is
 * looked at first and the catalog asked after it, as an attempt is written down before its first byte is sent. Then each folder is
 * claimed, and looked at once more, right before something is removed from it: the first look may be hours old.
 */
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { SweepInput } from '../model/records.ts'
import { abandon, backupPrefix, purgeDeleted, settled } from '../storage/backups.ts'
import { removeOldPrechecks } from '../storage/prechecks.ts'
import type { WorkerContext } from './context.ts'
import { expectWriter, writerEpoch } from './epoch.ts'
import type { PausableTurn } from './pausing.ts'
import { type Folder, walk } from './sweep-folders.ts'
import { notesOf, type SweptCount } from './sweep-notes.ts'
import { giveUp, type Place, removeEach } from './sweep-remove.ts'
import { sweepUnknown } from './sweep-unknown.ts'

/** A question to the catalog is about so many folders. */
const askedAtOnce = 200

/** Throws `destination.read-only` when another Holdfast (or a copy of this one) writes there. */
export async function sweepDestination(
  context: WorkerContext,
  turn: PausableTurn,
  input: SweepInput,
  name: string,
): Promise<SweptCount> {
  const destination = await context.destination(name)
  const stop = AbortSignal.any([turn.signal, turn.pausing])
  const notes = notesOf(context, input.operationId, name)
  const place: Place = {
    context,
    turn,
    input,
    name,
    destination,
    notes,
    goOn: () => stop.throwIfAborted(),
  }
  await expectOurs(place)
  const { folders, strays } = await walk(destination, stop)
  try {
    for (let start = 0; start < folders.length; start += askedAtOnce) {
      const asked = folders.slice(start, start + askedAtOnce)
      const ids = asked.map(({ backupId }) => backupId)
      const standings = await context.catalog.standings(input.operationId, name, ids)
      for (const [index, folder] of asked.entries()) {
        place.goOn()
        turn.progress({ note: `${name}: ${start + index} of ${folders.length} backups` })
        if (standings[index]?.state === 'in use' || !hasLeftovers(folder)) continue
        await sweepFolder(place, folder)
      }
    }
    await markEnded(place, new Set(folders.map(({ prefix }) => prefix)))
  } finally {
    if (!input.dryRun) await context.catalog.unclaim(input.operationId)
  }
  for (const { key, startedAt } of strays) {
    await notes.unknown(
      `upload ${name}/${key}`,
      `It is open since ${startedAt.toISOString()} and of no backup; it is left to whoever began it.`,
    )
  }
  await removeOld(place)
  return await notes.count()
}

/** Before each folder: somebody may have taken the destination over meanwhile. */
async function expectOurs({ context, input, name }: Place): Promise<void> {
  if (input.dryRun) await expectWriter(context, name)
  else await writerEpoch(context, name)
}

/** As far as its names tell: whole and alone, or nothing but the marker, needs no second look. */
function hasLeftovers({ objects, uploads, attempts, committed, deleted }: Folder): boolean {
  if (uploads > 0) return true
  if (deleted) return objects > 1
  return !committed || attempts.size > 1
}

async function sweepFolder(place: Place, folder: Folder): Promise<void> {
  const { context, input, name, notes, destination } = place
  const { prefix, connection, backupId } = folder
  await expectOurs(place)
  const standing = await claimed(place, backupId)
  if (standing === undefined || standing.state === 'in use') return
  if (standing.state === 'unknown') return await sweepUnknown(place, folder, standing.openSince)
  let state: Awaited<ReturnType<typeof settled>>
  try {
    state = await settled(destination, connection, backupId)
  } catch (error) {
    if (!hasCode(error, 'manifest.invalid')) throw error
    return await notes.skipped(`${name}/${prefix}`, error)
  }
  if (state.state === 'committed') {
    if (!standing.attempted) return
    const kept = `${prefix}${state.signed.attemptId}/`
    // What is open there was to become what is there already.
    await removeEach(place, prefix, {
      object: key => inAttempt(prefix, key) && !key.startsWith(kept),
      upload: key => inAttempt(prefix, key),
    })
  } else if (state.state === 'deleted') {
    const goes = (key: string) => key !== `${prefix}deleted.json`
    await removeEach(place, prefix, { object: goes, upload: goes })
  } else if (standing.here) {
    const lost = `Its manifest is not in ${destination.uri}, where this catalog knows it as committed: nothing of it is removed.`
    await notes.skipped(`${name}/${prefix}`, new HoldfastError('manifest.missing', lost))
  } else if (standing.elsewhere) {
    // No marker: it may be copied here yet. Nobody may begin to while it is claimed, which is made sure of each time.
    const goes = (key: string) => inAttempt(prefix, key)
    await removeEach(place, prefix, { object: goes, upload: goes }, async () => {
      const still = await context.catalog.claimLeftovers(input.operationId, name, backupId)
      return still.state === 'ended' && (await settled(destination, connection, backupId)).state === 'absent'
    })
  } else {
    await giveUp(place, folder, 'its operation is closed')
  }
}

const inAttempt = (prefix: string, key: string): boolean => key.slice(prefix.length).includes('/')

const claimed = async ({ context, input, name }: Place, backupId: string) =>
  input.dryRun
    ? (await context.catalog.standings(input.operationId, name, [backupId]))[0]
    : await context.catalog.claimLeftovers(input.operationId, name, backupId)

/** Ended from outside before anybody could say that it was given up: a late commit must find the marker. */
async function markEnded(place: Place, walked: ReadonlySet<string>): Promise<void> {
  const { context, turn, input, name, destination, goOn } = place
  if (input.dryRun) return
  for (const { connection, backupId } of await context.catalog.recentlyEnded(name)) {
    if (walked.has(backupPrefix(connection, backupId))) continue
    goOn()
    const standing = await claimed(place, backupId)
    if (standing?.state !== 'ended' || standing.here || standing.elsewhere) continue
    if ((await settled(destination, connection, backupId)).state !== 'absent') continue
    await expectOurs(place)
    turn.assertLease()
    await abandon(destination, connection, backupId, {
      by: `sweep ${input.operationId}`,
      reason: 'its operation is closed',
    })
  }
}

/** What checks of the destination left, and markers whose time is over. */
async function removeOld({ turn, input, name, destination, notes }: Place): Promise<void> {
  const now = new Date()
  const old = await removeOldPrechecks(destination, now, true)
  await notes.removed(old.map(key => `${name}/${key}`))
  const purged = await purgeDeleted(destination, now, true)
  await notes.removed(purged.map(id => `marker ${name}/${id}`))
  await notes.told()
  if (input.dryRun) return
  turn.assertLease()
  await removeOldPrechecks(destination, now, false)
  turn.assertLease()
  await purgeDeleted(destination, now, false)
}
