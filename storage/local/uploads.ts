/**
 * Uploads by parts into a local destination. `<scratch>/<uploadId>/` holds `upload.json` (key, startedAt), `data` (the
 * object being made, parts written at their offsets), `parts` (the journal), and, once completing began, `object`:
 * `data` renamed, so that a writer who was given up can no longer open it.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { errnoOf } from '../../model/errno.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions, ObjectStat, OpenUpload, OutgoingPart, PartInfo } from '../destination.ts'
import { checkKey, checkPrefix, compareKeys } from '../object-key.ts'
import { explained, isAbsent, meanings, rootTrouble } from './errors.ts'
import {
  ensureDirectory,
  fileMode,
  publish,
  scratchDirectory,
  scratchName,
  syncDirectory,
  writeSynced,
  writeWhole,
} from './files.ts'
import { holdsPart, type JournaledPart, journalBegin, journalEnd, readJournal } from './journal.ts'
import { objectStat, statFile } from './objects.ts'
import type { Writeback } from './writeback.ts'

/** What `upload.json` holds. */
export const uploadSchema = z.object({ key: z.string(), startedAt: z.iso.datetime() })
export const uploadIdPattern = /^[0-9a-f]{24}$/

const directoryOf = (root: string, uploadId: string): string => {
  if (!uploadIdPattern.test(uploadId)) {
    throw new HoldfastError('request.invalid', `${JSON.stringify(uploadId)} is not the id of an upload.`)
  }
  return join(scratchDirectory(root), uploadId)
}

export async function openUpload(root: string, key: string): Promise<string> {
  checkKey(key)
  const uploadId = randomBytes(12).toString('hex')
  await explained(root, `Opening an upload of "${key}"`, async () => {
    const scratch = scratchDirectory(root)
    await ensureDirectory(root, scratch)
    // Made under another name first: an upload that is there at all is there whole.
    const fresh = join(scratch, scratchName('new'))
    await mkdir(fresh, { mode: 0o700 })
    try {
      const upload = { key, startedAt: new Date().toISOString() }
      await writeSynced(join(fresh, 'upload.json'), Buffer.from(JSON.stringify(upload)))
      for (const name of ['data', 'parts']) await writeSynced(join(fresh, name), Buffer.alloc(0))
      await syncDirectory(fresh)
      await rename(fresh, directoryOf(root, uploadId))
    } catch (error) {
      await rm(fresh, { recursive: true, force: true })
      throw error
    }
    await syncDirectory(scratch)
  })
  return uploadId
}

export async function putPart(
  root: string,
  writeback: Writeback,
  key: string,
  uploadId: string,
  part: OutgoingPart,
  options: CallOptions = {},
): Promise<PartInfo> {
  options.signal?.throwIfAborted()
  const directory = directoryOf(root, uploadId)
  const data = join(directory, 'data')
  const { number, offset, sha256 } = part
  const tag = sha256 ?? randomUUID()
  const doing = `Writing part ${number} of "${key}"`
  return await explained(root, doing, async () => {
    writeback.throwIfFailed(uploadId)
    const gone = (error: unknown) => (isAbsent(error) ? uploadGone(root, key, uploadId, error) : error)
    // Never O_CREAT: what was aborted or completed stays so, whoever still believes in it.
    const file = await open(data, constants.O_WRONLY).catch(async error => {
      throw await gone(error)
    })
    try {
      await journalBegin(join(directory, 'parts'), number)
      await writeWhole(file, part.body, offset)
      options.signal?.throwIfAborted()
      await journalEnd(join(directory, 'parts'), { number, bytes: part.body.length, offset, tag, sha256 })
    } catch (error) {
      throw await gone(error)
    } finally {
      await file.close()
    }
    writeback.wrote(uploadId, data, part.body.length)
    return { number, bytes: part.body.length, tag, ...(sha256 ? { sha256 } : {}) }
  })
}

export async function listParts(
  root: string,
  key: string,
  uploadId: string,
): Promise<PartInfo[] | undefined> {
  const directory = directoryOf(root, uploadId)
  return await explained(root, `Listing the parts of "${key}"`, async () => {
    try {
      await expectUpload(directory, key)
      const parts = await trustedParts(directory)
      return parts.map(({ number, bytes, tag, sha256 }) => ({
        number,
        bytes,
        tag,
        ...(sha256 ? { sha256 } : {}),
      }))
    } catch (error) {
      if (!isAbsent(error)) throw error
      const trouble = await rootTrouble(root)
      if (trouble) throw error
      return undefined
    }
  })
}

export async function completeUpload(
  root: string,
  writeback: Writeback,
  key: string,
  uploadId: string,
  parts: readonly PartInfo[],
  options: CallOptions = {},
): Promise<ObjectStat> {
  checkKey(key)
  options.signal?.throwIfAborted()
  const directory = directoryOf(root, uploadId)
  const path = join(root, key)
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0)
  return await explained(root, `Completing "${key}"`, async () => {
    await writeback.settle(uploadId)
    try {
      await expectUpload(directory, key)
      expectContiguous(root, key, await trustedParts(directory), parts)
      const object = await sealData(directory, bytes)
      options.signal?.throwIfAborted()
      const made = objectStat(key, await stat(object))
      await publishObject(root, key, object, path)
      await removeUpload(root, uploadId)
      writeback.forget(uploadId)
      return made
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
      // Gone: aborted, or completed by an earlier call whose answer was lost (or by one that ran beside us).
      const there = await statFile(path)
      if (there?.size !== bytes) throw await uploadGone(root, key, uploadId, error)
      return objectStat(key, there)
    }
  })
}

export async function abortUpload(
  root: string,
  writeback: Writeback,
  key: string,
  uploadId: string,
): Promise<void> {
  directoryOf(root, uploadId)
  await explained(root, `Aborting the upload of "${key}"`, async () => {
    await removeUpload(root, uploadId)
    writeback.forget(uploadId)
  })
}

export async function* listUploads(
  root: string,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<OpenUpload> {
  checkPrefix(prefix)
  const scratch = scratchDirectory(root)
  const uploads = await explained(root, 'Listing uploads', async () => {
    const found: OpenUpload[] = []
    for (const uploadId of await readdir(scratch).catch(orEmpty(root))) {
      options.signal?.throwIfAborted()
      if (!uploadIdPattern.test(uploadId)) continue
      const upload = await readUpload(join(scratch, uploadId)).catch(error => {
        if (isAbsent(error)) return undefined
        throw error
      })
      if (upload?.key.startsWith(prefix)) {
        found.push({ key: upload.key, uploadId, startedAt: new Date(upload.startedAt) })
      }
    }
    return found
  })
  yield* uploads.sort((a, b) => compareKeys(a.key, b.key))
}

const orEmpty = (root: string) => async (error: unknown) => {
  if (!isAbsent(error) || (await rootTrouble(root))) throw error
  return []
}

async function readUpload(directory: string): Promise<z.infer<typeof uploadSchema>> {
  return uploadSchema.parse(JSON.parse(await readFile(join(directory, 'upload.json'), 'utf8')))
}

async function expectUpload(directory: string, key: string): Promise<void> {
  const upload = await readUpload(directory)
  if (upload.key !== key) {
    throw new HoldfastError(
      'destination.upload-gone',
      `The upload named for "${key}" is one of "${upload.key}".`,
    )
  }
}

/** Parts that are there for sure; those written before the machine last started are read again. */
async function trustedParts(directory: string): Promise<JournaledPart[]> {
  const parts = await readJournal(join(directory, 'parts'))
  if (parts.every(part => part.thisBoot)) return parts
  const data = await openFirst([join(directory, 'data'), join(directory, 'object')])
  try {
    const trusted: JournaledPart[] = []
    for (const part of parts) {
      if (part.thisBoot || (await holdsPart(data, part))) trusted.push(part)
    }
    return trusted
  } finally {
    await data.close()
  }
}

/** `root`: where, for errors. */
export function expectContiguous(
  root: string,
  key: string,
  known: readonly JournaledPart[],
  named: readonly PartInfo[],
): void {
  const byNumber = new Map(known.map(part => [part.number, part]))
  let offset = 0
  let last = 0
  for (const part of named) {
    const has = byNumber.get(part.number)
    const trouble =
      part.number <= last
        ? 'is out of order'
        : !has
          ? 'was not written'
          : has.bytes !== part.bytes || has.tag !== part.tag
            ? 'is not the one that was written last'
            : has.offset !== offset
              ? `begins at byte ${has.offset} where ${offset} is expected`
              : undefined
    if (trouble) {
      throw new HoldfastError(
        'destination.corrupted',
        `Completing "${key}" in ${root} failed: part ${part.number} ${trouble}.`,
      )
    }
    offset += part.bytes
    last = part.number
  }
}

/** Takes the data away from writers, cuts it to size and makes it durable. Repeatable after a kill. */
async function sealData(directory: string, bytes: number): Promise<string> {
  const object = join(directory, 'object')
  try {
    await rename(join(directory, 'data'), object)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
  const file = await open(object, constants.O_RDWR)
  try {
    await file.truncate(bytes)
    await file.chmod(fileMode)
    await file.sync()
  } finally {
    await file.close()
  }
  return object
}

async function publishObject(root: string, key: string, object: string, path: string): Promise<void> {
  try {
    await publish(root, object, path, true)
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
    const [ours, there] = [await stat(object), await stat(path)]
    // The same inode: an earlier call was killed after it had linked.
    if (ours.ino !== there.ino || ours.dev !== there.dev) {
      throw new HoldfastError('destination.exists', `"${key}" is in ${root} already.`)
    }
    await syncDirectory(dirname(path))
  }
}

/** The rename makes it gone at once for everybody; what is left of a killed removal is found under the second name. */
async function removeUpload(root: string, uploadId: string): Promise<void> {
  const scratch = scratchDirectory(root)
  const directory = directoryOf(root, uploadId)
  const gone = join(scratch, `gone-${uploadId}`)
  await rm(gone, { recursive: true, force: true })
  try {
    await rename(directory, gone)
  } catch (error) {
    if (isAbsent(error) && !(await rootTrouble(root))) return
    if (meanings[errnoOf(error) ?? '']?.[0] !== 'destination.full') throw error
    // Btrfs has no room for a new name where a quota is used up. Without its data it is no upload any more, either, and
    // until nothing is left it is still listed as one that may be aborted.
    for (const name of ['data', 'object', 'parts']) await rm(join(directory, name), { force: true })
    await rm(directory, { recursive: true, force: true })
    await syncDirectory(scratch)
    return
  }
  await syncDirectory(scratch)
  await rm(gone, { recursive: true, force: true })
}

async function uploadGone(root: string, key: string, uploadId: string, error: unknown): Promise<unknown> {
  if (await rootTrouble(root)) return error
  return new HoldfastError('destination.upload-gone', `The upload ${uploadId} of "${key}" is not in ${root}.`)
}

async function openFirst(paths: readonly [string, string]) {
  try {
    return await open(paths[0], constants.O_RDONLY)
  } catch (error) {
    if (!isAbsent(error)) throw error
    return await open(paths[1], constants.O_RDONLY)
  }
}
