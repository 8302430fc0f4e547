/** Objects of a local destination: files below the root, named by their keys. */
import { constants, type Dirent, type Stats } from 'node:fs'
import { type FileHandle, open, readdir, rm, stat, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { errnoOf } from '../../model/errno.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions, ObjectStat, PutOptions } from '../destination.ts'
import { expectSmall, tooLargeToRead } from '../limits.ts'
import { checkKey, checkPrefix, compareKeys, uploadsFolder } from '../object-key.ts'
import { explained, isAbsent, rootTrouble } from './errors.ts'
import {
  ensureDirectory,
  pruneEmpty,
  publish,
  scratchDirectory,
  scratchName,
  syncDirectory,
  writeSynced,
} from './files.ts'

const readChunkBytes = 1024 * 1024

export async function putObject(
  root: string,
  key: string,
  body: Uint8Array,
  options: PutOptions = {},
): Promise<ObjectStat> {
  checkKey(key)
  options.signal?.throwIfAborted()
  expectSmall(key, body)
  return await explained(root, `Writing "${key}"`, async () => {
    const path = join(root, key)
    const scratch = scratchDirectory(root)
    await ensureDirectory(root, scratch)
    const temporary = join(scratch, scratchName('put'))
    await writeSynced(temporary, body)
    try {
      options.signal?.throwIfAborted()
      const made = objectStat(key, await stat(temporary))
      await publish(root, temporary, path, options.ifAbsent === true)
      return made
    } catch (error) {
      if (options.ifAbsent && errnoOf(error) === 'EEXIST') {
        throw new HoldfastError('destination.exists', `"${key}" is in ${root} already.`)
      }
      throw error
    } finally {
      await rm(temporary, { force: true })
    }
  })
}

export async function readObject(
  root: string,
  key: string,
  options: CallOptions = {},
): Promise<Uint8Array | undefined> {
  checkKey(key)
  options.signal?.throwIfAborted()
  return await explained(root, `Reading "${key}"`, async () => {
    const file = await openObject(root, key)
    if (!file) return undefined
    try {
      const { size } = await file.stat()
      const tooLarge = tooLargeToRead(`"${key}" in ${root}`, size)
      if (tooLarge) throw tooLarge
      return await file.readFile(options.signal ? { signal: options.signal } : {})
    } finally {
      await file.close()
    }
  })
}

export async function getObject(
  root: string,
  key: string,
  options: CallOptions & { offset?: number; length?: number } = {},
): Promise<Readable> {
  checkKey(key)
  options.signal?.throwIfAborted()
  const doing = `Reading "${key}"`
  return await explained(root, doing, async () => {
    const file = await openObject(root, key)
    if (!file) throw new HoldfastError('destination.object-missing', `"${key}" is not in ${root}.`)
    const { size } = await file.stat()
    const offset = Math.min(options.offset ?? 0, size)
    const end = options.length === undefined ? size : Math.min(size, offset + options.length)
    const stream = Readable.from(chunks(root, key, file, offset, end), {
      objectMode: false,
      highWaterMark: 2 * readChunkBytes,
      ...(options.signal ? { signal: options.signal } : {}),
    })
    // A stream that is destroyed before it is read never starts its generator.
    stream.once('close', () => void file.close().catch(() => undefined))
    return stream
  })
}

/** A file that was cut under the reader ends in an error, not in an early end. */
async function* chunks(
  root: string,
  key: string,
  file: FileHandle,
  offset: number,
  end: number,
): AsyncGenerator<Buffer> {
  for (let position = offset; position < end; ) {
    const wanted = Math.min(readChunkBytes, end - position)
    const { bytesRead, buffer } = await explained(root, `Reading "${key}"`, () =>
      file.read(Buffer.allocUnsafeSlow(wanted), 0, wanted, position),
    )
    if (bytesRead === 0) {
      throw new HoldfastError(
        'destination.corrupted',
        `Reading "${key}" in ${root} failed: the file became shorter while it was read.`,
      )
    }
    yield buffer.subarray(0, bytesRead)
    position += bytesRead
  }
}

export async function statObject(root: string, key: string): Promise<ObjectStat | undefined> {
  checkKey(key)
  return await explained(root, `Looking at "${key}"`, async () => {
    const found = await statFile(join(root, key))
    if (!found) await expectRoot(root)
    return found && objectStat(key, found)
  })
}

export async function* listObjects(
  root: string,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<ObjectStat> {
  checkPrefix(prefix)
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
  await expectRoot(root)
  yield* walk(root, folder, prefix, options)
}

async function* walk(
  root: string,
  folder: string,
  prefix: string,
  options: CallOptions,
): AsyncGenerator<ObjectStat> {
  options.signal?.throwIfAborted()
  const entries = await explained(root, `Listing "${folder}"`, async () => {
    try {
      return await readdir(join(root, folder), { withFileTypes: true })
    } catch (error) {
      // Pruned meanwhile, or never there.
      if (isAbsent(error)) return []
      throw error
    }
  })
  const named = entries
    .filter(
      entry => (entry.isFile() || entry.isDirectory()) && !(folder === '' && entry.name === uploadsFolder),
    )
    .map(entry => ({ entry, key: `${folder}${entry.name}${entry.isDirectory() ? '/' : ''}` }))
    .filter(({ entry, key }) => key.startsWith(prefix) || (entry.isDirectory() && prefix.startsWith(key)))
    // With the slash of a directory in the key this is the order of the full keys below it.
    .sort((a, b) => compareKeys(a.key, b.key))
  for (const { entry, key } of named) yield* visit(root, entry, key, prefix, options)
}

async function* visit(
  root: string,
  entry: Dirent,
  key: string,
  prefix: string,
  options: CallOptions,
): AsyncGenerator<ObjectStat> {
  if (entry.isDirectory()) {
    yield* walk(root, key, prefix, options)
    return
  }
  const found = await explained(root, `Looking at "${key}"`, () => statFile(join(root, key)))
  if (found) yield objectStat(key, found)
}

export async function removeObject(root: string, key: string): Promise<void> {
  checkKey(key)
  await explained(root, `Removing "${key}"`, async () => {
    const path = join(root, key)
    try {
      if (!(await statFile(path))) {
        await expectRoot(root)
        return
      }
      await unlink(path)
      await syncDirectory(dirname(path))
    } catch (error) {
      // Somebody else removed it, and perhaps its directory, at the same moment.
      if (!isAbsent(error)) throw error
      await expectRoot(root)
    }
    await pruneEmpty(root, dirname(path))
  })
}

/** What is not there is told from a root that is not there. */
async function expectRoot(root: string): Promise<void> {
  const trouble = await rootTrouble(root)
  if (trouble) throw new HoldfastError('destination.missing', `${root} cannot be used: ${trouble}.`)
}

async function openObject(root: string, key: string): Promise<FileHandle | undefined> {
  let file: FileHandle
  try {
    // Without O_NONBLOCK a FIFO that somebody put there would hang us.
    file = await open(join(root, key), constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    if (!isAbsent(error)) throw error
    await expectRoot(root)
    return undefined
  }
  if ((await file.stat()).isFile()) return file
  await file.close()
  return undefined
}

export async function statFile(path: string): Promise<Stats | undefined> {
  try {
    const found = await stat(path)
    return found.isFile() ? found : undefined
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

export const objectStat = (key: string, found: Stats): ObjectStat => ({
  key,
  bytes: found.size,
  modifiedAt: found.mtime,
  tag: `${found.ino.toString(36)}-${found.size.toString(36)}-${Math.trunc(found.mtimeMs).toString(36)}`,
})
