/**
 * Starts writing to the disk while parts still arrive, so that the sync at the end has little left to do. Nobody waits
 * for it but the end of the upload. A failed sync is told by the kernel once only: it is remembered here, and it makes
 * the upload worthless.
 */
import { open } from 'node:fs/promises'

const everyBytes = 64 * 1024 * 1024

export interface Writeback {
  wrote(uploadId: string, path: string, bytes: number): void
  /** Throws what an earlier sync of this upload met. */
  throwIfFailed(uploadId: string): void
  /** Waits for the running sync of this upload and throws if one failed. Called once, at its end. */
  settle(uploadId: string): Promise<void>
  forget(uploadId: string): void
  /** Waits for every running sync. */
  close(): Promise<void>
}

interface UploadState {
  unsynced: number
  running: Promise<void> | undefined
  failure: unknown
}

/** `onFailure` removes the upload, so that no other process goes on with bytes the disk has lost. */
export function openWriteback(onFailure: (uploadId: string) => Promise<void>): Writeback {
  const uploads = new Map<string, UploadState>()

  const sync = async (uploadId: string, path: string, state: UploadState) => {
    let file: Awaited<ReturnType<typeof open>>
    try {
      file = await open(path, 'r')
    } catch {
      return // Completed or aborted meanwhile.
    }
    try {
      await file.datasync()
    } catch (error) {
      state.failure = error
      await onFailure(uploadId).catch(() => undefined)
    } finally {
      await file.close()
      state.running = undefined
    }
  }

  const throwIfFailed = (uploadId: string) => {
    const failure = uploads.get(uploadId)?.failure
    if (failure !== undefined) throw failure
  }

  return {
    wrote(uploadId, path, bytes) {
      const state = uploads.get(uploadId) ?? { unsynced: 0, running: undefined, failure: undefined }
      uploads.set(uploadId, state)
      state.unsynced += bytes
      if (state.unsynced < everyBytes || state.running) return
      state.unsynced = 0
      state.running = sync(uploadId, path, state)
    },
    throwIfFailed,
    async settle(uploadId) {
      await uploads.get(uploadId)?.running
      throwIfFailed(uploadId)
    },
    forget: uploadId => void uploads.delete(uploadId),
    async close() {
      for (const state of uploads.values()) await state.running
    },
  }
}
