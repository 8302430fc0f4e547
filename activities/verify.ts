/** Verify: looks at a committed backup where it lies. Takes no lock, writes nothing there, deletes nothing. */

import { HoldfastError } from '../model/errors.ts'
import type { BackupRecord, VerifyInput } from '../model/records.ts'
import { backupPrefix, loadBackup } from '../storage/backups.ts'
import { hashArtifact } from '../storage/reader.ts'
import { existsArtifact } from '../storage/stored-bytes.ts'
import type { WorkerContext } from './context.ts'
import type { PausableTurn } from './pausing.ts'

type Verified = NonNullable<BackupRecord['verified']>

/**
 * `exists`: manifest signed by a trusted installation, every object there with its length. `checksum`: every stored
 * byte read again and hashed. A bad answer is recorded and then thrown, so that it is seen in both places.
 */
export async function verifyBackup(
  context: WorkerContext,
  turn: PausableTurn,
  input: VerifyInput,
): Promise<Verified> {
  const answer = (ok: boolean, detail: string): Verified => ({
    at: new Date().toISOString(),
    level: input.level,
    ok,
    detail,
  })
  try {
    const detail = await look(context, turn, input)
    const verified = answer(true, detail)
    await context.catalog.recordVerification(input.backupId, verified)
    return verified
  } catch (error) {
    if (
      error instanceof HoldfastError &&
      /^(artifact|manifest|backup|destination\.object)/.test(error.code)
    ) {
      await context.catalog.recordVerification(input.backupId, answer(false, error.message))
    }
    throw error
  }
}

async function look(context: WorkerContext, turn: PausableTurn, input: VerifyInput): Promise<string> {
  const destination = await context.destination(input.destination)
  const trusted = await context.catalog.trustedInstallations()
  const { manifest } = await loadBackup(destination, input.sourceConnection, input.backupId, trusted)
  // A hash cannot be carried over to another run: what was paused is read again from its beginning.
  const signal = AbortSignal.any([turn.signal, turn.pausing])
  const prefix = backupPrefix(input.sourceConnection, input.backupId)
  const totalBytes = manifest.artifacts.reduce((sum, artifact) => sum + artifact.storedBytes, 0)
  let before = 0
  for (const entry of manifest.artifacts) {
    signal.throwIfAborted()
    const key = `${prefix}${entry.object}`
    if (input.level === 'exists') await existsArtifact({ destination, key, entry, signal })
    else {
      const base = before
      await hashArtifact({
        destination,
        key,
        entry,
        signal,
        onProgress: bytes => turn.progress({ bytes: base + bytes, totalBytes }),
      })
    }
    before += entry.storedBytes
  }
  const objects = `${manifest.artifacts.length} object${manifest.artifacts.length === 1 ? '' : 's'}`
  return input.level === 'exists'
    ? `${objects} there, ${totalBytes} bytes, manifest signed`
    : `${objects} read again, ${totalBytes} bytes, every hash agrees`
}
