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

/** The largest object that the stores we know take; a stream may turn out to be as long. */
const longestBytes = 5 * 1024 ** 4

/**
 * Bytes of part `number` (from 1), in whole MiB. How long the object becomes is not known, so parts grow: they double, step by
 * step, through the first quarter of the store's number of parts, up to the size with which the other three quarters hold
 * 5 TiB. Small objects keep small parts, and the largest part is a third larger than if all had been equal from the start.
 * Where a store wants parts equal, they are as large as the expected length needs.
 */
export function partSizeAt(
  number: number,
  partBytes: number,
  limits: Pick<Capabilities, 'equalParts' | 'minPartBytes' | 'maxPartBytes' | 'maxParts'>,
  expectedBytes = 0,
): number {
  const { maxParts } = limits
  const most = Math.max(mebibyte, Math.floor(limits.maxPartBytes / mebibyte) * mebibyte)
  const least = Math.min(most, Math.max(partBytes, wholeMebibytes(limits.minPartBytes)))
  if (limits.equalParts)
    return Math.min(most, Math.max(least, wholeMebibytes((2 * expectedBytes) / maxParts)))
  const growing = Math.floor(maxParts / 4)
  const largest = Math.max(least, Math.min(most, wholeMebibytes(longestBytes / (maxParts - growing))))
  const steps = Math.ceil(Math.log2(largest / least))
  const step = Math.ceil(growing / Math.max(1, steps))
  return Math.min(largest, least * 2 ** Math.min(steps, Math.floor((number - 1) / step)))
}

const wholeMebibytes = (bytes: number): number => Math.ceil(bytes / mebibyte) * mebibyte

export interface SenderOptions {
  destination: Destination
  key: string
  uploadId: string
  journal?: PartJournal
  existingParts?: readonly PartInfo[]
  /** Also where nobody would ask for it: another run may compare its parts with what the store then says. */
  hashParts?: boolean
  parallelParts?: number
  partBytes?: number
  expectedBytes?: number
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
  const { parallelParts = 4, patienceSeconds = 60, expectedBytes = 0 } = options
  // Where one part at a time is on its way it may be larger, in less memory than several hold.
  const { partBytes = (capabilities.sequentialParts ? 16 : 8) * mebibyte } = options
  if (partBytes <= 0 || partBytes % mebibyte !== 0) throw new RangeError('partBytes must be whole MiB')
  const sizeAt = (part: number) => partSizeAt(part, partBytes, capabilities, expectedBytes)
  // What is neither compared on resuming nor verified by the store is hashed once, as a whole.
  const hashesParts = journal !== undefined || capabilities.verifiesParts || options.hashParts === true
  const existing = new Map((options.existingParts ?? []).map(part => [part.number, part]))
  const parts: PartInfo[] = []
  const inFlight = new Set<Promise<void>>()
  const spare: Buffer[] = []
  const whole = createHash('sha256')
  let number = 1
  let buffer = takeBuffer(spare, sizeAt(1))
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
        sentBytes += body.length - (info.thereBefore ?? 0)
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
    // While the parts before it are on their way.
    whole.update(body)
    const sha256 = hashesParts ? hashOf(number, body) : undefined
    const wanted = capabilities.sequentialParts ? 1 : parallelParts
    const allowed = Math.max(1, Math.min(wanted, Math.floor(inFlightBytes / buffer.length)))
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
    const known = journal?.known(number)
    if (known !== undefined && (known.bytes !== used || known.sha256 !== sha256)) throw changed(key, number)
    const there = existing.get(number)
    // Without a record of ours only the store's own hash says what it has.
    const sent = known ?? (sha256 === undefined ? undefined : { bytes: body.length, sha256 })
    if (sent !== undefined && there !== undefined && isSent(there, sent)) {
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
    buffer = takeBuffer(spare, sizeAt(number))
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
