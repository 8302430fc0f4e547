/**
 * Reads artifacts back. End of file is a promise: a stream ends only when the whole artifact has proven itself; everything
 * else is an error of the stream, whatever was given out before.
 */
import { Readable } from 'node:stream'
import { HoldfastError } from '../model/errors.ts'
import { letGo } from '../model/let-go.ts'
import type { Destination } from './destination.ts'
import type { Seal } from './prover.ts'
import { type Proving, proven } from './proving.ts'
import { type Expected, type ReadOptions, storedBytes } from './stored-bytes.ts'
import { createOpener, segmentBytes } from './tink.ts'

/** Keeps the stored bytes of an artifact nearby, so that a run that comes later need not fetch them again. */
export interface Spool {
  /** What it has kept, then what the store has; like `storedBytes`. Lets go of everything when it ends. */
  bytes(options: ReadOptions): AsyncGenerator<Buffer>
  /** What an error of the reader means, whose cause may be what was kept: that is thrown away then. */
  explain(error: unknown): Promise<unknown>
}

/** Reads the whole object and compares length and hash with the manifest. Needs no key. */
export async function hashArtifact(options: ReadOptions): Promise<void> {
  for await (const chunk of proven(storedBytes(options), proving(options, null))) letGo(chunk)
}

/**
 * The compressed bytes of an artifact (zstd frames and seek table): what goes to `zstd -d`. Encrypted bytes are given out
 * segment by segment, each only after it is authenticated; bytes of a plain artifact are proven only by the end of the
 * stream. Errors: `artifact.truncated`, `artifact.corrupted`, `key.missing`, `destination.*`. Destroying it lets go of the store.
 * The stored bytes come by way of `spool` where there is one; what it has kept is proven like what comes from the store.
 */
export function openArtifact(options: ReadOptions & { dataKey: Uint8Array | null; spool?: Spool }): Readable {
  const { entry, dataKey, spool } = options
  const stop = new AbortController()
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal])
  const reading = { ...options, signal }
  const opened = async function* () {
    const seal = entry.encryption === null ? null : sealOf(entry, dataKey)
    try {
      yield* proven(spool === undefined ? storedBytes(reading) : spool.bytes(reading), proving(options, seal))
    } catch (error) {
      throw spool === undefined ? error : await spool.explain(error)
    }
  }
  const stream = Readable.from(opened(), { objectMode: false, highWaterMark: 1 << 20 })
  // Whoever reads later still gets the error; without a listener, one that comes before would end the process.
  stream.on('error', () => {})
  const cancelled = () => stream.destroy(asError(options.signal?.reason))
  options.signal?.addEventListener('abort', cancelled, { once: true })
  stream.once('close', () => {
    options.signal?.removeEventListener('abort', cancelled)
    stop.abort()
  })
  return stream
}

/** Stores over a network are read by several connections, which is work enough for one thread. */
const proving = (options: ReadOptions, seal: Seal | null): Proving => ({
  seal,
  bytes: options.entry.storedBytes,
  apart: options.destination.capabilities.readsAtOnce > 1,
  requireHash: sha256 => requireHash(options, sha256),
})

function sealOf(entry: Expected, dataKey: Uint8Array | null): Seal {
  if (dataKey === null) {
    throw new HoldfastError(
      'key.missing',
      `Opening artifact ${entry.name}: it is encrypted and no data key was given.`,
    )
  }
  return { dataKey, associatedData: entry.encryption!.associatedData, what: `artifact ${entry.name}` }
}

function requireHash({ key, entry }: ReadOptions, sha256: string): void {
  if (sha256 === entry.storedSha256) return
  throw new HoldfastError(
    'artifact.corrupted',
    `Reading artifact ${entry.name}: the SHA-256 of ${key} is ${sha256}, its manifest says ${entry.storedSha256}.`,
  )
}

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)))

/** Whether the data key opens what the object begins with, sealed with this associated data. Throws `destination.*`. */
export async function opensBeginning(
  object: { destination: Destination; key: string; storedBytes: number; associatedData: string },
  dataKey: Uint8Array,
): Promise<boolean> {
  const { destination, key, storedBytes: whole, associatedData } = object
  // One byte more: only then it is known that the first segment is not the last.
  const length = Math.min(whole, segmentBytes + 1)
  const opener = createOpener(dataKey, associatedData, key)
  let got = 0
  try {
    for await (const chunk of await destination.get(key, { offset: 0, length })) {
      got += (chunk as Buffer).length
      opener.update(chunk as Buffer)
    }
    if (got === whole) opener.final()
    return true
  } catch (error) {
    if (error instanceof HoldfastError && error.code.startsWith('artifact.')) return false
    throw error
  }
}
