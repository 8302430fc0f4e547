/** Uploads by parts into a `server` destination, in the form of storage/local/uploads.ts: either goes on with the other's. */
import { randomBytes } from 'node:crypto'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions, ObjectStat, OpenUpload, OutgoingPart, PartInfo } from '../destination.ts'
import { scratchName } from '../local/files.ts'
import { type JournaledPart, parseJournal } from '../local/journal.ts'
import { expectContiguous, uploadIdPattern, uploadSchema } from '../local/uploads.ts'
import { checkKey, checkPrefix, compareKeys } from '../object-key.ts'
import { ask, type Store, seen } from './ask.ts'
import { statObject } from './objects.ts'
import { exits, uploadsScript as script } from './shell.ts'

/** Words of one command; a script that holds so many is still small. */
const hashesAtOnce = 200

function expectId(uploadId: string): void {
  if (uploadIdPattern.test(uploadId)) return
  throw new HoldfastError('request.invalid', `${JSON.stringify(uploadId)} is not the id of an upload.`)
}

const uploadGone = (store: Store, key: string, uploadId: string) =>
  new HoldfastError('destination.upload-gone', `The upload ${uploadId} of "${key}" is not in ${store.uri}.`)

export async function openUpload(store: Store, key: string, options: CallOptions = {}): Promise<string> {
  checkKey(key)
  const uploadId = randomBytes(12).toString('hex')
  const upload = JSON.stringify({ key, startedAt: new Date().toISOString() })
  await ask(store, {
    ...options,
    doing: `Opening an upload of "${key}"`,
    script,
    words: ['open', uploadId, scratchName('new'), upload],
  })
  return uploadId
}

/** `writer` names this process: bytes without a hash are sent under it again, and are the same. */
export async function putPart(
  store: Store,
  writer: string,
  key: string,
  uploadId: string,
  part: OutgoingPart,
  options: CallOptions = {},
): Promise<PartInfo> {
  options.signal?.throwIfAborted()
  expectId(uploadId)
  const { number, offset, sha256, body } = part
  const tag = sha256 ?? `${writer}-${number}`
  const end = JSON.stringify({ number, bytes: body.length, offset, tag, sha256, boot: '' })
  const { exit } = await ask(store, {
    ...options,
    doing: `Writing part ${number} of "${key}"`,
    script,
    words: [
      'part',
      uploadId,
      String(offset),
      String(body.length),
      `w-${randomBytes(9).toString('hex')}`,
      // A link may bring the beginning of a part long after another one brought all of it: the same bytes then.
      JSON.stringify({ begin: number, tag }),
      // Its boot is filled in there.
      end.slice(0, -'"}'.length),
    ],
    input: body,
    allow: [exits.absent],
  })
  if (exit === exits.absent) throw uploadGone(store, key, uploadId)
  return { number, bytes: body.length, tag, ...(sha256 ? { sha256 } : {}) }
}

export async function listParts(
  store: Store,
  key: string,
  uploadId: string,
  options: CallOptions = {},
): Promise<PartInfo[] | undefined> {
  expectId(uploadId)
  const parts = await trustedParts(store, key, uploadId, `Listing the parts of "${key}"`, options)
  return parts?.map(({ number, bytes, tag, sha256 }) => ({
    number,
    bytes,
    tag,
    ...(sha256 ? { sha256 } : {}),
  }))
}

export async function completeUpload(
  store: Store,
  key: string,
  uploadId: string,
  parts: readonly PartInfo[],
  options: CallOptions = {},
): Promise<ObjectStat> {
  checkKey(key)
  expectId(uploadId)
  const doing = `Completing "${key}"`
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0)
  const known = await trustedParts(store, key, uploadId, doing, options)
  if (known) {
    expectContiguous(store.uri, key, known, parts)
    const { exit, stdout } = await ask(store, {
      ...options,
      doing,
      script,
      words: ['complete', uploadId, key, String(bytes)],
      allow: [exits.absent, exits.exists],
    })
    if (exit === exits.exists) {
      throw new HoldfastError('destination.exists', `"${key}" is in ${store.uri} already.`)
    }
    if (exit === 0) return { key, ...seen(stdout.toString('latin1')) }
  }
  // Gone: aborted, or completed by an earlier call whose answer was lost (or by one that ran beside us).
  const there = await statObject(store, key, options)
  if (there?.bytes !== bytes) throw uploadGone(store, key, uploadId)
  return there
}

export async function abortUpload(
  store: Store,
  key: string,
  uploadId: string,
  options: CallOptions = {},
): Promise<void> {
  expectId(uploadId)
  await ask(store, {
    ...options,
    doing: `Aborting the upload of "${key}"`,
    script,
    words: ['abort', uploadId],
  })
}

export async function* listUploads(
  store: Store,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<OpenUpload> {
  checkPrefix(prefix)
  const { stdout } = await ask(store, { ...options, doing: 'Listing uploads', script, words: ['uploads'] })
  const found: OpenUpload[] = []
  for (const line of stdout.toString('utf8').split('\n')) {
    const [uploadId = '', ...rest] = line.split('\t')
    if (!uploadIdPattern.test(uploadId)) continue
    const upload = readUpload(store, uploadId, rest.join('\t'))
    if (!upload.key.startsWith(prefix)) continue
    found.push({ key: upload.key, uploadId, startedAt: new Date(upload.startedAt) })
  }
  yield* found.sort((a, b) => compareKeys(a.key, b.key))
}

/** Parts that are there for sure; those written before the machine last started are read again. undefined: no such upload. */
async function trustedParts(
  store: Store,
  key: string,
  uploadId: string,
  doing: string,
  options: CallOptions,
): Promise<JournaledPart[] | undefined> {
  const question = { ...options, doing, script, allow: [exits.absent] }
  const { exit, stdout } = await ask(store, { ...question, words: ['parts', uploadId] })
  if (exit === exits.absent) return undefined
  const [boot = '', text = '', ...journal] = stdout.toString('utf8').split('\n')
  const upload = readUpload(store, uploadId, text)
  if (upload.key !== key) {
    throw new HoldfastError(
      'destination.upload-gone',
      `The upload named for "${key}" is one of "${upload.key}".`,
    )
  }
  const parts = parseJournal(journal.join('\n'), boot)
  const doubtful = parts.filter(part => !part.thisBoot)
  const proven = new Set(parts.filter(part => part.thisBoot))
  for (let at = 0; at < doubtful.length; at += hashesAtOnce) {
    const some = doubtful.slice(at, at + hashesAtOnce)
    const ranges = some.flatMap(part => [String(part.offset), String(part.bytes)])
    const hashed = await ask(store, { ...question, words: ['hash', uploadId, ...ranges] })
    if (hashed.exit === exits.absent) return undefined
    const hashes = hashed.stdout.toString('latin1').split('\n')
    for (const [index, part] of some.entries()) {
      if (part.sha256 !== undefined && hashes[index]?.split(' ')[0] === part.sha256) proven.add(part)
    }
  }
  return parts.filter(part => proven.has(part))
}

function readUpload(store: Store, uploadId: string, text: string) {
  const parsed = uploadSchema.safeParse(json(text))
  if (parsed.success) return parsed.data
  throw new HoldfastError(
    'destination.corrupted',
    `The upload ${uploadId} in ${store.uri} is damaged: its upload.json cannot be read.`,
  )
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
