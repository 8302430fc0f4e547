/**
 * Reads artifacts back. End of file is a promise: a stream ends only when the whole artifact has proven itself; everything
 * else is an error of the stream, whatever was given out before.
 */
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { HoldfastError } from '../model/errors.ts'
import { letGo } from '../model/let-go.ts'
import type { ArtifactEntry } from '../model/manifest.ts'
import type { Destination } from './destination.ts'
import { patience } from './retry.ts'
import { createOpener } from './tink.ts'

type Expected = Pick<ArtifactEntry, 'name' | 'storedBytes' | 'storedSha256' | 'encryption'>

export interface ReadOptions {
  destination: Destination
  /** Key of the object, relative to the destination's prefix. */
  key: string
  entry: Expected
  signal?: AbortSignal
  /** Stored bytes read so far. */
  onProgress?: (storedBytes: number) => void
  /** How long a store in trouble is borne without progress. */
  patienceSeconds?: number
}

/** What the store says of the object agrees with the manifest: it is there and has its length. Reads no bytes of it. */
export async function existsArtifact(options: Omit<ReadOptions, 'onProgress'>): Promise<void> {
  const { destination, key, entry, signal } = options
  const stat = await borne(options, () => destination.stat(key, signal === undefined ? {} : { signal }))
  if (stat === undefined) {
    throw new HoldfastError(
      'destination.object-missing',
      `Looking for artifact ${entry.name}: ${key} is not in ${destination.uri}.`,
    )
  }
  if (stat.bytes < entry.storedBytes) {
    throw new HoldfastError(
      'artifact.truncated',
      `Looking at artifact ${entry.name}: ${key} has ${stat.bytes} bytes, its manifest says ${entry.storedBytes}.`,
    )
  }
  if (stat.bytes > entry.storedBytes) {
    throw new HoldfastError(
      'artifact.corrupted',
      `Looking at artifact ${entry.name}: ${key} has ${stat.bytes} bytes, more than the ${entry.storedBytes} of its manifest.`,
    )
  }
}

/** Reads the whole object and compares length and hash with the manifest. Needs no key. */
export async function hashArtifact(options: ReadOptions): Promise<void> {
  const hash = createHash('sha256')
  for await (const chunk of storedBytes(options)) {
    hash.update(chunk)
    letGo(chunk)
  }
  requireHash(options, hash.digest('hex'))
}

/**
 * The compressed bytes of an artifact (zstd frames and seek table): what goes to `zstd -d`. Encrypted bytes are given out
 * segment by segment, each only after it is authenticated; bytes of a plain artifact are proven only by the end of the
 * stream. Errors: `artifact.truncated`, `artifact.corrupted`, `key.missing`, `destination.*`. Destroying it lets go of the store.
 */
export function openArtifact(options: ReadOptions & { dataKey: Uint8Array | null }): Readable {
  const { entry, dataKey } = options
  const stop = new AbortController()
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal])
  const opened = async function* () {
    const hash = createHash('sha256')
    const opener = entry.encryption === null ? null : openerFor(entry, dataKey)
    for await (const chunk of storedBytes({ ...options, signal })) {
      hash.update(chunk)
      if (opener === null) {
        yield chunk
        continue
      }
      const plain = opener.update(chunk)
      letGo(chunk)
      yield* plain
    }
    const last = opener?.final() ?? []
    requireHash(options, hash.digest('hex'))
    yield* last
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

function openerFor(entry: Expected, dataKey: Uint8Array | null) {
  if (dataKey === null) {
    throw new HoldfastError(
      'key.missing',
      `Opening artifact ${entry.name}: it is encrypted and no data key was given.`,
    )
  }
  return createOpener(dataKey, entry.encryption!.associatedData, `artifact ${entry.name}`)
}

/** Every stored byte in order, exactly as many as the manifest says; goes on at its offset after a cut connection. */
async function* storedBytes(options: ReadOptions): AsyncGenerator<Buffer> {
  const { destination, key, entry, signal } = options
  await existsArtifact(options)
  const trouble = patience(options.patienceSeconds ?? 60, signal)
  let offset = 0
  while (offset < entry.storedBytes) {
    try {
      const length = entry.storedBytes - offset
      const stream = await destination.get(key, { offset, length, ...(signal && { signal }) })
      for await (const chunk of stream) {
        offset += chunk.length
        if (offset > entry.storedBytes) {
          throw new HoldfastError(
            'artifact.corrupted',
            `Reading ${key}: more bytes came than were asked for.`,
          )
        }
        trouble.progressed()
        options.onProgress?.(offset)
        yield chunk
      }
      if (offset < entry.storedBytes) {
        // The store says that it has more than it gave: what a cut connection looks like where nothing noticed it.
        await existsArtifact(options)
        throw cut(key, offset)
      }
    } catch (error) {
      signal?.throwIfAborted()
      await trouble.after(error instanceof HoldfastError ? error : cut(key, offset, error))
    }
  }
}

const cut = (key: string, offset: number, cause?: unknown): HoldfastError =>
  new HoldfastError(
    'destination.unreachable',
    `Reading ${key}: the connection ended after ${offset} bytes${cause instanceof Error ? ` (${cause.message})` : ''}.`,
    { cause },
  )

function requireHash({ key, entry }: ReadOptions, sha256: string): void {
  if (sha256 === entry.storedSha256) return
  throw new HoldfastError(
    'artifact.corrupted',
    `Reading artifact ${entry.name}: the SHA-256 of ${key} is ${sha256}, its manifest says ${entry.storedSha256}.`,
  )
}

async function borne<T>(options: Omit<ReadOptions, 'onProgress'>, act: () => Promise<T>): Promise<T> {
  const trouble = patience(options.patienceSeconds ?? 60, options.signal)
  for (;;) {
    try {
      return await act()
    } catch (error) {
      await trouble.after(error)
    }
  }
}

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)))
