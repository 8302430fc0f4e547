/** Backups that another one needs: what an incremental one is made against, and what it is put together with. */
import { HoldfastError } from '../model/errors.ts'
import type { KeySidecar, Manifest } from '../model/manifest.ts'
import type { NeededBackup } from '../model/records.ts'
import { artifactKey } from '../storage/backups.ts'
import { archivedObject } from '../storage/classes.ts'
import { openArtifact } from '../storage/reader.ts'
import { dataKeyFrom } from '../storage/sidecars.ts'
import { existsArtifact } from '../storage/stored-bytes.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { fromCopies, loadCopy } from './copies.ts'
import type { OpenedArtifact } from './steps.ts'

/** Unwraps the artifact's data key; null for one that is not encrypted. */
export const dataKeyOf = (
  context: Pick<WorkerContext, 'catalog'>,
  manifest: Manifest,
  keys: readonly KeySidecar[],
  name: string,
): Promise<Uint8Array | null> =>
  dataKeyFrom(manifest, keys, name, async jwe =>
    Buffer.from(await context.catalog.unwrapDataKey(jwe), 'base64url'),
  )

/** Signature and all. */
export async function neededManifest(
  context: WorkerContext,
  turn: Turn,
  operationId: string,
  needed: NeededBackup,
): Promise<Manifest> {
  const from = { ...needed, operationId }
  const { result } = await fromCopies(context, turn, from, name => loadCopy(context, turn, from, name))
  return result.manifest
}

/** Of the first copy that answers. `planned`: what the plan was made from. */
export async function openNeeded(
  context: WorkerContext,
  turn: Turn,
  operationId: string,
  needed: NeededBackup,
  planned: Manifest,
  artifact: string,
): Promise<OpenedArtifact> {
  const from = { ...needed, operationId }
  const entry = planned.artifacts.find(one => one.name === artifact)
  if (!entry) {
    throw new HoldfastError('manifest.invalid', `Backup ${needed.backupId} has no artifact "${artifact}".`)
  }
  const { result } = await fromCopies(context, turn, from, async name => {
    const { manifest, keys } = await loadCopy(context, turn, from, name)
    if (manifest.attemptId !== planned.attemptId) {
      throw new HoldfastError(
        'manifest.invalid',
        `Backup ${needed.backupId} at ${name} is of attempt ${manifest.attemptId}; planned for was ${planned.attemptId}.`,
      )
    }
    const destination = await context.destination(name)
    const { signal } = turn
    const key = artifactKey(needed.sourceConnection, needed.backupId, entry)
    // Seen by who reads it, it would be too late for another copy.
    const { frozen } = await existsArtifact({ destination, key, entry, signal })
    if (frozen !== undefined) throw archivedObject(`${key} in ${destination.uri}`)
    return openArtifact({
      destination,
      key,
      entry,
      signal,
      onProgress: bytes => turn.progress({ bytes, totalBytes: entry.storedBytes }),
      dataKey: await dataKeyOf(context, planned, keys, artifact),
    })
  })
  return { compressed: result, packing: entry.compression }
}
