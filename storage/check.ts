/** Whether a destination takes, gives back, lists and removes what a backup needs. */
import { randomBytes } from 'node:crypto'
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { CallOptions, Destination } from './destination.ts'
import { precheckFolder } from './object-key.ts'

const tidySeconds = 5

/** Throws what the destination says of the first thing that it does not do. */
export async function checkDestination(destination: Destination, options: CallOptions): Promise<void> {
  const { uri } = destination
  const key = `${precheckFolder}/${randomBytes(9).toString('hex')}`
  const body = randomBytes(4096)
  const last = soonAfter(options.signal)
  try {
    await destination.put(key, body, { ...options, ifAbsent: true })
  } catch (error) {
    // Whoever does not wait for the answer does not know whether it is there.
    if (options.signal?.aborted) await destination.remove(key, last)
    throw error
  }
  try {
    await expectConditionalPut(destination, key, body, options)
    const back = await destination.read(key, options)
    if (!back || Buffer.compare(body, back) !== 0) {
      throw new HoldfastError(
        'destination.corrupted',
        `${uri} gave back other bytes than were written to it.`,
      )
    }
    let listed = false
    for await (const found of destination.list(key, options)) listed ||= found.key === key
    if (!listed) {
      throw new HoldfastError('destination.corrupted', `${uri} does not list what was written to it.`)
    }
    await checkUploads(destination, `${key}-parts`, options)
  } finally {
    await destination.remove(key, last)
  }
}

async function expectConditionalPut(
  destination: Destination,
  key: string,
  body: Uint8Array,
  options: CallOptions,
): Promise<void> {
  try {
    await destination.put(key, body, { ...options, ifAbsent: true })
  } catch (error) {
    if (hasCode(error, 'destination.exists')) return
    throw error
  }
  throw new HoldfastError(
    'destination.misconfigured',
    `${destination.uri} replaces what is there although it was asked not to.`,
  )
}

async function checkUploads(destination: Destination, key: string, options: CallOptions): Promise<void> {
  const uploadId = await destination.openUpload(key, options)
  try {
    await destination.listParts(key, uploadId, options)
    for await (const _upload of destination.listUploads(key, options)) break
  } finally {
    await destination.abortUpload(key, uploadId, soonAfter(options.signal))
  }
}

/** Tidying up outlives a cancellation, but does not wait for a silent store. */
export function soonAfter(signal: AbortSignal | undefined): CallOptions {
  if (signal === undefined) return {}
  const last = new AbortController()
  const end = () => setTimeout(() => last.abort(signal.reason), tidySeconds * 1000).unref()
  if (signal.aborted) end()
  else signal.addEventListener('abort', end, { once: true })
  return { signal: last.signal }
}

/** The same refusal, with the permission that turned out to be the missing one. */
export const needing = (error: HoldfastError, permission: string): HoldfastError =>
  new HoldfastError(
    error.code,
    error.message.replace(/(; it needs the permission .*)?\.$/, `; it needs the permission ${permission}.`),
    { hint: error.hint, context: error.context },
  )

/** What is to be known of a destination whose artifacts go into an archive. */
export const archiveNote = (
  storageClass: string | undefined,
  isArchive: (storageClass: string) => boolean,
  thawHours: (storageClass: string) => number,
): string[] =>
  storageClass !== undefined && isArchive(storageClass)
    ? [
        `Artifacts go into an archive (${storageClass}): a restore begins with bringing them back, which usually takes ${thawHours(storageClass)} hours.`,
      ]
    : []
