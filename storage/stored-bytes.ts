/**
 * Reading the stored bytes of an object in order, exactly as many as its manifest says. From stores over a network several
 * pieces are read side by side, in a bounded window: a reader that pauses holds bytes, and no connection.
 */
import { HoldfastError } from '../model/errors.ts'
import { letGo } from '../model/let-go.ts'
import type { ArtifactEntry } from '../model/manifest.ts'
import type { Destination, ObjectStat } from './destination.ts'
import { borne, patience } from './retry.ts'

export type Expected = Pick<ArtifactEntry, 'name' | 'storedBytes' | 'storedSha256' | 'encryption'>

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

const usualPatienceSeconds = 60

/** With `readsAtOnce` of them under way or waiting, this bounds what a read holds in memory. */
export const pieceBytes = 8 * 1024 * 1024

const blockBytes = 1024 * 1024

/** What the store says of the object agrees with the manifest: it is there and has its length. Reads no bytes of it. */
export async function existsArtifact(options: Omit<ReadOptions, 'onProgress'>): Promise<ObjectStat> {
  const { destination, key, entry, signal } = options
  const stat = await borne(options.patienceSeconds ?? usualPatienceSeconds, signal, () =>
    destination.stat(key, signal === undefined ? {} : { signal }),
  )
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
  return stat
}

/** The bytes from `from` to the end of the object. A broken connection goes on where it broke. */
export async function* storedBytes(options: ReadOptions, from = 0): AsyncGenerator<Buffer> {
  const { destination, entry, onProgress } = options
  await existsArtifact(options)
  let position = from
  const atOnce = destination.capabilities.readsAtOnce
  for await (const chunk of atOnce > 1
    ? pieces(options, from, atOnce)
    : range(options, from, entry.storedBytes)) {
    position += chunk.length
    onProgress?.(position)
    yield chunk
  }
}

async function* pieces(options: ReadOptions, from: number, atOnce: number): AsyncGenerator<Buffer> {
  const stop = new AbortController()
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal])
  const { storedBytes: total } = options.entry
  const underWay: Piece[] = []
  let next = from
  try {
    while (next < total || underWay.length > 0) {
      while (next < total && underWay.length < atOnce) {
        underWay.push(fetchPiece({ ...options, signal }, next, Math.min(next + pieceBytes, total)))
        next += pieceBytes
      }
      const [first] = underWay
      if (first) yield* first.chunks()
      underWay.shift()
    }
  } finally {
    stop.abort()
    await Promise.allSettled(underWay.map(piece => piece.whole))
  }
}

interface Piece {
  /** What came of it as it comes. */
  chunks(): AsyncGenerator<Buffer>
  /** Settles when all of it is here, or never will be. */
  whole: Promise<void>
}

/** Fetched whether somebody asks for it yet or not. */
function fetchPiece(options: ReadOptions, from: number, end: number): Piece {
  const came: Buffer[] = []
  let ended = false
  let wake = () => {}
  const fetching = async () => {
    for await (const chunk of gathered(range(options, from, end), end - from)) {
      came.push(chunk)
      wake()
    }
  }
  const whole = fetching().finally(() => {
    ended = true
    wake()
  })
  // Awaited when it is its turn; until then its failure must not count as unhandled.
  whole.catch(() => {})
  return {
    whole,
    async *chunks() {
      for (;;) {
        const chunk = came.shift()
        if (chunk !== undefined) yield chunk
        else if (ended) return await whole
        else await new Promise<void>(resolve => (wake = resolve))
      }
    },
  }
}

/**
 * So many of the bytes in fewer, larger buffers of their own: what waits in the window is then a block of memory and not
 * hundreds, each of which would be carried through every step on the way, and looked at by the garbage collector.
 */
async function* gathered(chunks: AsyncIterable<Buffer>, bytes: number): AsyncGenerator<Buffer> {
  let left = bytes
  let block: Buffer | undefined
  let filled = 0
  for await (const chunk of chunks) {
    for (let rest = chunk; rest.length > 0; ) {
      block ??= Buffer.allocUnsafeSlow(Math.min(left, blockBytes))
      const copied = rest.copy(block, filled)
      filled += copied
      rest = rest.subarray(copied)
      if (filled < block.length) continue
      left -= filled
      yield block
      block = undefined
      filled = 0
    }
    letGo(chunk)
  }
}

async function* range(options: ReadOptions, from: number, end: number): AsyncGenerator<Buffer> {
  const { destination, key, signal } = options
  const trouble = patience(options.patienceSeconds ?? usualPatienceSeconds, signal)
  let offset = from
  while (offset < end) {
    try {
      const stream = await destination.get(key, { offset, length: end - offset, ...(signal && { signal }) })
      for await (const chunk of stream) {
        offset += chunk.length
        if (offset > end) {
          throw new HoldfastError(
            'artifact.corrupted',
            `Reading ${key}: more bytes came than were asked for.`,
          )
        }
        trouble.progressed()
        yield chunk
      }
      if (offset < end) {
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
