/**
 * The byte path of one artifact, shared by streamed and staged backups: sealed parts, then the object, then a look at
 * what the store has.
 */
import type { Readable } from 'node:stream'
import type { ArtifactSpec } from '../engines/engine.ts'
import { codecOf } from '../model/compression.ts'
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { ArtifactEntry } from '../model/manifest.ts'
import type { AttemptArtifact, AttemptRecord, Lost } from '../model/records.ts'
import type { Destination, PartInfo } from '../storage/destination.ts'
import type { Target } from '../storage/fan-out.ts'
import { type WrittenArtifacts, writeArtifacts } from '../storage/writer.ts'
import { objectName, sealOf } from './attempt.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import type { Encoder } from './encoder.ts'
import { atEach, lostOf } from './places.ts'

export interface TransferOptions {
  source: Readable
  encoder: Encoder
  artifact: AttemptArtifact
  turn: Turn
  /** Expected size of the tool's bytes, for progress and for stores that want equal parts. */
  sizeBytes: number
  /** Stops between two parts; for what can be made again. */
  pausing?: AbortSignal
}

/** An upload of an artifact at one destination. */
export interface Place extends Pick<Target, 'journal' | 'existingParts'> {
  name: string
}

/** Of each destination that has all parts. */
export type SentParts = Record<string, PartInfo[]>

export interface SentArtifact extends Omit<WrittenArtifacts, 'sent'> {
  parts: SentParts
  lost: Lost[]
  sentBytes: number
}

/** Sends every part to every place in one pass; does not make the objects. */
export async function sendParts(
  context: WorkerContext,
  places: readonly Place[],
  options: TransferOptions,
): Promise<SentArtifact> {
  const { artifact, turn, encoder } = options
  const targets: Target[] = []
  for (const { name, ...known } of places) {
    const destination = await context.destination(name)
    targets.push({ ...known, destination, key: artifact.key, uploadId: uploadOf(artifact, name) })
  }
  const { sent, ...written } = await writeArtifacts(targets, {
    source: options.source,
    framing: encoder.framing,
    compression: artifact.compression,
    expectedBytes: options.sizeBytes,
    seal: await sealOf(context, artifact),
    ...(options.pausing ? { pausing: options.pausing } : {}),
    signal: turn.signal,
    onProgress: ({ storedBytes, toolBytes }) =>
      turn.progress({
        bytes: storedBytes,
        ...(options.sizeBytes > 0 && toolBytes > 0
          ? { note: `${toolBytes} of about ${options.sizeBytes} bytes read` }
          : {}),
      }),
  })
  const parts: SentParts = {}
  const failures = new Map<string, HoldfastError>()
  let sentBytes = 0
  for (const [index, one] of sent.entries()) {
    const name = places[index]?.name ?? ''
    if ('error' in one) failures.set(name, one.error)
    else {
      parts[name] = one.parts
      sentBytes += one.sentBytes
    }
  }
  return { ...written, parts, lost: lostOf(failures), sentBytes }
}

function uploadOf(artifact: AttemptArtifact, name: string): string {
  const uploadId = artifact.uploads[name]
  if (uploadId === undefined) {
    throw new HoldfastError('internal', `The upload of ${artifact.key} is not open at ${name}.`)
  }
  return uploadId
}

/** The tool's bytes must look like what the format promises, from the first byte to the trailer. */
export function expectWhole(spec: ArtifactSpec, written: Pick<WrittenArtifacts, 'head' | 'tail'>): void {
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

/** Makes the objects of their parts and looks at what the stores have. */
export async function completeObjects(
  context: WorkerContext,
  artifact: AttemptArtifact,
  { parts, storedBytes }: { parts: SentParts; storedBytes: number },
  turn: Turn,
): Promise<{ destinations: string[]; lost: Lost[] }> {
  const { done, lost } = await atEach(turn, Object.keys(parts), async name => {
    const destination = await context.destination(name)
    turn.assertLease()
    const uploadId = uploadOf(artifact, name)
    try {
      await destination.completeUpload(artifact.key, uploadId, parts[name] ?? [], { signal: turn.signal })
    } catch (error) {
      // Tried again after a lost answer: it may be the object already.
      const isGone = hasCode(error, 'destination.upload-gone')
      if (!isGone || (await destination.stat(artifact.key))?.bytes !== storedBytes) throw error
    }
    await expectStored(destination, artifact.key, storedBytes)
  })
  return { destinations: [...done.keys()], lost }
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

export type WrittenFacts = Omit<WrittenArtifacts, 'sent' | 'head' | 'tail'>

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
