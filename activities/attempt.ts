/**
 * Attempts: one try at producing a backup's artifacts. The record is in the catalog before an upload is open, and the
 * upload's id is in it before the first part is sent; whoever opens the upload mints the id, so that an attempt that
 * was given up but still lives can never touch another's bytes.
 */
import { randomBytes } from 'node:crypto'
import type { ArtifactSpec } from '../engines/engine.ts'
import { type CompressionMethod, codecOf, compressionSuffix } from '../model/compression.ts'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import { type ArtifactEntry, associatedDataFor, type SignedManifest } from '../model/manifest.ts'
import type { AttemptArtifact, AttemptRecord, BackupInput, Lost } from '../model/records.ts'
import type { Json } from '../model/types.ts'
import { backupPrefix, settled } from '../storage/backups.ts'
import type { Destination } from '../storage/destination.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { mostHopeful } from './copies.ts'
import type { Encoder } from './encoder.ts'
import { writerEpoch } from './epoch.ts'
import { atEach, lostOf, placesOf, standIns, tryEach } from './places.ts'

/** What one attempt made: everything the manifest needs to know of its artifacts. */
export interface Made {
  attemptId: string
  artifacts: ArtifactEntry[]
  /** What only the finished tool knew; the manifest's facts get it. */
  facts?: Record<string, Json>
  endedAt: string
  /** Bytes that went over the line in this run; parts sent before a crash are not sent again. */
  sentBytes: number
  /** Where all of it lies. */
  destinations: string[]
  /** Where it was begun and does not. */
  lost: Lost[]
}

/** What is settled wherever it may lie; what cannot be asked now says nothing, unless none can. Throws `backup.deleted`. */
export async function committedPlaces(
  context: WorkerContext,
  turn: Pick<Turn, 'signal'>,
  input: BackupInput,
): Promise<Map<string, SignedManifest>> {
  const { done } = await atEach(turn, placesOf(input), async name =>
    settled(await context.destination(name), input.connection, input.backupId),
  )
  const committed = new Map<string, SignedManifest>()
  for (const [name, state] of done) {
    if (state.state === 'deleted') {
      throw new HoldfastError(
        'backup.deleted',
        `Backup ${input.backupId} was given up: ${state.marker.reason}.`,
      )
    }
    if (state.state === 'committed') committed.set(name, state.signed)
  }
  return committed
}

/**
 * The first question of every step that writes: is it settled already? Returns the attempt that was committed, or
 * undefined when there is still something to do. Throws `backup.deleted` when the backup was given up.
 */
export async function committedAttempt(
  context: WorkerContext,
  turn: Pick<Turn, 'signal'>,
  input: BackupInput,
): Promise<Made | undefined> {
  const committed = await committedPlaces(context, turn, input)
  const [signed] = committed.values()
  if (signed === undefined) return undefined
  const { attemptId, artifacts, endedAt } = signed
  const destinations = [...committed].flatMap(([name, one]) => (one.attemptId === attemptId ? [name] : []))
  return { attemptId, artifacts, endedAt, sentBytes: 0, destinations, lost: [] }
}

/** Mints and records an attempt with one open upload per artifact at each destination that can; at least at one. */
export async function openAttempt(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  to: readonly string[],
  specs: readonly ArtifactSpec[],
  encoder: Encoder,
): Promise<{ attempt: AttemptRecord; destinations: string[]; lost: Lost[] }> {
  const writer = await context.catalog.writer()
  const attemptId = readable(randomBytes(10))
  const artifacts: AttemptArtifact[] = []
  for (const spec of specs) {
    const associatedData = associatedDataFor(writer.installationId, input.backupId, spec.name)
    artifacts.push({
      name: spec.name,
      key: `${backupPrefix(input.connection, input.backupId)}${objectName(attemptId, spec.name, input.compression.method, input.recipients.length > 0)}`,
      uploads: {},
      encryption:
        input.recipients.length > 0
          ? {
              ...(await context.catalog.wrapDataKey(randomBytes(32).toString('base64url'), input.recipients)),
              salt: randomBytes(32).toString('base64url'),
              noncePrefix: randomBytes(7).toString('base64url'),
              associatedData,
            }
          : null,
      encoder: encoder.name,
      compression: encoder.compression,
    })
  }
  const record: AttemptRecord = {
    attemptId,
    operationId: input.operationId,
    backupId: input.backupId,
    connection: input.connection,
    destinations: [...to],
    createdAt: new Date().toISOString(),
    artifacts,
  }
  turn.assertLease()
  await context.catalog.recordAttempt(record)
  const { done, lost } = await openSomewhere(context, turn, input, record)
  return { attempt: record, destinations: done, lost }
}

/** Where it was asked for; what stands in for those that are away is written down before it is opened there. */
async function openSomewhere(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  record: AttemptRecord,
): Promise<{ done: string[]; lost: Lost[] }> {
  const open = (name: string) => openAt(context, turn, record, name)
  const asked = await tryEach(turn, record.destinations, open)
  const others = standIns(input, lostOf(asked.failures), record.destinations)
  if (others.length > 0) {
    record.destinations.push(...others)
    await context.catalog.recordAttempt(record)
  }
  const instead = await tryEach(turn, others, open)
  const done = [...asked.done.keys(), ...instead.done.keys()]
  const failures = new Map([...asked.failures, ...instead.failures])
  if (done.length === 0) throw mostHopeful([...failures.values()])
  return { done, lost: lostOf(failures) }
}

async function openAt(
  context: WorkerContext,
  turn: Turn,
  record: AttemptRecord,
  name: string,
): Promise<void> {
  const destination = await context.destination(name)
  await writerEpoch(context, name)
  for (const artifact of record.artifacts) {
    if (artifact.uploads[name] !== undefined) continue
    turn.assertLease()
    const uploadId = await destination.openUpload(artifact.key, { signal: turn.signal })
    artifact.uploads[name] = uploadId
    try {
      await context.catalog.recordAttempt(record)
    } catch (error) {
      // Refused: the operation was closed meanwhile. What was just opened must not stay open.
      await giveBack(destination, artifact.key, uploadId)
      throw error
    }
  }
}

const giveBackSeconds = 5

/** Closes an upload, also when the step is to end; what cannot be reached within seconds is left to the cleanup. */
export async function giveBack(destination: Destination, key: string, uploadId: string): Promise<void> {
  const late = AbortSignal.timeout(giveBackSeconds * 1000)
  try {
    await destination.abortUpload(key, uploadId, { signal: late })
  } catch (error) {
    if (!late.aborted && !(error instanceof HoldfastError)) throw error
  }
}

export const objectName = (
  attemptId: string,
  artifact: string,
  method: CompressionMethod,
  encrypted: boolean,
): string => `${attemptId}/${artifact}${compressionSuffix[codecOf(method)]}${encrypted ? '.tink' : ''}`

/** The sealing parameters of a recorded artifact; the data key is unwrapped by the catalog's process. */
export async function sealOf(context: WorkerContext, artifact: AttemptArtifact) {
  if (!artifact.encryption) return null
  const { own, salt, noncePrefix, associatedData } = artifact.encryption
  if (own === null) throw new HoldfastError('internal', `The key of ${artifact.key} was given up.`)
  return {
    dataKey: Buffer.from(await context.catalog.unwrapDataKey(own), 'base64url'),
    salt: Buffer.from(salt, 'base64url'),
    noncePrefix: Buffer.from(noncePrefix, 'base64url'),
    associatedData,
  }
}
