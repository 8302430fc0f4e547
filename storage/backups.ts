/**
 * The commit protocol: what makes a backup exist, and what ends it. A backup exists if and only if `manifest.json` is there
 * and `deleted.json` is not; both are put once. Everything else of a backup lies in attempts' folders beside them.
 */
import { HoldfastError, hasCode } from '../model/errors.ts'
import { isForeignId } from '../model/foreign.ts'
import {
  canonical,
  type DeletedMarker,
  deletedSchema,
  type KeySidecar,
  keySidecarSchema,
  type Manifest,
  type SignedManifest,
} from '../model/manifest.ts'
import type { Destination } from './destination.ts'
import type { Jwk } from './keys.ts'
import { parseSigned, verifyManifest } from './manifest.ts'
import { putOnce } from './settle.ts'

/** Folder of one backup below the destination's prefix, with its trailing slash. */
export const backupPrefix = (connection: string, backupId: string): string =>
  `${connection}/backups/${backupId}/`

const manifestKey = (connection: string, backupId: string) =>
  `${backupPrefix(connection, backupId)}manifest.json`
const deletedKey = (connection: string, backupId: string) =>
  `${backupPrefix(connection, backupId)}deleted.json`

/** Of an artifact; a foreign backup is one object that lies where it lies. */
export const artifactKey = (connection: string, backupId: string, { object }: { object: string }): string =>
  isForeignId(backupId) ? object : `${backupPrefix(connection, backupId)}${object}`

export type Settled =
  | { state: 'absent' }
  /** The signature is not checked here. */
  | { state: 'committed'; signed: SignedManifest }
  | { state: 'deleted'; marker: DeletedMarker }

/** What became of a backup. Asked first by every step that writes. Throws `manifest.invalid` for an unreadable manifest. */
export async function settled(
  destination: Destination,
  connection: string,
  backupId: string,
): Promise<Settled> {
  // In this order: a manifest that was there before the marker was not is a backup at that moment.
  const key = manifestKey(connection, backupId)
  const manifest = await destination.read(key)
  const marker = await readMarker(destination, connection, backupId)
  if (marker !== undefined) return { state: 'deleted', marker }
  if (manifest === undefined) return { state: 'absent' }
  return { state: 'committed', signed: parseSigned(json(manifest), key) }
}

/** As they lie there. Throws `manifest.missing`. */
export async function readManifestBytes(
  destination: Destination,
  connection: string,
  backupId: string,
): Promise<{ key: string; body: Uint8Array }> {
  const key = manifestKey(connection, backupId)
  const body = await destination.read(key)
  if (body !== undefined) return { key, body }
  throw new HoldfastError('manifest.missing', `Reading ${destination.uri}/${key}: it is not there.`)
}

/** When the backup was committed there, by the clock of the store. Throws `manifest.missing`. */
export async function committedAtOf(
  destination: Destination,
  connection: string,
  backupId: string,
): Promise<string> {
  const key = manifestKey(connection, backupId)
  const stat = await destination.stat(key)
  if (stat) return stat.modifiedAt.toISOString()
  throw new HoldfastError('manifest.missing', `Looking at ${destination.uri}/${key}: it is not there.`)
}

/**
 * The commit: returns the manifest that won, which may be another attempt's or an earlier try of this one. Throws
 * `backup.deleted` when the backup was given up, before or while this was under way: then there is no backup.
 */
export async function commitManifest(
  destination: Destination,
  signed: SignedManifest,
): Promise<SignedManifest> {
  const { connection, backupId } = signed
  await expectUndeleted(destination, connection, backupId)
  const key = manifestKey(connection, backupId)
  const { body } = await putOnce(destination, key, Buffer.from(canonical(signed)), { lasting: true })
  await expectUndeleted(destination, connection, backupId)
  return parseSigned(json(body), key)
}

/** Throws `backup.deleted`. */
export async function expectUndeleted(
  destination: Destination,
  connection: string,
  backupId: string,
): Promise<void> {
  const marker = await readMarker(destination, connection, backupId)
  if (marker === undefined) return
  throw new HoldfastError(
    'backup.deleted',
    `Committing backup ${backupId} in ${destination.uri}: it was given up or deleted there at ${marker.at} by ${marker.by} (${marker.reason}).`,
  )
}

/** What the store keeps from being removed for now. */
export interface Locked {
  keys: string[]
  /** What was said of the first. */
  error: HoldfastError
}

/**
 * Gives a backup up or deletes it: `deleted.json` first, so that from then on there is no backup, then the rest. A manifest
 * that lands later changes nothing. A destination too full for the marker is emptied before it. Idempotent; what could
 * not be removed is thrown and removed by the next call. What is locked stays, is answered, and keeps nobody waiting: the
 * marker beside it has ended the backup, and a sweep removes it when its time is over.
 */
export async function abandon(
  destination: Destination,
  connection: string,
  backupId: string,
  { by, reason }: { by: string; reason: string },
): Promise<Locked | undefined> {
  const marker: DeletedMarker = {
    format: 'holdfast-deleted/1',
    backupId,
    at: new Date().toISOString(),
    by,
    reason,
  }
  const prefix = backupPrefix(connection, backupId)
  const goes = (key: string) => key !== deletedKey(connection, backupId)
  const mark = () => putOnce(destination, deletedKey(connection, backupId), Buffer.from(canonical(marker)))
  try {
    await mark()
  } catch (error) {
    if (!hasCode(error, 'destination.full')) throw error
    // No room for the marker: what would be removed after it makes the room. The manifest goes first: from then on there
    // is no backup either. A commit that is still under way could bring it back without its objects; the marker that is
    // put right after ends that, as it always does.
    try {
      await destination.remove(manifestKey(connection, backupId))
      await removeBelow(destination, prefix, goes)
    } finally {
      await mark()
    }
  }
  // Twice: an upload that was completed while the first round went on shows as an object in the second.
  await removeBelow(destination, prefix, goes)
  return await removeBelow(destination, prefix, goes)
}

/** After a commit: objects and open uploads of the backup's other attempts go. */
export async function removeOtherAttempts(
  destination: Destination,
  connection: string,
  backupId: string,
  keepAttemptId: string,
): Promise<Locked | undefined> {
  const prefix = backupPrefix(connection, backupId)
  return await removeBelow(destination, prefix, key => {
    const [attemptId, ...rest] = key.slice(prefix.length).split('/')
    return rest.length > 0 && attemptId !== keepAttemptId
  })
}

/** One that cannot be removed does not keep the others; the first error is thrown at the end. */
async function removeBelow(
  destination: Destination,
  prefix: string,
  goes: (key: string) => boolean,
): Promise<Locked | undefined> {
  const failures: unknown[] = []
  const attempt = (act: Promise<void>) => act.catch(error => failures.push(error))
  let locked: Locked | undefined
  for await (const { key, uploadId } of destination.listUploads(prefix)) {
    if (goes(key)) await attempt(destination.abortUpload(key, uploadId))
  }
  for await (const { key } of destination.list(prefix)) {
    if (!goes(key)) continue
    const removing = destination.remove(key).catch((error: unknown) => {
      if (!hasCode(error, 'destination.locked')) throw error
      locked ??= { keys: [], error }
      locked.keys.push(key)
    })
    await attempt(removing)
  }
  if (failures.length > 0) throw failures[0]
  return locked
}

/** Closes every open upload of the backup; the first error is thrown at the end. */
export async function abortUploads(destination: Destination, prefix: string): Promise<void> {
  const failures: unknown[] = []
  for await (const { key, uploadId } of destination.listUploads(prefix)) {
    await destination.abortUpload(key, uploadId).catch(error => failures.push(error))
  }
  if (failures.length > 0) throw failures[0]
}

/** Puts the next `<attemptId>/keys-<n>.json`, if absent; the same contents again change nothing. Returns its key. */
export async function putKeySidecar(
  destination: Destination,
  connection: string,
  sidecar: KeySidecar,
): Promise<string> {
  const body = Buffer.from(canonical(sidecar))
  for (let n = 1; ; n += 1) {
    const key = `${backupPrefix(connection, sidecar.backupId)}${sidecar.attemptId}/keys-${n}.json`
    const { ours } = await putOnce(destination, key, body, { lasting: true })
    if (ours) return key
  }
}

/**
 * Key sidecars of one attempt, newest first. One that is damaged does not keep the others; throws `manifest.invalid` when
 * there is none but damaged ones.
 */
export async function readKeySidecars(
  destination: Destination,
  connection: string,
  backupId: string,
  attemptId: string,
): Promise<KeySidecar[]> {
  const folder = `${backupPrefix(connection, backupId)}${attemptId}/`
  const sidecars: KeySidecar[] = []
  let damaged: string | undefined
  for (let n = 1; ; n += 1) {
    const key = `${folder}keys-${n}.json`
    const body = await destination.read(key)
    if (body === undefined) break
    const parsed = keySidecarSchema.safeParse(json(body))
    if (parsed.success) sidecars.push(parsed.data)
    else damaged ??= key
  }
  if (damaged !== undefined && sidecars.length === 0) throw unreadable(damaged)
  return sidecars.reverse()
}

export interface ListedBackup {
  connection: string
  backupId: string
  /** `unfinished`: objects without manifest or marker; not a backup (yet). */
  state: 'committed' | 'deleted' | 'unfinished'
  /** The manifest as it was read, of committed ones; see `verifyManifest`. undefined: not JSON. */
  signed?: unknown
}

/** Every backup folder of the destination, in key order, by the names in it: reads nothing. */
export async function* listFolders(destination: Destination): AsyncGenerator<Omit<ListedBackup, 'signed'>> {
  let folder: { connection: string; backupId: string; names: Set<string> } | undefined
  const stateOf = (names: ReadonlySet<string>): ListedBackup['state'] =>
    names.has('deleted.json') ? 'deleted' : names.has('manifest.json') ? 'committed' : 'unfinished'
  const listed = ({ connection, backupId, names }: NonNullable<typeof folder>) => ({
    connection,
    backupId,
    state: stateOf(names),
  })
  for await (const { key } of destination.list('')) {
    const [connection, kind, backupId, ...rest] = key.split('/')
    if (connection === undefined || kind !== 'backups' || backupId === undefined || rest.length === 0)
      continue
    if (folder?.connection !== connection || folder.backupId !== backupId) {
      if (folder !== undefined) yield listed(folder)
      folder = { connection, backupId, names: new Set() }
    }
    if (rest.length === 1) folder.names.add(rest[0] ?? '')
  }
  if (folder !== undefined) yield listed(folder)
}

/** The same with each manifest, which is read and not checked. */
export async function* listBackups(destination: Destination): AsyncGenerator<ListedBackup> {
  for await (const folder of listFolders(destination)) {
    if (folder.state !== 'committed') {
      yield folder
      continue
    }
    const body = await destination.read(manifestKey(folder.connection, folder.backupId))
    // Removed since it was listed.
    yield body === undefined ? { ...folder, state: 'unfinished' } : { ...folder, signed: json(body) }
  }
}

/**
 * A backup to restore from: its manifest, signed by one of `trusted` and of this very place, and its key sidecars, newest
 * first. Throws `backup.not-found`, `backup.deleted`, `manifest.missing`, `manifest.invalid`, `manifest.forged`.
 */
export async function loadBackup(
  destination: Destination,
  connection: string,
  backupId: string,
  trusted: Record<string, Jwk>,
): Promise<{ manifest: Manifest; signed: SignedManifest; keys: KeySidecar[] }> {
  const prefix = backupPrefix(connection, backupId)
  const where = `${destination.uri}/${prefix}`
  const state = await settled(destination, connection, backupId)
  if (state.state === 'deleted') {
    const { at, by, reason } = state.marker
    throw new HoldfastError(
      'backup.deleted',
      `Reading ${where}: it was deleted at ${at} by ${by} (${reason}).`,
    )
  }
  if (state.state === 'absent') {
    for await (const _ of destination.list(prefix)) {
      throw new HoldfastError(
        'manifest.missing',
        `Reading ${where}: objects are there, manifest.json is not.`,
      )
    }
    throw new HoldfastError('backup.not-found', `Reading ${where}: nothing is there.`)
  }
  const manifest = await verifyManifest(state.signed, trusted)
  if (manifest.connection !== connection || manifest.backupId !== backupId) {
    throw new HoldfastError(
      'manifest.invalid',
      `Reading ${where}: its manifest is that of backup ${manifest.backupId} of ${manifest.connection}.`,
    )
  }
  const keys = await readKeySidecars(destination, connection, backupId, manifest.attemptId)
  return { manifest, signed: state.signed, keys }
}

const thirtyDaysMs = 30 * 24 * 3600 * 1000

/**
 * Removes markers older than thirty days (by their own time and by the store's) that nothing lies beside any more, neither
 * objects nor open uploads. Returns the ids of the backups whose last trace went, or would.
 */
export async function purgeDeleted(destination: Destination, now: Date, dryRun: boolean): Promise<string[]> {
  const purged: string[] = []
  for await (const { connection, backupId, state } of listFolders(destination)) {
    if (state !== 'deleted') continue
    const marker = await readMarker(destination, connection, backupId)
    const stat = await destination.stat(deletedKey(connection, backupId))
    if (marker === undefined || stat === undefined) continue
    const newest = Math.max(Date.parse(marker.at), stat.modifiedAt.getTime())
    if (now.getTime() - newest < thirtyDaysMs || !(await isAlone(destination, connection, backupId))) continue
    if (!dryRun) await destination.remove(deletedKey(connection, backupId))
    purged.push(backupId)
  }
  return purged
}

async function isAlone(destination: Destination, connection: string, backupId: string): Promise<boolean> {
  const prefix = backupPrefix(connection, backupId)
  for await (const { key } of destination.list(prefix)) {
    if (key !== deletedKey(connection, backupId)) return false
  }
  for await (const _ of destination.listUploads(prefix)) return false
  return true
}

/** A marker that cannot be read still marks: whoever wrote it meant the backup to be gone. */
async function readMarker(
  destination: Destination,
  connection: string,
  backupId: string,
): Promise<DeletedMarker | undefined> {
  const body = await destination.read(deletedKey(connection, backupId))
  if (body === undefined) return undefined
  const parsed = deletedSchema.safeParse(json(body))
  if (parsed.success) return parsed.data
  const at = new Date().toISOString()
  return { format: 'holdfast-deleted/1', backupId, at, by: 'unknown', reason: 'the marker cannot be read' }
}

const unreadable = (key: string): HoldfastError =>
  new HoldfastError('manifest.invalid', `Reading ${key}: it is not a document of this version.`)

function json(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString('utf8'))
  } catch {
    return undefined
  }
}
