/** A file that keeps the stored bytes of an artifact on this machine: what an earlier run has fetched is not fetched again. */
import { constants } from 'node:fs'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { fileError } from '../hosts/index.ts'
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { Spool } from '../storage/reader.ts'
import { storedBytes } from '../storage/stored-bytes.ts'

const chunkBytes = 1024 * 1024

/**
 * In a directory of our own. What the file has is given out like what comes from the store, to the same proofs: a machine
 * that crashed may have kept anything. Two runs that write to it write the same bytes to the same places.
 * The caller removes it.
 */
export function spoolAt(path: string): Spool {
  let kept = 0
  return {
    async *bytes(options) {
      const { entry, onProgress } = options
      const { O_CREAT, O_RDWR, O_NOFOLLOW } = constants
      const file = await told(path, () => open(path, O_CREAT | O_RDWR | O_NOFOLLOW, 0o600))
      try {
        kept = Math.min((await file.stat()).size, entry.storedBytes)
        for await (const chunk of beginning(file, path, kept)) {
          options.signal?.throwIfAborted()
          onProgress?.(chunk.end)
          yield chunk.bytes
        }
        let position = kept
        for await (const chunk of storedBytes(options, kept)) {
          await told(path, () => writeWhole(file, chunk, position))
          position += chunk.length
          yield chunk
        }
      } finally {
        await file.close()
      }
    },
    async explain(error) {
      if (kept === 0 || !hasCode(error, 'artifact.corrupted', 'artifact.truncated')) return error
      await rm(path, { force: true })
      return new HoldfastError(
        'staging.changed',
        `Reading ${path}, which an earlier run had downloaded: it is not what was stored. It is downloaded anew.`,
      )
    },
  }
}

async function* beginning(file: FileHandle, path: string, end: number) {
  for (let position = 0; position < end; ) {
    // Memory of its own for each: whoever reads lets go of it.
    const chunk = Buffer.allocUnsafeSlow(Math.min(chunkBytes, end - position))
    const { bytesRead } = await file.read(chunk, 0, chunk.length, position)
    if (bytesRead === 0) throw new HoldfastError('artifact.truncated', `Reading ${path}: it became shorter.`)
    position += bytesRead
    yield { bytes: bytesRead === chunk.length ? chunk : chunk.subarray(0, bytesRead), end: position }
  }
}

async function writeWhole(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written)
    written += bytesWritten
  }
}

async function told<T>(path: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act()
  } catch (error) {
    throw fileError('Keeping a download in', path, error)
  }
}
