/**
 * Uploads by parts, as resumable sessions: one stream of bytes in order, of which the store says how many it has. So parts are
 * sent in order, from the first, also when an upload is gone on with; what the store has already is not sent again.
 *
 * Sessions cannot be listed, take multiples of 256 KiB until the last bytes, and their address is all that is needed to write
 * to them. An open upload therefore is an object of ours, `.holdfast-uploads/<uploadId>`: its metadata name the key and the
 * session, its content is what is left over behind the last multiple. A part's tag says where it ends and the MD5 of all up
 * to there: with the last part's tag and the record, another process can complete.
 */
import { createHash, type Hash, randomBytes } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import type { CallOptions, ObjectStat, OpenUpload, OutgoingPart, PartInfo } from '../destination.ts'
import { expectProtection } from '../locked.ts'
import { checkKey, checkPrefix, uploadsFolder } from '../object-key.ts'
import { passes } from '../retry-calls.ts'
import type { Answer } from './http.ts'
import { insert, listResources, lookAt, readRaw, removeRaw } from './objects.ts'
import { type Resource, type Store, statOf, type WrittenWith } from './store.ts'

const uploadIdPattern = /^[0-9a-f]{24}$/
export const granuleBytes = 256 * 1024
const sessionTries = 5

/** What this process knows of an upload that it sends to. */
interface Progress {
  session: URL
  /** Bytes that parts brought, and their MD5. */
  hashed: number
  md5: Hash
  /** Bytes that the store has. */
  stored: number
  /** Parts that were taken, by number. */
  parts: Map<number, PartInfo>
  /** Generation of the record. */
  record: string
}

export type Uploads = Map<string, Progress>

const recordKey = (uploadId: string): string => {
  if (!uploadIdPattern.test(uploadId)) {
    throw new HoldfastError('request.invalid', `${JSON.stringify(uploadId)} is not the id of an upload.`)
  }
  return `${uploadsFolder}/${uploadId}`
}

const uploadGone = (store: Store, key: string, uploadId: string) =>
  new HoldfastError('destination.upload-gone', `The upload ${uploadId} of ${store.uri}/${key} is gone.`)

const encoded = (text: string) => Buffer.from(text).toString('base64url')
const decoded = (text: string | undefined) => Buffer.from(text ?? '', 'base64url').toString()

export async function openUpload(
  store: Store,
  key: string,
  options: CallOptions & { written?: WrittenWith } = {},
): Promise<string> {
  checkKey(key)
  const uploadId = randomBytes(12).toString('hex')
  const { fields, query } = options.written ?? store.written.artifact()
  const session = await store.call(
    {
      action: 'objects.insert',
      key,
      path: `/upload/storage/v1${store.bucketPath}`,
      query: { uploadType: 'resumable', ifGenerationMatch: '0', ...query },
      method: 'POST',
      headers: { 'content-type': 'application/json; charset=utf-8' },
      body: Buffer.from(
        JSON.stringify({
          name: store.fullKey(key),
          contentType: 'application/octet-stream',
          ...fields,
          metadata: { ...fields.metadata, holdfastupload: uploadId },
        }),
      ),
    },
    options,
    async answer => {
      await answer.bytes()
      return answer.header('location')
    },
  )
  if (!session) {
    throw new HoldfastError('destination.misconfigured', `${store.uri} opened an upload without a session.`)
  }
  const metadata = { holdfastkey: encoded(key), holdfastsession: encoded(session) }
  await insert(store, recordKey(uploadId), Buffer.alloc(0), ourRecord(store, metadata), '0', options)
  return uploadId
}

const ourRecord = ({ written: { ours } }: Store, metadata: Record<string, string>): WrittenWith => ({
  ...ours,
  fields: { ...ours.fields, metadata },
})

async function recordOf(
  store: Store,
  key: string,
  uploadId: string,
  options: CallOptions,
): Promise<(Resource & { session: URL }) | undefined> {
  const record = await lookAt(store, recordKey(uploadId), options)
  if (record === undefined || decoded(record.metadata?.holdfastkey) !== key) return undefined
  return { ...record, session: new URL(decoded(record.metadata?.holdfastsession)) }
}

export async function putPart(
  store: Store,
  uploads: Uploads,
  key: string,
  uploadId: string,
  part: OutgoingPart,
  options: CallOptions = {},
): Promise<PartInfo> {
  const { number, offset, body } = part
  const progress = uploads.get(uploadId) ?? (await begin(store, key, uploadId, options))
  uploads.set(uploadId, progress)
  const sha256 = part.sha256 ?? createHash('sha256').update(body).digest('hex')
  const known = progress.parts.get(number)
  if (known !== undefined && known.sha256 === sha256) return { ...known, thereBefore: known.bytes }
  if (offset !== progress.hashed) {
    throw new HoldfastError(
      'destination.upload-gone',
      `Part ${number} of ${store.uri}/${key} begins at byte ${offset}; the session goes on at ${progress.hashed}.`,
    )
  }
  if (offset % granuleBytes !== 0) {
    throw new HoldfastError(
      'request.invalid',
      `Part ${number} of ${key} begins at byte ${offset}; only the last part may be odd.`,
    )
  }
  const md5 = progress.md5.copy()
  const end = offset + body.length
  const whole = end - (end % granuleBytes)
  const thereBefore = Math.min(body.length, Math.max(0, progress.stored - offset))
  await Promise.all([
    send(store, progress, key, uploadId, body, offset, whole, options),
    // While the store takes them.
    setImmediate().then(() => md5.update(body)),
  ])
  if (whole < end) {
    await keepRest(store, progress, key, uploadId, body.subarray(Math.max(0, whole - offset)), options)
  }
  const info = { number, bytes: body.length, tag: `${end}-${md5.copy().digest('hex')}`, sha256 }
  Object.assign(progress, { hashed: end, md5 })
  progress.parts.set(number, info)
  return { ...info, thereBefore }
}

async function begin(store: Store, key: string, uploadId: string, options: CallOptions): Promise<Progress> {
  const record = await recordOf(store, key, uploadId, options)
  const stored = record && (await storedBytes(store, record.session, key, options))
  if (record === undefined || typeof stored !== 'number') throw uploadGone(store, key, uploadId)
  return {
    session: record.session,
    hashed: 0,
    md5: createHash('md5'),
    stored,
    parts: new Map(),
    record: record.generation ?? '',
  }
}

/** Sends what the store has not got of the bytes from `offset` up to `until`. */
async function send(
  store: Store,
  progress: Progress,
  key: string,
  uploadId: string,
  body: Uint8Array,
  offset: number,
  until: number,
  options: CallOptions,
): Promise<void> {
  let tries = 0
  while (progress.stored < until) {
    const from = progress.stored
    if (from < offset) throw uploadGone(store, key, uploadId)
    const chunk = body.subarray(from - offset, until - offset)
    try {
      const range = `bytes ${from}-${until - 1}/*`
      const stored = await ask(store, progress.session, key, range, chunk, options)
      if (typeof stored !== 'number') throw uploadGone(store, key, uploadId)
      progress.stored = stored
      if (stored > from) tries = 0
    } catch (error) {
      options.signal?.throwIfAborted()
      tries += 1
      if (!passes(error) || tries === sessionTries) throw error
      const there = await storedBytes(store, progress.session, key, options)
      if (typeof there !== 'number') throw uploadGone(store, key, uploadId)
      progress.stored = there
    }
  }
}

/** The record is written anew only if it is the one that we know: what was ended stays so. */
async function keepRest(
  store: Store,
  progress: Progress,
  key: string,
  uploadId: string,
  rest: Uint8Array,
  options: CallOptions,
): Promise<void> {
  const metadata = { holdfastkey: encoded(key), holdfastsession: encoded(progress.session.href) }
  try {
    const made = await insert(
      store,
      recordKey(uploadId),
      rest,
      ourRecord(store, metadata),
      progress.record,
      options,
    )
    progress.record = made.generation ?? ''
  } catch (error) {
    if (!hasCode(error, 'destination.exists', 'destination.object-missing')) throw error
    // Gone, or written by an earlier try whose answer was lost.
    const record = await recordOf(store, key, uploadId, options)
    const there = record && (await readRaw(store, recordKey(uploadId), options))
    if (there === undefined || Buffer.compare(there, rest) !== 0) throw uploadGone(store, key, uploadId)
    progress.record = record?.generation ?? ''
  }
}

/** How many bytes the session has; the object, when it is complete; undefined when it is gone. */
const storedBytes = (store: Store, session: URL, key: string, options: CallOptions) =>
  ask(store, session, key, 'bytes */*', new Uint8Array(0), options, true)

async function ask(
  store: Store,
  session: URL,
  key: string,
  range: string,
  body: Uint8Array,
  options: CallOptions,
  again = false,
  headers: Record<string, string> = {},
): Promise<number | Resource | undefined> {
  const call = {
    action: 'objects.insert' as const,
    key,
    path: session,
    method: 'PUT' as const,
    headers: { 'content-range': range, ...headers },
    body,
    expects: [308, 404, 410, 499],
    anonymous: true,
  }
  const read = async (answer: Answer): Promise<number | Resource | undefined> => {
    const text = await answer.text()
    if (answer.status === 308)
      return Number(/bytes=0-(\d+)/.exec(answer.header('range') ?? '')?.[1] ?? -1) + 1
    return answer.ok ? (JSON.parse(text) as Resource) : undefined
  }
  // Bytes are not sent twice blindly: what the session has is asked first.
  return again ? await store.call(call, options, read) : await store.once(call, options, read)
}

/** None: the parts are sent again, and those that the store has cost nothing. undefined if the upload is gone. */
export async function listParts(
  store: Store,
  key: string,
  uploadId: string,
  options: CallOptions = {},
): Promise<PartInfo[] | undefined> {
  checkKey(key)
  const record = await recordOf(store, key, uploadId, options)
  if (record === undefined) return undefined
  const stored = await storedBytes(store, record.session, key, options)
  if (typeof stored === 'number') return []
  // Whoever completed or aborted it was killed before the record was gone.
  await removeRaw(store, recordKey(uploadId), undefined, options)
  return undefined
}

export async function completeUpload(
  store: Store,
  uploads: Uploads,
  key: string,
  uploadId: string,
  parts: readonly PartInfo[],
  options: CallOptions = {},
): Promise<ObjectStat> {
  checkKey(key)
  const { total, md5 } = wholeOf(store, key, parts)
  const record = await recordOf(store, key, uploadId, options)
  if (record !== undefined) {
    const rest =
      Number(record.size ?? 0) === 0 ? new Uint8Array(0) : await readRaw(store, recordKey(uploadId), options)
    if (rest === undefined) throw uploadGone(store, key, uploadId)
    await finish(store, record.session, key, uploadId, rest, total, md5, options)
  }
  const made = await madeBy(store, key, uploadId, options)
  if (made === undefined || Number(made.size) !== total) throw uploadGone(store, key, uploadId)
  const expected = Buffer.from(md5, 'hex').toString('base64')
  if (made.md5Hash !== undefined && made.md5Hash !== expected) {
    await removeRaw(store, key, made.generation, options)
    throw new HoldfastError(
      'destination.corrupted',
      `${store.uri}/${key} was completed of other bytes than were sent; it was removed.`,
    )
  }
  await removeRaw(store, recordKey(uploadId), undefined, options)
  uploads.delete(uploadId)
  const stat = statOf(key, made)
  if (store.protects) {
    const { retention, temporaryHold } = store.written.lasting().fields
    expectProtection(`${store.uri}/${key}`, stat.protection, {
      locked: retention !== undefined,
      held: temporaryHold === true,
    })
  }
  return stat
}

/** The last bytes, with the length and the hash of all: the store makes the object of them, or refuses. */
async function finish(
  store: Store,
  session: URL,
  key: string,
  uploadId: string,
  rest: Uint8Array,
  total: number,
  md5: string,
  options: CallOptions,
): Promise<void> {
  const from = total - rest.length
  const range = rest.length === 0 ? `bytes */${total}` : `bytes ${from}-${total - 1}/${total}`
  const headers = { 'x-goog-hash': `md5=${Buffer.from(md5, 'hex').toString('base64')}` }
  for (let tries = 1; ; tries += 1) {
    try {
      // Completed by a try whose answer was lost, or by somebody beside us: the session says so.
      const stored = await storedBytes(store, session, key, options)
      if (typeof stored !== 'number') return
      if (stored < from) {
        throw new HoldfastError(
          'destination.corrupted',
          `Completing ${store.uri}/${key} failed: the session has ${stored} bytes of ${from}.`,
        )
      }
      const answer = await ask(store, session, key, range, rest, options, false, headers)
      if (typeof answer !== 'number') return
    } catch (error) {
      options.signal?.throwIfAborted()
      if (hasCode(error, 'destination.exists')) {
        if (await madeBy(store, key, uploadId, options)) return
        throw new HoldfastError('destination.exists', `${store.uri}/${key} is there already.`)
      }
      if (!passes(error) || hasCode(error, 'destination.corrupted') || tries === sessionTries) throw error
    }
    if (tries === sessionTries) {
      throw new HoldfastError(
        'destination.unreachable',
        `${store.uri}/${key} was not completed by the store.`,
      )
    }
  }
}

/** Length and MD5 of the object, as the last part's tag has them. */
function wholeOf(store: Store, key: string, parts: readonly PartInfo[]): { total: number; md5: string } {
  let end = 0
  let md5 = createHash('md5').digest('hex')
  for (const part of parts) {
    end += part.bytes
    const [, at, hash] = /^(\d+)-([0-9a-f]{32})$/.exec(part.tag) ?? []
    if (Number(at) !== end || hash === undefined) {
      throw new HoldfastError(
        'destination.corrupted',
        `Completing ${store.uri}/${key} failed: part ${part.number} is not the one that was sent there.`,
      )
    }
    md5 = hash
  }
  return { total: end, md5 }
}

/** The object, if this very upload made it. */
async function madeBy(
  store: Store,
  key: string,
  uploadId: string,
  options: CallOptions,
): Promise<Resource | undefined> {
  const found = await lookAt(store, key, options)
  return found?.metadata?.holdfastupload === uploadId ? found : undefined
}

export async function abortUpload(
  store: Store,
  uploads: Uploads,
  key: string,
  uploadId: string,
  options: CallOptions = {},
): Promise<void> {
  checkKey(key)
  uploads.delete(uploadId)
  const record = await recordOf(store, key, uploadId, options)
  if (record === undefined) return
  await store.call(
    {
      action: 'objects.insert',
      key,
      path: record.session,
      method: 'DELETE',
      headers: { 'content-length': '0' },
      // 499 says that it was cancelled; the others, that there is nothing to cancel any more.
      expects: [499, 400, 404, 410],
      anonymous: true,
    },
    options,
    async answer => void (await answer.bytes()),
  )
  await removeRaw(store, recordKey(uploadId), undefined, options)
}

export async function* listUploads(
  store: Store,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<OpenUpload> {
  checkPrefix(prefix)
  for await (const { key: name, resource } of listResources(store, `${uploadsFolder}/`, options)) {
    const uploadId = name.slice(uploadsFolder.length + 1)
    const key = decoded(resource.metadata?.holdfastkey)
    if (!uploadIdPattern.test(uploadId) || key === '' || !key.startsWith(prefix)) continue
    yield { key, uploadId, startedAt: new Date(resource.timeCreated ?? resource.updated ?? 0) }
  }
}
