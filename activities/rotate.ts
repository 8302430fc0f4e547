/** Rotation of keys: a key sidecar more for every backup that the old key opens. Manifests and artifacts stay as they are. */
import { errorClass, HoldfastError } from '../model/errors.ts'
import { backupIdPattern, slugPattern } from '../model/ids.ts'
import type { Manifest } from '../model/manifest.ts'
import type { RotateInput } from '../model/records.ts'
import { listFolders, putKeySidecar, readKeySidecars, settled } from '../storage/backups.ts'
import type { Destination } from '../storage/destination.ts'
import { verifyManifest } from '../storage/manifest.ts'
import { openersOf, wrappedKeysOf } from '../storage/sidecars.ts'
import type { WorkerContext } from './context.ts'
import { writerEpoch } from './epoch.ts'
import type { PausableTurn } from './pausing.ts'

/** A backup, or a whole destination where `backup` is null, that opens with the old key only. */
export interface LeftBehind {
  destination: string
  backup: string | null
  code: string
  detail: string
}

export interface Rotated {
  /** Committed backups there that open with the new key now. */
  opened: number
  left: LeftBehind[]
  /** More than `left` names. */
  leftCount: number
}

/** What is named one by one: Temporal's histories are not for lists of thousands. */
const namedOnes = 50

interface Place {
  destination: Destination
  name: string
  connection: string
  backupId: string
}

/**
 * Goes over a destination. What is done is known to the catalog and passed over, so whoever is killed here goes on where it
 * stopped. A backup that cannot be read keeps no other one.
 */
export async function rotateAt(
  context: WorkerContext,
  turn: PausableTurn,
  input: RotateInput,
  name: string,
): Promise<Rotated> {
  const destination = await context.destination(name)
  const stop = AbortSignal.any([turn.signal, turn.pausing])
  const trusted = await context.catalog.trustedInstallations()
  const done = new Set(await context.catalog.openedAt(name, input.to.kid))
  const wanted = new Set(await context.catalog.openedAt(name, input.from.kid))
  const places: Place[] = []
  for await (const { connection, backupId, state } of listFolders(destination)) {
    const ours = slugPattern.test(connection) && backupIdPattern.test(backupId)
    if (state === 'committed' && ours) places.push({ destination, name, connection, backupId })
    // Nobody needs the old key for it any more.
    if (state === 'deleted' && wanted.has(backupId)) await context.catalog.markDeleted(backupId, name)
  }
  const rotated: Rotated = { opened: 0, left: [], leftCount: 0 }
  for (const [index, place] of places.entries()) {
    stop.throwIfAborted()
    turn.progress({ note: `${index} of ${places.length} backups` })
    if (done.has(place.backupId)) {
      rotated.opened += 1
      continue
    }
    const answer = await rotateOne(context, turn, input, place, trusted)
    if (answer === 'opens') rotated.opened += 1
    else if (answer !== 'not ours') {
      rotated.leftCount += 1
      if (rotated.left.length < namedOnes) rotated.left.push(answer)
    }
  }
  return rotated
}

async function rotateOne(
  context: WorkerContext,
  turn: PausableTurn,
  input: RotateInput,
  place: Place,
  trusted: Record<string, Record<string, string>>,
): Promise<'opens' | 'not ours' | LeftBehind> {
  const { destination, name, connection, backupId } = place
  let oldOpens = false
  try {
    const state = await settled(destination, connection, backupId)
    if (state.state === 'deleted') await context.catalog.markDeleted(backupId, name)
    if (state.state !== 'committed') return 'not ours'
    const { signed } = state
    const sidecars = await readKeySidecars(destination, connection, backupId, signed.attemptId)
    const openers = openersOf(signed, sidecars)
    oldOpens = openers.includes(input.from.kid)
    if (oldOpens && !openers.includes(input.to.kid)) {
      const manifest = await verifyManifest(signed, trusted)
      if (manifest.connection !== connection || manifest.backupId !== backupId) {
        throw new HoldfastError('manifest.invalid', `Its manifest is that of backup ${manifest.backupId}.`)
      }
      await addSidecar(context, turn, input, place, manifest, sidecars)
      openers.push(input.to.kid)
    }
    await context.catalog.recordOpeners({ destination: name, connection, backupId }, openers)
    return openers.includes(input.to.kid) ? 'opens' : 'not ours'
  } catch (error) {
    if (!(error instanceof HoldfastError) || !isAboutTheBackup(error)) throw error
    if (error.code === 'backup.deleted') {
      await context.catalog.markDeleted(backupId, name)
      return 'not ours'
    }
    // What cannot be read may be anybody's: it is named where it could be told whose it is, or not told at all.
    if (!oldOpens && error.code !== 'manifest.invalid') return 'not ours'
    return { destination: name, backup: `${connection}/${backupId}`, code: error.code, detail: error.message }
  }
}

/** Of this backup alone; anything else stands in the way of all of them. */
const isAboutTheBackup = ({ code }: HoldfastError): boolean =>
  /^(artifact|manifest|backup)\./.test(code) ||
  code === 'key.missing' ||
  (code.startsWith('destination.object') && errorClass(code) === 'permanent')

async function addSidecar(
  context: WorkerContext,
  turn: PausableTurn,
  input: RotateInput,
  { destination, name, connection, backupId }: Place,
  manifest: Manifest,
  sidecars: Parameters<typeof wrappedKeysOf>[1],
): Promise<void> {
  const { attemptId } = manifest
  const wanted = manifest.artifacts
    .filter(({ encryption }) => encryption !== null)
    .map(artifact => ({ name: artifact.name, wrapped: wrappedKeysOf(manifest, sidecars, artifact.name) }))
  const artifacts = await context.catalog.rewrapDataKeys(input.operationId, wanted)
  await writerEpoch(context, name)
  turn.assertLease()
  const key = await putKeySidecar(destination, connection, {
    format: 'holdfast-keys/1',
    backupId,
    attemptId,
    artifacts,
  })
  // Given up or deleted meanwhile, it may have come after everything else was removed.
  if ((await settled(destination, connection, backupId)).state === 'deleted') {
    // One that is locked stays with the rest of what is locked there, and goes with it.
    await destination.remove(key).catch((error: unknown) => {
      if (!(error instanceof HoldfastError) || error.code !== 'destination.locked') throw error
    })
    throw new HoldfastError('backup.deleted', `Backup ${backupId} was deleted meanwhile.`)
  }
}
