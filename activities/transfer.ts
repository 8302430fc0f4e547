/**
 * The byte path of one artifact, shared by streamed and staged backups: sealed parts, then the object, then a look at
 * what the store has.
 */
import type { Readable } from 'node:stream'
import type { ArtifactSpec } from '../engines/engine.ts'
import { codecOf } from '../model/compression.ts'
import { HoldfastError } from '../model/errors.ts'
import type { ArtifactEntry } from '../model/manifest.ts'
import type { AttemptArtifact, AttemptRecord } from '../model/records.ts'
import type { Destination, PartInfo } from '../storage/destination.ts'
import type { PartJournal } from '../storage/journal.ts'
import { type WrittenArtifact, writeArtifact } from '../storage/writer.ts'
import { objectName, sealOf } from './attempt.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import type { Encoder } from './encoder.ts'

export interface TransferOptions {
  source: Readable
  encoder: Encoder
  artifact: AttemptArtifact
  turn: Turn
  /** Expected size of the tool's bytes, for progress and for stores that want equal parts. */
  sizeBytes: number
  /** Staged data only. */
  journal?: PartJournal
  existingParts?: PartInfo[]
  /** Stops between two parts; for what can be made again. */
  pausing?: AbortSignal
}

/** Sends every part; does not make the object. */
export async function sendParts(
  context: WorkerContext,
  destination: Destination,
  options: TransferOptions,
): Promise<WrittenArtifact> {
  const { artifact, turn, encoder } = options
  if (artifact.uploadId === null)
    throw new HoldfastError('internal', `The upload of ${artifact.key} is not open.`)
  return await writeArtifact({
    destination,
    key: artifact.key,
    uploadId: artifact.uploadId,
    source: options.source,
    framing: encoder.framing,
    compression: artifact.compression,
    expectedBytes: options.sizeBytes,
    seal: await sealOf(context, artifact),
    ...(options.journal ? { journal: options.journal } : {}),
    ...(options.pausing ? { pausing: options.pausing } : {}),
    ...(options.existingParts ? { existingParts: options.existingParts } : {}),
    signal: turn.signal,
    onProgress: ({ storedBytes, toolBytes }) =>
      turn.progress({
        bytes: storedBytes,
        ...(options.sizeBytes > 0 && toolBytes > 0
          ? { note: `${toolBytes} of about ${options.sizeBytes} bytes read` }
          : {}),
      }),
  })
}

/** The tool's bytes must look like what the format promises, from the first byte to the trailer. */
export function expectWhole(spec: ArtifactSpec, written: Pick<WrittenArtifact, 'head' | 'tail'>): void {
  if (
    spec.header !== undefined &&
    !written.head.subarray(0, Buffer.byteLength(spec.header)).equals(Buffer.from(spec.header))
  ) {
    throw new HoldfastError('backup.incomplete', `"${spec.name}" does not begin as a ${spec.format} does.`)
  }
  if (spec.trailer !== undefined && !written.tail.toString('latin1').trimEnd().endsWith(spec.trailer)) {
    throw new HoldfastError(
      'backup.incomplete',
      `"${spec.name}" does not end with "${spec.trailer}": the dump was cut short.`,
    )
  }
}

/** Makes the object of its parts and looks at what the store has. */
export async function completeObject(
  destination: Destination,
  artifact: AttemptArtifact,
  written: Pick<WrittenArtifact, 'parts' | 'storedBytes'>,
  turn: Turn,
): Promise<void> {
  if (artifact.uploadId === null)
    throw new HoldfastError('internal', `The upload of ${artifact.key} is not open.`)
  turn.assertLease()
  await destination.completeUpload(artifact.key, artifact.uploadId, written.parts, { signal: turn.signal })
  await expectStored(destination, artifact.key, written.storedBytes)
}

export async function expectStored(
  destination: Destination,
  key: string,
  storedBytes: number,
): Promise<void> {
  const stat = await destination.stat(key)
  if (!stat)
    throw new HoldfastError(
      'destination.object-missing',
      `${destination.uri}/${key} is not there after its upload.`,
    )
  if (stat.bytes !== storedBytes) {
    throw new HoldfastError(
      'destination.corrupted',
      `${destination.uri}/${key} has ${stat.bytes} bytes in the store; ${storedBytes} were sent.`,
    )
  }
}

export type WrittenFacts = Omit<WrittenArtifact, 'parts' | 'head' | 'tail' | 'sentBytes'>

export const entryFor = (
  attempt: AttemptRecord,
  spec: ArtifactSpec,
  artifact: AttemptArtifact,
  written: WrittenFacts,
): ArtifactEntry => ({
  name: spec.name,
  object: objectName(attempt.attemptId, spec.name, artifact.compression.method, artifact.encryption !== null),
  format: spec.format,
  storedBytes: written.storedBytes,
  storedSha256: written.storedSha256,
  toolBytes: written.toolBytes,
  compressedBytes: written.compressedBytes,
  compression: {
    codec: codecOf(artifact.compression.method),
    level: artifact.compression.level,
    encoder: artifact.encoder,
    frameBytes: written.frameBytes,
    frames: written.frames,
    ...(artifact.compression.longWindow === null ? {} : { longWindow: artifact.compression.longWindow }),
    ...(artifact.compression.method === 'auto' ? { storedFrames: written.storedFrames } : {}),
  },
  encryption: artifact.encryption
    ? {
        scheme: 'tink-AES256_GCM_HKDF_1MB',
        keySidecar: `${attempt.attemptId}/keys-1.json`,
        associatedData: artifact.encryption.associatedData,
      }
    : null,
})
