/**
 * A backup from one store to another as it lies there: the bytes are not opened, so no key is needed. The artifacts first, by
 * parts; then what lies beside them, and the manifest last, which is the commit.
 */
import { HoldfastError } from '../model/errors.ts'
import { letGo } from '../model/let-go.ts'
import type { ArtifactEntry } from '../model/manifest.ts'
import { expectUndeleted, readManifestBytes } from './backups.ts'
import type { Destination, PartInfo } from './destination.ts'
import { parseSigned } from './manifest.ts'
import { partSender } from './parts.ts'
import { hashArtifact } from './reader.ts'
import { putOnce } from './settle.ts'
import { storedBytes } from './stored-bytes.ts'

export interface CopyOptions {
  from: Destination
  to: Destination
  /** Of the object, the same in both. */
  key: string
  entry: ArtifactEntry
  signal: AbortSignal
  /** Once it is aborted, parts on their way still arrive, no other is begun, and its reason is thrown. */
  pausing?: AbortSignal
  onProgress?: (storedBytes: number) => void
}

/**
 * Copies one artifact; goes on with an upload that an earlier run has left open, by what the store has of it. Both ends are
 * proven: what is read by length and hash of the manifest before the object is made, what is stored by the checksums of the
 * store or by reading it again. Throws `artifact.*` for the source, `destination.corrupted` for the target.
 */
export async function copyArtifact(options: CopyOptions): Promise<{ sentBytes: number }> {
  const { to, key, entry, signal } = options
  const there = await to.stat(key, { signal })
  if (there?.bytes === entry.storedBytes && (await isWhole(options))) return { sentBytes: 0 }
  // Nothing refers to it yet.
  if (there) await to.remove(key, { signal })
  const { uploadId, existing } = await goOnWith(to, key, signal)
  const written = await sendAll(options, uploadId, existing)
  if (written.storedSha256 !== entry.storedSha256) {
    // What was sent is as wrong as what was read.
    await to.abortUpload(key, uploadId, { signal })
    throw new HoldfastError(
      'artifact.corrupted',
      `Copying artifact ${entry.name}: the SHA-256 of ${options.from.uri}/${key} is ${written.storedSha256}, its manifest says ${entry.storedSha256}.`,
    )
  }
  signal.throwIfAborted()
  await to.completeUpload(key, uploadId, written.parts, { signal })
  if (to.capabilities.verifiesParts ? await hasLength(options) : await isWhole(options)) return written
  await to.remove(key, { signal })
  throw new HoldfastError(
    'destination.corrupted',
    `Copying artifact ${entry.name}: ${to.uri}/${key} is not what was sent; it was removed again.`,
  )
}

const hasLength = async ({ to, key, entry, signal }: CopyOptions): Promise<boolean> =>
  (await to.stat(key, { signal }))?.bytes === entry.storedBytes

async function isWhole({ to, key, entry, signal }: CopyOptions): Promise<boolean> {
  try {
    await hashArtifact({ destination: to, key, entry, signal })
    return true
  } catch (error) {
    if (error instanceof HoldfastError && error.code.startsWith('artifact.')) return false
    throw error
  }
}

/** Another upload of the same object holds parts of the same bytes, whoever began it. */
async function goOnWith(
  to: Destination,
  key: string,
  signal: AbortSignal,
): Promise<{ uploadId: string; existing: PartInfo[] }> {
  const open = []
  for await (const upload of to.listUploads(key, { signal })) if (upload.key === key) open.push(upload)
  open.sort((a, b) => b.startedAt.getTime() - a.startedAt.getTime())
  for (const { uploadId } of open) {
    const existing = await to.listParts(key, uploadId, { signal })
    if (existing) return { uploadId, existing }
  }
  return { uploadId: await to.openUpload(key, { signal }), existing: [] }
}

async function sendAll(options: CopyOptions, uploadId: string, existingParts: readonly PartInfo[]) {
  const { from, to, key, entry, pausing, onProgress } = options
  const stop = new AbortController()
  const signal = AbortSignal.any([options.signal, stop.signal])
  const sender = partSender(
    {
      destination: to,
      key,
      uploadId,
      existingParts,
      hashParts: true,
      expectedBytes: entry.storedBytes,
      signal,
      ...(pausing ? { pausing } : {}),
      onProgress: ({ storedBytes: done }) => onProgress?.(done),
    },
    error => stop.abort(error),
  )
  try {
    for await (const chunk of storedBytes({ destination: from, key, entry, signal })) {
      await sender.write(chunk)
      letGo(chunk)
    }
    return await sender.finish()
  } catch (error) {
    const reason = stop.signal.aborted ? stop.signal.reason : error
    stop.abort(reason)
    await sender.settle()
    throw reason
  }
}

/**
 * Key sidecars of the attempt that are there and not here. What is here already stays, and what comes after it has the next
 * number: a rotation adds to each copy by itself.
 */
export async function copyKeySidecars(
  from: Destination,
  to: Destination,
  attemptFolder: string,
  signal: AbortSignal,
): Promise<void> {
  const keyOf = (n: number) => `${attemptFolder}keys-${n}.json`
  let next = 1
  const here = new Set<string>()
  for (; ; next += 1) {
    const body = await to.read(keyOf(next), { signal })
    if (body === undefined) break
    here.add(Buffer.from(body).toString())
  }
  for (let n = 1; ; n += 1) {
    const body = await from.read(keyOf(n), { signal })
    if (body === undefined) return
    if (here.has(Buffer.from(body).toString())) continue
    for (let ours = false; !ours; next += 1) {
      ours = (await putOnce(to, keyOf(next), body, { signal, lasting: true })).ours
    }
  }
}

/**
 * The commit of a copy: the very bytes of the manifest, put if absent. Throws `backup.deleted` when it was deleted there,
 * `destination.object-missing` when somebody has removed what was copied, and `destination.exists` when another manifest of this backup is there.
 */
export async function commitCopy(
  from: Destination,
  to: Destination,
  connection: string,
  backupId: string,
): Promise<void> {
  const { key, body } = await readManifestBytes(from, connection, backupId)
  await expectUndeleted(to, connection, backupId)
  await expectArtifacts(to, key, body)
  const { ours } = await putOnce(to, key, body, { lasting: true })
  await expectUndeleted(to, connection, backupId)
  if (ours) return
  throw new HoldfastError(
    'destination.exists',
    `Copying backup ${backupId}: another manifest of it is in ${to.uri} already, of another attempt. That one stands.`,
  )
}

/** What was copied may be gone again: a hand at the store, or a sweep that was suspended while it removed what was left before. */
async function expectArtifacts(to: Destination, manifestKey: string, manifest: Uint8Array): Promise<void> {
  const { artifacts } = parseSigned(JSON.parse(Buffer.from(manifest).toString('utf8')), manifestKey)
  const folder = manifestKey.slice(0, manifestKey.lastIndexOf('/') + 1)
  for (const { name, object, storedBytes } of artifacts) {
    const there = await to.stat(`${folder}${object}`)
    if (there?.bytes === storedBytes) continue
    throw new HoldfastError(
      'destination.object-missing',
      `Copying artifact ${name}: ${to.uri}/${folder}${object} ${there ? `has ${there.bytes} bytes instead of ${storedBytes}` : 'is gone again'}.`,
      { hint: 'Nothing was committed there: copy it again.' },
    )
  }
}
