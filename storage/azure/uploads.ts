/**
 * Uploads by parts: staged blocks, committed once. A container knows no uploads, only blocks that are not committed yet under
 * a name. So an open upload is an empty blob of ours, `.holdfast-uploads/<uploadId>`, whose metadata names the key; and the
 * id of each block says to which upload it belongs, which part it is, when it was sent and what its SHA-256 is: the
 * store's own list of blocks is all that another process needs to go on.
 */
import { createHash, randomBytes } from 'node:crypto'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import type { CallOptions, ObjectStat, OpenUpload, OutgoingPart, PartInfo } from '../destination.ts'
import { expectProtection } from '../locked.ts'
import { checkKey, checkPrefix, uploadsFolder } from '../object-key.ts'
import { listBlobs, lookAt, removeBlob, sha256Of } from './objects.ts'
import type { Store } from './store.ts'

const uploadIdBytes = 12
const uploadIdPattern = /^[0-9a-f]{24}$/
/** Of a record: the key, base64url, for metadata are ASCII. */
const keyField = 'holdfastkey'
/** Of an object: the upload that made it. */
const uploadField = 'holdfastupload'

const recordKey = (uploadId: string): string => {
  if (!uploadIdPattern.test(uploadId)) {
    throw new HoldfastError('request.invalid', `${JSON.stringify(uploadId)} is not the id of an upload.`)
  }
  return `${uploadsFolder}/${uploadId}`
}

export async function openUpload(store: Store, key: string, options: CallOptions = {}): Promise<string> {
  checkKey(key)
  const uploadId = randomBytes(uploadIdBytes).toString('hex')
  await store.call('Put Blob', key, options, abortSignal =>
    store.blob(recordKey(uploadId)).upload('', 0, {
      abortSignal,
      ...store.written.ours,
      metadata: { [keyField]: Buffer.from(key).toString('base64url') },
    }),
  )
  return uploadId
}

async function isOpen(store: Store, key: string, uploadId: string, options: CallOptions): Promise<boolean> {
  const record = await lookAt(store, recordKey(uploadId), options)
  return record?.metadata[keyField] === Buffer.from(key).toString('base64url')
}

const uploadGone = (store: Store, key: string, uploadId: string) =>
  new HoldfastError('destination.upload-gone', `The upload ${uploadId} of ${store.uri}/${key} is gone.`)

export async function putPart(
  store: Store,
  key: string,
  uploadId: string,
  part: OutgoingPart,
  options: CallOptions = {},
): Promise<PartInfo> {
  const { number, body } = part
  if (!(await isOpen(store, key, uploadId, options))) throw uploadGone(store, key, uploadId)
  const sha256 = part.sha256 ?? sha256Of(body)
  const tag = blockId({ uploadId, number, sentMs: Date.now(), sha256 })
  // A block must not be empty: a part that is, needs none.
  if (body.length > 0) {
    const md5 = createHash('md5').update(body).digest()
    // Blocks are encrypted as they come: under the scope of the blob that they will be.
    const scope = store.written.ours
    await store.call(
      'Put Block',
      key,
      options,
      abortSignal =>
        store.blob(key).stageBlock(tag, body, body.length, {
          abortSignal,
          transactionalContentMD5: md5,
          ...scope,
        }),
      body.length,
    )
  }
  return { number, bytes: body.length, tag, sha256 }
}

export async function listParts(
  store: Store,
  key: string,
  uploadId: string,
  options: CallOptions = {},
): Promise<PartInfo[] | undefined> {
  checkKey(key)
  if (!(await isOpen(store, key, uploadId, options))) return undefined
  const newest = new Map<number, PartInfo & { sentMs: number }>()
  for (const { name, size } of await stagedBlocks(store, key, options)) {
    const block = readBlockId(name)
    if (block?.uploadId !== uploadId) continue
    const { number, sentMs, sha256 } = block
    const known = newest.get(number)
    if (known === undefined || known.sentMs <= sentMs) {
      newest.set(number, { number, bytes: size, tag: name, sha256, sentMs })
    }
  }
  if (newest.size === 0 && (await madeBy(store, key, uploadId, options))) {
    // Whoever completed it was killed before the record was gone.
    await removeBlob(store, recordKey(uploadId), options)
    return undefined
  }
  return [...newest.values()]
    .sort((a, b) => a.number - b.number)
    .map(({ number, bytes, tag, sha256 }) => ({ number, bytes, tag, ...(sha256 ? { sha256 } : {}) }))
}

async function stagedBlocks(store: Store, key: string, options: CallOptions) {
  try {
    const { uncommittedBlocks = [] } = await store.call('Get Block List', key, options, abortSignal =>
      store.blob(key).getBlockList('uncommitted', { abortSignal }),
    )
    return uncommittedBlocks
  } catch (error) {
    // Nothing was staged under this name, or it was committed.
    if (hasCode(error, 'destination.object-missing')) return []
    throw error
  }
}

export async function completeUpload(
  store: Store,
  key: string,
  uploadId: string,
  parts: readonly PartInfo[],
  options: CallOptions = {},
): Promise<ObjectStat> {
  checkKey(key)
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0)
  expectOurs(store, key, uploadId, parts)
  if (!(await isOpen(store, key, uploadId, options))) {
    // Completed by an earlier call whose answer was lost, or by one that ran beside us; else aborted.
    const made = await madeBy(store, key, uploadId, options)
    if (made?.bytes !== bytes) throw uploadGone(store, key, uploadId)
    return made
  }
  const written = store.written.artifact()
  try {
    await store.call('Put Block List', key, options, abortSignal =>
      store.blob(key).commitBlockList(
        parts.filter(part => part.bytes > 0).map(part => part.tag),
        {
          abortSignal,
          conditions: { ifNoneMatch: '*' },
          ...written,
          metadata: { ...written.metadata, [uploadField]: uploadId },
        },
      ),
    )
  } catch (error) {
    if (!hasCode(error, 'destination.exists', 'destination.upload-gone', 'destination.unreachable'))
      throw error
    if ((await madeBy(store, key, uploadId, options)) === undefined) throw error
  }
  const made = await madeBy(store, key, uploadId, options)
  if (made?.bytes !== bytes) {
    throw new HoldfastError(
      'destination.corrupted',
      `${store.uri}/${key} was completed, but the store has ${made ? `${made.bytes} bytes` : 'no object'}; ${bytes} were sent.`,
    )
  }
  await removeBlob(store, recordKey(uploadId), options)
  if (store.protects) {
    const { immutabilityPolicy, legalHold } = written
    expectProtection(`${store.uri}/${key}`, made.protection, {
      locked: immutabilityPolicy !== undefined,
      held: legalHold === true,
    })
  }
  return made
}

/** The object, if this very upload made it. */
async function madeBy(
  store: Store,
  key: string,
  uploadId: string,
  options: CallOptions,
): Promise<ObjectStat | undefined> {
  const found = await lookAt(store, key, options)
  return found?.metadata[uploadField] === uploadId ? found.stat : undefined
}

function expectOurs(store: Store, key: string, uploadId: string, parts: readonly PartInfo[]): void {
  let last = 0
  for (const { number, tag } of parts) {
    const block = readBlockId(tag)
    if (block?.uploadId === uploadId && block.number === number && number > last) {
      last = number
      continue
    }
    throw new HoldfastError(
      'destination.corrupted',
      `Completing ${store.uri}/${key} failed: part ${number} is out of order or not one of upload ${uploadId}.`,
    )
  }
}

/**
 * First the record, which ends the upload for everybody; then its blocks. Blocks that wait under a name where nothing is
 * committed are let go by committing none of them and removing the empty object that makes; where something is committed, or
 * another upload waits as well, the store lets them go by itself after a week.
 */
export async function abortUpload(
  store: Store,
  key: string,
  uploadId: string,
  options: CallOptions = {},
): Promise<void> {
  checkKey(key)
  const made = await madeBy(store, key, uploadId, options)
  await removeBlob(store, recordKey(uploadId), options)
  if (made !== undefined) return
  const staged = (await stagedBlocks(store, key, options)).map(({ name }) => readBlockId(name)?.uploadId)
  if (!staged.includes(uploadId) || staged.some(owner => owner !== uploadId)) return
  try {
    const { etag } = await store.call('Put Block List', key, options, abortSignal =>
      store
        .blob(key)
        .commitBlockList([], { abortSignal, conditions: { ifNoneMatch: '*' }, ...store.written.ours }),
    )
    await removeBlob(store, key, { ...options, ...(etag === undefined ? {} : { ifMatch: etag }) })
  } catch (error) {
    // Something is there under this key, which is not ours to touch.
    if (!hasCode(error, 'destination.exists')) throw error
  }
}

export async function* listUploads(
  store: Store,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<OpenUpload> {
  checkPrefix(prefix)
  const records = listBlobs(store, `${uploadsFolder}/`, { ...options, includeMetadata: true })
  for await (const { key: recordName, item } of records) {
    const uploadId = recordName.slice(uploadsFolder.length + 1)
    const named = item.metadata?.[keyField]
    if (!uploadIdPattern.test(uploadId) || named === undefined) continue
    const key = Buffer.from(named, 'base64url').toString()
    if (key.startsWith(prefix)) yield { key, uploadId, startedAt: item.properties.lastModified }
  }
}

interface BlockName {
  uploadId: string
  number: number
  sentMs: number
  /** Hex. */
  sha256: string
}

/** Ids of one blob's blocks must be of one length, 64 bytes at most. */
function blockId({ uploadId, number, sentMs, sha256 }: BlockName): string {
  const id = Buffer.alloc(uploadIdBytes + 4 + 6 + 32)
  id.write(uploadId, 0, 'hex')
  id.writeUInt32BE(number, uploadIdBytes)
  id.writeUIntBE(sentMs, uploadIdBytes + 4, 6)
  id.write(sha256, uploadIdBytes + 10, 'hex')
  return id.toString('base64')
}

function readBlockId(base64: string): BlockName | undefined {
  const id = Buffer.from(base64, 'base64')
  if (id.length !== uploadIdBytes + 42) return undefined
  return {
    uploadId: id.toString('hex', 0, uploadIdBytes),
    number: id.readUInt32BE(uploadIdBytes),
    sentMs: id.readUIntBE(uploadIdBytes + 4, 6),
    sha256: id.toString('hex', uploadIdBytes + 10),
  }
}
