/** Files of the worker's own machine. */

import { randomBytes } from 'node:crypto'
import { type FileHandle, lstat, mkdir, open, readdir, rename, rm, stat, statfs } from 'node:fs/promises'
import { dirname, isAbsolute, join } from 'node:path'
import { Readable } from 'node:stream'
import { errnoOf } from '../model/errno.ts'
import { type ErrorCode, HoldfastError } from '../model/errors.ts'
import type { Host } from './host.ts'

const smallBytes = 16 * 1024 * 1024
const chunkBytes = 1024 * 1024

/** What the machine said, as an error of the table where it has one; anything else is handed on as it is. */
export function fileError(doing: string, path: string, cause: unknown): unknown {
  const code = errnoOf(cause)
  const detail = `${doing} ${path}: ${cause instanceof Error ? cause.message : String(cause)}`
  if (code === 'ENOSPC') return new HoldfastError('staging.full', detail, { cause, context: { path } })
  if (code === 'EDQUOT') return new HoldfastError('staging.quota', detail, { cause, context: { path } })
  if (code === 'EROFS') return new HoldfastError('staging.read-only', detail, { cause, context: { path } })
  // A file where a directory should be.
  if (code === 'EACCES' || code === 'EPERM' || code === 'EEXIST' || code === 'ENOTDIR') {
    return new HoldfastError('staging.permission', detail, { cause, context: { path } })
  }
  return cause
}

/** The same from words, where only a shell was there to say them. */
export function stagingCode(said: string): ErrorCode | undefined {
  if (/no space left on device/i.test(said)) return 'staging.full'
  if (/disk quota exceeded/i.test(said)) return 'staging.quota'
  if (/read-only file system/i.test(said)) return 'staging.read-only'
  if (/permission denied|operation not permitted|is not a private directory/i.test(said)) {
    return 'staging.permission'
  }
  return undefined
}

const missing = (cause: unknown) => errnoOf(cause) === 'ENOENT' || errnoOf(cause) === 'ENOTDIR'

async function told<T>(doing: string, path: string, act: () => Promise<T>): Promise<T> {
  if (!isAbsolute(path)) throw new HoldfastError('internal', `${doing} ${path}: the path is not absolute.`)
  try {
    return await act()
  } catch (cause) {
    throw fileError(doing, path, cause)
  }
}

async function withFile<T>(path: string, flags: string, act: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, flags, 0o600)
  try {
    return await act(file)
  } finally {
    await file.close()
  }
}

const syncDirectory = (path: string) => withFile(path, 'r', directory => directory.sync())

/**
 * Makes it and what is missing above it, 0700; returns the first that was made. Node answers ENOENT for a file system that is
 * read-only, or under a quota that is used up: a plain mkdir below what is there says which.
 */
export async function makePath(path: string): Promise<string | undefined> {
  try {
    return await mkdir(path, { recursive: true, mode: 0o700 })
  } catch (cause) {
    if (errnoOf(cause) !== 'ENOENT') throw cause
    let first = path
    while (dirname(first) !== first && (await lstat(dirname(first)).catch(() => undefined)) === undefined) {
      first = dirname(first)
    }
    await mkdir(first, { mode: 0o700 }).catch(real => {
      if (errnoOf(real) !== 'EEXIST') throw real
    })
    throw cause
  }
}

/** The same, durable. */
async function makeDirectory(path: string): Promise<void> {
  const first = await makePath(path)
  if (first === undefined) return
  for (let made = path; ; made = dirname(made)) {
    await syncDirectory(dirname(made))
    if (made === first || made === dirname(made)) return
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    const found = await lstat(path)
    if (!found.isDirectory()) return found.isFile() ? found.size : 0
    let bytes = 0
    for (const name of await readdir(path)) bytes += await sizeOf(join(path, name))
    return bytes
  } catch (cause) {
    // A directory that a tool is writing to: files come and go.
    if (missing(cause)) return 0
    throw cause
  }
}

function readRange(path: string, offset: number, length: number | undefined): Readable {
  let file: FileHandle | undefined
  let position = offset
  const end = length === undefined ? Number.POSITIVE_INFINITY : offset + length
  return new Readable({
    highWaterMark: chunkBytes,
    construct(callback) {
      open(path, 'r').then(
        opened => {
          file = opened
          callback()
        },
        cause => callback(fileError('Reading', path, cause) as Error),
      )
    },
    read() {
      const wanted = Math.min(chunkBytes, end - position)
      if (wanted <= 0) {
        this.push(null)
        return
      }
      // No callback may touch the stream after it was destroyed: push() then is a no-op, and destroy waits for close.
      file!.read(Buffer.allocUnsafe(wanted), 0, wanted, position).then(
        ({ bytesRead, buffer }) => {
          if (bytesRead > 0) {
            position += bytesRead
            this.push(buffer.subarray(0, bytesRead))
          } else if (end === Number.POSITIVE_INFINITY) {
            this.push(null)
          } else {
            this.destroy(
              new HoldfastError(
                'staging.changed',
                `Reading ${path}: it ends at byte ${position}, ${end - position} bytes earlier than asked for.`,
                { context: { path } },
              ),
            )
          }
        },
        cause => this.destroy(fileError('Reading', path, cause) as Error),
      )
    },
    destroy(error, callback) {
      if (file === undefined) callback(error)
      else
        file.close().then(
          () => callback(error),
          cause => callback(error ?? cause),
        )
    },
  })
}

export const localFiles: Host['files'] = {
  stat: path =>
    told('Looking at', path, async () => {
      try {
        const found = await stat(path, { bigint: true })
        return {
          bytes: Number(found.size),
          kind: found.isFile() ? 'file' : found.isDirectory() ? 'directory' : 'other',
          modifiedAtMs: Number(found.mtimeMs),
          inode: `${found.dev}:${found.ino}`,
        }
      } catch (cause) {
        if (missing(cause)) return undefined
        throw cause
      }
    }),
  list: path =>
    told('Listing', path, async () => {
      try {
        return await readdir(path)
      } catch (cause) {
        if (missing(cause)) return []
        throw cause
      }
    }),
  size: path => told('Measuring', path, () => sizeOf(path)),
  read: (path, range) => readRange(path, range?.offset ?? 0, range?.length),
  write: (path, data) =>
    told('Writing', path, async () => {
      const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
      try {
        await withFile(temporary, 'wx', async file => {
          await file.writeFile(data)
          await file.sync()
        })
        await rename(temporary, path)
      } catch (cause) {
        await rm(temporary, { force: true })
        throw cause
      }
      await syncDirectory(dirname(path))
    }),
  readSmall: path =>
    told('Reading', path, async () => {
      try {
        return await withFile(path, 'r', async file => {
          const { size } = await file.stat()
          if (size > smallBytes) {
            throw new HoldfastError(
              'internal',
              `Reading ${path}: ${size} bytes are more than a small file has.`,
            )
          }
          return await file.readFile('utf8')
        })
      } catch (cause) {
        if (missing(cause)) return undefined
        throw cause
      }
    }),
  append: (path, line) =>
    told('Appending to', path, async () => {
      if (line.includes('\n'))
        throw new HoldfastError('internal', `Appending to ${path}: more than one line.`)
      await withFile(path, 'a+', async file => {
        const { size } = await file.stat()
        const last = Buffer.alloc(1, '\n')
        if (size > 0) await file.read(last, 0, 1, size - 1)
        // A line cut short by a crash stays alone: ours begins on its own.
        const data = Buffer.from(`${last.toString() === '\n' ? '' : '\n'}${line}\n`)
        try {
          const { bytesWritten } = await file.write(data)
          if (bytesWritten < data.length) {
            throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
          }
          await file.sync()
        } catch (cause) {
          await file.truncate(size).catch(() => {})
          throw cause
        }
        if (size === 0) await syncDirectory(dirname(path))
      })
    }),
  ensureDirectory: path => told('Making the directory', path, () => makeDirectory(path)),
  remove: path =>
    told('Removing', path, async () => {
      if (dirname(path) === path) throw new HoldfastError('internal', `Removing ${path}: refused.`)
      await rm(path, { recursive: true, force: true })
    }),
  freeBytes: path =>
    told('Asking for free space at', path, async () => {
      for (let at = path; ; at = dirname(at)) {
        try {
          const { bavail, bsize } = await statfs(at)
          return bavail * bsize
        } catch (cause) {
          // Not made yet: what is above it decides.
          if (!missing(cause) || at === dirname(at)) throw cause
        }
      }
    }),
}
