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
import { type ArtifactEntry, associatedDataFor } from '../model/manifest.ts'
import type { AttemptArtifact, AttemptRecord, BackupInput } from '../model/records.ts'
import { backupPrefix, settled } from '../storage/backups.ts'
import type { Destination } from '../storage/destination.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import type { Encoder } from './encoder.ts'
import { writerEpoch } from './epoch.ts'

/** What one attempt made: everything the manifest needs to know of its artifacts. */
export interface Made {
  attemptId: string
  artifacts: ArtifactEntry[]
  endedAt: string
  /** Bytes that went over the line in this run; parts sent before a crash are not sent again. */
  sentBytes: number
}

/**
 * The first question of every step that writes: is it settled already? Returns the attempt that was committed, or
 * undefined when there is still something to do. Throws `backup.deleted` when the backup was given up.
 */
export async function committedAttempt(
  context: WorkerContext,
  input: BackupInput,
): Promise<Made | undefined> {
  const destination = await context.destination(input.destination)
  const state = await settled(destination, input.connection, input.backupId)
  if (state.state === 'deleted') {
    throw new HoldfastError(
      'backup.deleted',
      `Backup ${input.backupId} was given up: ${state.marker.reason}.`,
    )
  }
  if (state.state === 'absent') return undefined
  const { attemptId, artifacts, endedAt } = state.signed
  return { attemptId, artifacts, endedAt, sentBytes: 0 }
}

/** Mints and records an attempt with one open upload per artifact. */
export async function openAttempt(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  specs: readonly ArtifactSpec[],
  encoder: Encoder,
): Promise<AttemptRecord> {
  const destination = await context.destination(input.destination)
  const { writer } = await writerEpoch(context, input.destination)
  const attemptId = readable(randomBytes(10))
  const artifacts: AttemptArtifact[] = []
  for (const spec of specs) {
    const associatedData = associatedDataFor(writer.installationId, input.backupId, spec.name)
    artifacts.push({
      name: spec.name,
      key: `${backupPrefix(input.connection, input.backupId)}${objectName(attemptId, spec.name, input.compression.method, input.recipients.length > 0)}`,
      uploadId: null,
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
      compression: input.compression,
    })
  }
  const record: AttemptRecord = {
    attemptId,
    operationId: input.operationId,
    backupId: input.backupId,
    connection: input.connection,
    destination: input.destination,
    createdAt: new Date().toISOString(),
    artifacts,
  }
  turn.assertLease()
  await context.catalog.recordAttempt(record)
  for (const artifact of artifacts) {
    turn.assertLease()
    const uploadId = await destination.openUpload(artifact.key, { signal: turn.signal })
    artifact.uploadId = uploadId
    try {
      await context.catalog.recordAttempt(record)
    } catch (error) {
      // Refused: the operation was closed meanwhile. What was just opened must not stay open.
      await giveBack(destination, artifact.key, uploadId)
      throw error
    }
  }
  return record
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
