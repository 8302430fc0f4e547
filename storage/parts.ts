/**
 * Parts of an upload: how large they are, what is known of them after a crash, and sending several at once.
 */
import { createHash } from 'node:crypto'
import { HoldfastError } from '../model/errors.ts'
import type { Capabilities, Destination, OutgoingPart, PartInfo } from './destination.ts'
import type { PartJournal } from './journal.ts'
import { patience } from './retry.ts'

const mebibyte = 1 << 20
/** Parts grow with the object; fewer of them are in flight then, so that they never hold much more than this. */
const inFlightBytes = 128 * mebibyte

/**
 * Bytes of part `number` (from 1). Unknown lengths must fit the store's number of parts: the size doubles after each tenth
 * of them, except where all parts must be equal.
 */
export function partSizeAt(
  number: number,
  partBytes: number,
  limits: Pick<Capabilities, 'equalParts' | 'minPartBytes' | 'maxPartBytes' | 'maxParts'>,
): number {
  const least = Math.max(partBytes, Math.ceil(limits.minPartBytes / mebibyte) * mebibyte)
  const most = Math.max(mebibyte, Math.floor(limits.maxPartBytes / mebibyte) * mebibyte)
  if (limits.equalParts) return Math.min(least, most)
  const doublings = Math.min(20, Math.floor((number - 1) / Math.ceil(limits.maxParts / 10)))
  return Math.min(least * 2 ** doublings, most)
}

interface SenderOptions {
  destination: Destination
  key: string
  uploadId: string
  journal?: PartJournal
  existingParts?: readonly PartInfo[]
  parallelParts?: number
  partBytes?: number
  patienceSeconds?: number
  signal: AbortSignal
  pausing?: AbortSignal
  onProgress?: (progress: { storedBytes: number; toolBytes: number }) => void
}

export interface PartSender {
  /** Copies the bytes into the current part; waits for room when as many parts as allowed are in flight. */
  write(bytes: Buffer): Promise<void>
  /** How many of the tool's bytes are behind what was written so far; for progress. */
  compressed(toolBytes: number): void
  /** Sends the last part and waits for all. */
  finish(): Promise<{ parts: PartInfo[]; storedBytes: number; storedSha256: string; sentBytes: number }>
  /** Waits until nothing is in flight, however it ended. */
  settle(): Promise<void>
}

/**
 * `fail` is called with the error of the first part that cannot be sent, and must abort `signal`.
 * `write` and `finish` throw `staging.changed` when a part is not what the journal says was sent before, and throw the
 * signal's reason once it is aborted.
 */
export function partSender(options: SenderOptions, fail: (error: unknown) => void): PartSender {
  const { destination, key, uploadId, journal, signal } = options
  const { capabilities } = destination
  const { parallelParts = 4, partBytes = 8 * mebibyte, patienceSeconds = 60 } = options
  if (partBytes <= 0 || partBytes % mebibyte !== 0) throw new RangeError('partBytes must be whole MiB')
  // What is neither compared on resuming nor verified by the store is hashed once, as a whole.
  const hashesParts = journal !== undefined || capabilities.verifiesParts
  const existing = new Map((options.existingParts ?? []).map(part => [part.number, part]))
  const parts: PartInfo[] = []
  const inFlight = new Set<Promise<void>>()
  const spare: Buffer[] = []
  const whole = createHash('sha256')
  let number = 1
  let buffer = takeBuffer(spare, partSizeAt(1, partBytes, capabilities))
  let used = 0
  let offset = 0
  let doneBytes = 0
  let sentBytes = 0
  let toolBytes = 0

  const done = (part: PartInfo, free?: Buffer) => {
    parts.push(part)
    doneBytes += part.bytes
    if (free !== undefined) spare.push(free)
    options.onProgress?.({ storedBytes: doneBytes, toolBytes })
  }

  const send = async (part: OutgoingPart, full: Buffer) => {
    const { body, sha256 } = part
    if (journal !== undefined && sha256 !== undefined && journal.known(part.number) === undefined) {
      await journal.record(part.number, { bytes: body.length, sha256 })
    }
    const trouble = patience(patienceSeconds, signal)
    for (let tries = 1; ; tries += 1) {
      signal.throwIfAborted()
      try {
        const info = await destination.putPart(key, uploadId, part, { signal })
        sentBytes += body.length
        await journal?.sent(part.number, info.tag)
        // A try that seemed to fail may still be reading its buffer: that one is not filled again.
        done(info, tries === 1 ? full : undefined)
        return
      } catch (error) {
        await trouble.after(error)
      }
    }
  }

  // The whole's hash after the first part is the first part's: small artifacts are hashed once.
  const hashOf = (part: number, body: Buffer) =>
    (part === 1 ? whole.copy() : createHash('sha256').update(body)).digest('hex')

  const flush = async () => {
    const body = buffer.subarray(0, used)
    const allowed = Math.max(1, Math.min(parallelParts, Math.floor(inFlightBytes / buffer.length)))
    while (inFlight.size >= allowed) await Promise.race(inFlight)
    signal.throwIfAborted()
    if (options.pausing?.aborted) {
      await Promise.all(inFlight)
      throw options.pausing.reason
    }
    if (number > capabilities.maxParts) {
      throw new HoldfastError(
        'destination.misconfigured',
        `Writing ${key}: it needs more than the ${capabilities.maxParts} parts that the destination allows.`,
        { hint: 'Use larger parts for this backup.' },
      )
    }
    whole.update(body)
    const sha256 = hashesParts ? hashOf(number, body) : undefined
    const known = journal?.known(number)
    if (known !== undefined && (known.bytes !== used || known.sha256 !== sha256)) throw changed(key, number)
    const there = existing.get(number)
    if (known !== undefined && there !== undefined && isSent(there, known)) {
      done(there, buffer)
    } else {
      const sending: Promise<void> = send({ number, offset, body, ...(sha256 ? { sha256 } : {}) }, buffer)
        .catch(fail)
        .finally(() => inFlight.delete(sending))
      inFlight.add(sending)
    }
    offset += used
    used = 0
    number += 1
    buffer = takeBuffer(spare, partSizeAt(number, partBytes, capabilities))
  }

  return {
    async write(bytes) {
      let rest = bytes
      while (rest.length > 0) {
        const copied = rest.copy(buffer, used)
        used += copied
        rest = rest.subarray(copied)
        if (used === buffer.length) await flush()
      }
    },
    compressed(bytes) {
      toolBytes = bytes
    },
    async finish() {
      if (used > 0) await flush()
      if (journal?.known(number) !== undefined) throw changed(key, number)
      await Promise.all(inFlight)
      signal.throwIfAborted()
      parts.sort((a, b) => a.number - b.number)
      return { parts, storedBytes: offset, storedSha256: whole.digest('hex'), sentBytes }
    },
    async settle() {
      await Promise.all(inFlight)
    },
  }
}

/** Parts grow: a spare buffer of an earlier size is let go. */
function takeBuffer(spare: Buffer[], bytes: number): Buffer {
  for (let free = spare.pop(); free !== undefined; free = spare.pop()) if (free.length === bytes) return free
  return Buffer.allocUnsafeSlow(bytes)
}

/** Only what the store itself, or our own record of its answer, says to be these bytes is not sent again. */
function isSent(there: PartInfo, known: { bytes: number; sha256: string; tag?: string }): boolean {
  if (there.bytes !== known.bytes) return false
  return there.sha256 !== undefined
    ? there.sha256 === known.sha256
    : known.tag !== undefined && known.tag === there.tag
}

const changed = (key: string, part: number): HoldfastError =>
  new HoldfastError(
    'staging.changed',
    `Going on with the upload of ${key}: part ${part} is not what was recorded before it was first sent.`,
  )
