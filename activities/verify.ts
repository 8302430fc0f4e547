/** Verify: looks at a committed backup where it lies. Takes no lock, writes nothing there, deletes nothing. */

import { HoldfastError } from '../model/errors.ts'
import type { BackupRecord, VerifyInput } from '../model/records.ts'
import { backupPrefix, loadBackup } from '../storage/backups.ts'
import { existsArtifact, hashArtifact } from '../storage/reader.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'

type Verified = NonNullable<BackupRecord['verified']>

/**
 * `exists`: manifest signed by a trusted installation, every object there with its length. `checksum`: every stored
 * byte read again and hashed. A bad answer is recorded and then thrown, so that it is seen in both places.
 */
export async function verifyBackup(
  context: WorkerContext,
  turn: Turn,
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

async function look(context: WorkerContext, turn: Turn, input: VerifyInput): Promise<string> {
  const destination = await context.destination(input.destination)
  const trusted = await context.catalog.trustedInstallations()
  const { manifest } = await loadBackup(destination, input.sourceConnection, input.backupId, trusted)
  const prefix = backupPrefix(input.sourceConnection, input.backupId)
  const totalBytes = manifest.artifacts.reduce((sum, artifact) => sum + artifact.storedBytes, 0)
  let before = 0
  for (const entry of manifest.artifacts) {
    turn.signal.throwIfAborted()
    const key = `${prefix}${entry.object}`
    if (input.level === 'exists') await existsArtifact({ destination, key, entry, signal: turn.signal })
    else {
      const base = before
      await hashArtifact({
        destination,
        key,
        entry,
        signal: turn.signal,
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
