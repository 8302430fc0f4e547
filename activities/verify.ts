/** Verify: looks at a committed backup where it lies. Takes no lock, writes nothing there, deletes nothing. */

import { readerOf } from '../engines/index.ts'
import type { Siblings } from '../engines/reading.ts'
import { HoldfastError } from '../model/errors.ts'
import { isForeignId } from '../model/foreign.ts'
import type { ArtifactEntry, KeySidecar, Manifest } from '../model/manifest.ts'
import type { VerifyInput } from '../model/records.ts'
import type { Verified } from '../model/verified.ts'
import { backupPrefix } from '../storage/backups.ts'
import { hashArtifact, openArtifact } from '../storage/reader.ts'
import { existsArtifact, type ReadOptions } from '../storage/stored-bytes.ts'
import { unpackerOf } from '../storage/unpack.ts'
import { cleanHost } from './cleanup.ts'
import type { WorkerContext } from './context.ts'
import { fromCopies, isAway, loadCopy } from './copies.ts'
import { dataKeyOf } from './needed.ts'
import type { PausableTurn } from './pausing.ts'
import { readWhole } from './reading.ts'
import { lookAtForeign } from './verify-foreign.ts'

type Verify = Pick<VerifyInput, 'operationId' | 'backupId' | 'copies' | 'sourceConnection' | 'level'>

/** What makes a backup a damaged one; everything else says nothing of it. */
const damage =
  /^(artifact\.(truncated|corrupted|malformed)|manifest\.\w+|backup\.(not-found|deleted)|destination\.object-missing)$/

export const isDamage = (error: unknown): error is HoldfastError =>
  error instanceof HoldfastError && damage.test(error.code)

/**
 * `exists`: manifest signed by a trusted installation, every object there with its length. `checksum`: every stored
 * byte read again and hashed. `deep`: also decrypted, unpacked, and read by the reader of its format, and by the engine's own
 * tool. A bad answer is recorded and then thrown, so that it is seen in both places.
 */
export async function verifyBackup(
  context: WorkerContext,
  turn: PausableTurn,
  input: Verify,
): Promise<Verified & { warnings: string[] }> {
  const { result, warnings } = await fromCopies(
    context,
    turn,
    input,
    destination => verifyCopy(context, turn, input, destination),
    isAway,
  )
  return { ...result, warnings }
}

async function verifyCopy(
  context: WorkerContext,
  turn: PausableTurn,
  input: Verify,
  destination: string,
): Promise<Verified> {
  const answer = (ok: boolean, detail: string): Verified => ({
    at: new Date().toISOString(),
    level: input.level,
    ok,
    detail,
  })
  const record = (verified: Verified) =>
    context.catalog.recordVerification(input.backupId, destination, verified)
  try {
    const verified = answer(true, await look(context, turn, input, destination))
    await record(verified)
    return verified
  } catch (error) {
    if (isDamage(error)) {
      await record(answer(false, error.message))
    }
    throw error
  }
}

async function look(
  context: WorkerContext,
  turn: PausableTurn,
  input: Verify,
  name: string,
): Promise<string> {
  if (isForeignId(input.backupId)) return await lookAtForeign(context, turn, input, name)
  const { manifest, keys } = await loadCopy(context, turn, input, name)
  const destination = await context.destination(name)
  // A hash cannot be carried over to another run: what was paused is read again from its beginning.
  const signal = AbortSignal.any([turn.signal, turn.pausing])
  const prefix = backupPrefix(input.sourceConnection, input.backupId)
  const totalBytes = manifest.artifacts.reduce((sum, artifact) => sum + artifact.storedBytes, 0)
  const found: string[] = []
  let before = 0
  for (const entry of manifest.artifacts) {
    signal.throwIfAborted()
    const base = before
    const reading: ReadOptions & { signal: AbortSignal } = {
      destination,
      key: `${prefix}${entry.object}`,
      entry,
      signal,
      onProgress: bytes => turn.progress({ bytes: base + bytes, totalBytes }),
    }
    if (input.level === 'exists') await existsArtifact(reading)
    else if (input.level === 'checksum') await hashArtifact(reading)
    else found.push(await readDeep(context, input, { manifest, keys, prefix }, entry, reading))
    before += entry.storedBytes
  }
  const objects = `${manifest.artifacts.length} object${manifest.artifacts.length === 1 ? '' : 's'}`
  if (input.level === 'exists') return `${objects} there, ${totalBytes} bytes, manifest signed`
  const hashed = `${objects} read again, ${totalBytes} bytes, every hash agrees`
  // What it is put together with is a backup of its own, which is verified by itself.
  const { parent } = manifest
  const needed = parent === null ? [] : [`made against ${parent}, which was not looked at`]
  return [hashed, ...found, ...needed].join('; ')
}

/** Begins anew after a kill, from empty staging; what of it stays on a machine that is gone, the next operation there clears. */
async function readDeep(
  context: WorkerContext,
  { operationId }: Verify,
  backup: { manifest: Manifest; keys: readonly KeySidecar[]; prefix: string },
  entry: ArtifactEntry,
  reading: ReadOptions & { signal: AbortSignal },
): Promise<string> {
  const reader = readerOf(entry.format)
  const dataKey = await dataKeyOf(context, backup.manifest, backup.keys, entry.name)
  await cleanHost(context, operationId)
  try {
    return await readWhole(reader, toolBytes(reading, dataKey, entry), {
      host: context.host,
      operation: operationId,
      signal: reading.signal,
      siblings: siblingsOf(context, backup, entry, reading),
    })
  } catch (error) {
    throw isDamage(error) ? named(error, reading.key, entry) : error
  } finally {
    await cleanHost(context, operationId)
  }
}

const mostOfASmallOne = 256 << 20

function siblingsOf(
  context: WorkerContext,
  { manifest, keys, prefix }: { manifest: Manifest; keys: readonly KeySidecar[]; prefix: string },
  { name }: ArtifactEntry,
  { destination, signal }: ReadOptions & { signal: AbortSignal },
): Siblings {
  return {
    name,
    names: manifest.artifacts.map(one => one.name),
    async whole(wanted) {
      const entry = manifest.artifacts.find(one => one.name === wanted)
      if (!entry || entry.toolBytes > mostOfASmallOne) {
        throw new HoldfastError('manifest.invalid', `There is no small artifact "${wanted}" in this backup.`)
      }
      const key = `${prefix}${entry.object}`
      const reading = { destination, key, entry, signal, onProgress: () => {} }
      const pieces: Buffer[] = []
      try {
        const dataKey = await dataKeyOf(context, manifest, keys, wanted)
        for await (const piece of toolBytes(reading, dataKey, entry)) pieces.push(piece)
      } catch (error) {
        throw isDamage(error) ? named(error, key, entry) : error
      }
      return Buffer.concat(pieces)
    },
  }
}

async function* toolBytes(
  reading: ReadOptions,
  dataKey: Uint8Array | null,
  entry: ArtifactEntry,
): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const chunk of unpackerOf(entry.compression)(openArtifact({ ...reading, dataKey }))) {
    bytes += chunk.length
    yield chunk
  }
  if (bytes === entry.toolBytes) return
  throw new HoldfastError(
    'artifact.corrupted',
    `Artifact ${entry.name} unpacks to ${bytes} bytes, its manifest says ${entry.toolBytes}.`,
  )
}

/** Whatever was found out about the place: also in which object, and at which of its bytes. */
const named = (error: HoldfastError, object: string, entry: ArtifactEntry): HoldfastError => {
  const packedOffset = error.context?.packedOffset
  // Without encryption the compressed bytes are those of the object.
  const stored = entry.encryption === null && packedOffset !== undefined ? { storedOffset: packedOffset } : {}
  return new HoldfastError(
    error.code,
    error.message.includes(entry.name) ? error.message : `Artifact ${entry.name}: ${error.message}`,
    {
      cause: error,
      hint: error.hint,
      context: { ...error.context, ...stored, object, artifact: entry.name },
    },
  )
}
