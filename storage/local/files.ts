/**
 * Files that survive a power cut: everything the objects and uploads of a local destination are made of.
 * The rule behind each function: bytes are synced before a name leads to them, and the name's directory after.
 */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, link, mkdir, open, readdir, rename, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { errnoOf } from '../../model/errno.ts'
import { HoldfastError } from '../../model/errors.ts'
import { uploadsFolder } from '../object-key.ts'

export const fileMode = 0o600
const directoryMode = 0o700

export const scratchDirectory = (root: string): string => join(root, uploadsFolder)
/** Names in the scratch directory say what they are: `put-` a file being written, `new-` and `gone-` half of an upload. */
export const scratchName = (kind: 'put' | 'new'): string => `${kind}-${randomBytes(9).toString('hex')}`

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await directory.sync()
  } catch (error) {
    // Some network file systems have no fsync of directories; there the server orders the names itself.
    if (!['EINVAL', 'ENOTSUP', 'EBADF'].includes(errnoOf(error) ?? '')) throw error
  } finally {
    await directory.close()
  }
}

/** Makes the missing directories from below `root` down to `path`, durably. Never the root: an unmounted disk must show. */
export async function ensureDirectory(root: string, path: string): Promise<void> {
  if (path === root) return
  try {
    await mkdir(path, { mode: directoryMode })
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') {
      if ((await stat(path)).isDirectory()) return
      throw Object.assign(new Error('not a directory'), { code: 'ENOTDIR' })
    }
    if (errnoOf(error) !== 'ENOENT') throw error
    if (dirname(path) === root) throw error
    await ensureDirectory(root, dirname(path))
    await ensureDirectory(root, path)
    return
  }
  await syncDirectory(dirname(path))
}

export async function writeWhole(handle: FileHandle, body: Uint8Array, position: number): Promise<void> {
  let written = 0
  while (written < body.length) {
    const { bytesWritten } = await handle.write(body, written, body.length - written, position + written)
    written += bytesWritten
  }
}

/** A new synced file; nothing of it stays behind when it cannot be written. The name is not durable yet. */
export async function writeSynced(path: string, body: Uint8Array): Promise<void> {
  const handle = await open(path, 'wx', fileMode)
  try {
    await writeWhole(handle, body, 0)
    await handle.sync()
  } catch (error) {
    await handle.close()
    await rm(path, { force: true })
    throw error
  }
  await handle.close()
}

/**
 * Gives a synced file its final name, durably. `exclusive`: link, which never replaces (EEXIST); else rename, which does.
 * Somebody who prunes empty directories may take the new parent away again in between: then it is made once more.
 */
export async function publish(root: string, from: string, to: string, exclusive: boolean): Promise<void> {
  const parent = dirname(to)
  for (let tries = 1; ; tries += 1) {
    try {
      await ensureDirectory(root, parent)
      await (exclusive ? link(from, to) : rename(from, to))
      // Up to the root: whoever made a directory on the way may not have come to syncing it.
      for (let directory = parent; directory !== root; directory = dirname(directory))
        await syncDirectory(directory)
      await syncDirectory(root)
      return
    } catch (error) {
      const errno = errnoOf(error)
      if (exclusive && ['EPERM', 'ENOTSUP', 'EOPNOTSUPP'].includes(errno ?? '')) {
        throw new HoldfastError(
          'destination.misconfigured',
          `The file system of ${root} has no hard links (${errno}); without them an object cannot be made whole or not at all.`,
          { hint: 'Use a directory on ext4, XFS, Btrfs, ZFS, APFS or NFS.' },
        )
      }
      // The source must be there, else it is not the pruner's doing.
      if (errno !== 'ENOENT' || tries >= 20 || !(await isThere(from))) throw error
    }
  }
}

/** Removes directories that became empty, from `path` up to the root. `rmdir` refuses those that did not. */
export async function pruneEmpty(root: string, path: string): Promise<void> {
  for (
    let directory = path;
    directory !== root && directory.startsWith(root);
    directory = dirname(directory)
  ) {
    try {
      await rmdir(directory)
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') continue
      return
    }
  }
}

const dayMs = 86_400_000

/** Removes what killed processes left in scratch: aborted uploads at once, unfinished beginnings after a day. */
export async function sweepScratch(root: string): Promise<void> {
  const scratch = scratchDirectory(root)
  for (const name of await readdir(scratch)) {
    const path = join(scratch, name)
    if (name.startsWith('gone-')) await rm(path, { recursive: true, force: true })
    if (!name.startsWith('put-') && !name.startsWith('new-')) continue
    const found = await stat(path).catch(() => undefined)
    if (found && Date.now() - found.mtimeMs > dayMs) await rm(path, { recursive: true, force: true })
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch {
    return false
  }
}
