/**
 * The tool's bytes out of an artifact, for where the programs for that are missing. Frames of zstd and lz4 are told apart here
 * and decoded whole, several at once; what comes in one piece of any length (gzip, zstd's long mode) goes through a stream.
 */
import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { createGunzip, createZstdDecompress, zstdDecompress } from 'node:zlib'
import { decompressFrame } from 'lz4-napi'
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { ArtifactEntry } from '../model/manifest.ts'
import { windowParameter } from './long-frame.ts'

/** Skippable frames, which all decoders pass over: 0x184d2a50 to 0x184d2a5f. */
const skippableMagic = 0x184d2a5
/** Frames decoded at once: keeps the order, fills the thread pool. */
const ahead = 2

/** What has to be known of an artifact to unpack it. */
export type Packing = Pick<ArtifactEntry['compression'], 'codec' | 'longWindow'>

type Unpacker = (source: AsyncIterable<Buffer>) => AsyncIterable<Buffer>

/**
 * Gives the tool's bytes in order. It throws `artifact.corrupted` for what is not of this codec and `artifact.truncated` when
 * the bytes end too early, with the place: frames are counted from 0, `packedOffset` is a byte of what it was given. What was
 * given out before is right all the same.
 */
export function unpackerOf({ codec, longWindow }: Packing): Unpacker {
  switch (codec) {
    case 'none':
      return async function* (source) {
        yield* source
      }
    case 'gzip':
      return source => streamed(source, createGunzip({ chunkSize: 1 << 20 }))
    case 'lz4':
      return source => unpack(source, lz4)
    case 'zstd':
      return longWindow === undefined
        ? source => unpack(source, zstd)
        : source =>
            streamed(
              source,
              createZstdDecompress({ chunkSize: 1 << 20, params: windowParameter(longWindow) }),
            )
  }
}

/** The program that does the same, as the last resort of whoever has no Holdfast. Reads all that we write. */
export function unpackingProgram({ codec, longWindow }: Packing): [string, ...string[]] | undefined {
  switch (codec) {
    case 'none':
      return undefined
    case 'gzip':
      return ['gzip', '-d', '-c']
    case 'lz4':
      return ['lz4', '-d', '-q', '-c']
    case 'zstd':
      return ['zstd', '-d', '-q', '-c', ...(longWindow === undefined ? [] : [`--long=${longWindow}`])]
  }
}

interface FrameFormat {
  magic: number
  name: string
  decode(frame: Buffer): Promise<Buffer>
  /** Length of the frame at the beginning of `bytes`, or how many bytes are needed at least to tell. undefined: it is none. */
  end(bytes: Buffer): { bytes: number } | { atLeast: number } | undefined
}

const decodeZstd = promisify(zstdDecompress)
const zstd: FrameFormat = {
  magic: 0xfd2fb528,
  name: 'zstd',
  // Node's own 16 KiB are a turn of the event loop each.
  decode: frame => decodeZstd(frame, { chunkSize: 1 << 20 }),
  end: endOfZstd,
}
const lz4: FrameFormat = { magic: 0x184d2204, name: 'lz4', decode: decompressFrame, end: endOfLz4 }

async function* unpack(
  source: AsyncIterable<Buffer>,
  format: FrameFormat,
): AsyncGenerator<Buffer, void, undefined> {
  const decoding: Decoding[] = []
  let broken: { error: unknown } | undefined
  const frames = async function* () {
    try {
      yield* framesOf(source, format)
    } catch (error) {
      broken = { error }
    }
  }
  try {
    for await (const { bytes, ...place } of frames()) {
      const decoded = format.decode(bytes)
      // Awaited in its turn below; until then its failure must not count as unhandled.
      decoded.catch(() => {})
      decoding.push({ decoded, place })
      if (decoding.length >= ahead) yield* first(decoding)
    }
    // A length that was changed is noticed where the next frame should begin: the frame before it is what is damaged.
    while (decoding.length > 0) yield* first(decoding)
    if (broken) throw broken.error
  } finally {
    await Promise.allSettled(decoding.map(({ decoded }) => decoded))
  }
}

/** Where a frame begins in the packed bytes. */
interface Place {
  frame: number
  packedOffset: number
}

interface Decoding {
  decoded: Promise<Buffer>
  place: Place
}

async function* first(decoding: Decoding[]): AsyncGenerator<Buffer, void, undefined> {
  const next = decoding.shift()
  if (!next) return
  let decoded: Buffer
  try {
    decoded = await next.decoded
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause) {
      throw damaged(`${frameWords(next.place)}, cannot be decoded`, next.place, cause)
    }
    throw cause
  }
  yield decoded
}

const frameWords = ({ frame, packedOffset }: Place): string =>
  `frame ${frame}, which begins at byte ${packedOffset} of its compressed bytes`

const damaged = (what: string, place: Partial<Place>, cause?: unknown) =>
  new HoldfastError('artifact.corrupted', `Unpacking an artifact: ${what}.`, {
    cause,
    context: { ...place },
  })

const truncated = (where: string, place: Partial<Place>) =>
  new HoldfastError('artifact.truncated', `Unpacking an artifact: it ends in the middle of ${where}.`, {
    context: { ...place },
  })

/** Through a decoder of Node's, which tells a missing end from damage by itself. */
async function* streamed(
  source: AsyncIterable<Buffer>,
  decoder: Duplex & { bytesWritten: number },
): AsyncGenerator<Buffer> {
  let given = 0
  const counted = async function* () {
    for await (const chunk of source) {
      given += chunk.length
      yield chunk
    }
  }
  const feeding = pipeline(counted, decoder)
  feeding.catch(() => {}) // its failure is the decoder's, too
  try {
    for await (const chunk of decoder) yield chunk
    await feeding
    // It may leave alone what follows the last frame.
    const packedOffset = decoder.bytesWritten
    if (packedOffset < given)
      throw damaged(`something follows its end at byte ${packedOffset}`, { packedOffset })
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause) || cause instanceof HoldfastError) throw cause
    // One piece, of which a checksum at its end tells: more than where it was noticed is not known.
    const packedOffset = decoder.bytesWritten
    throw cause.code === 'Z_BUF_ERROR'
      ? truncated(`its only frame, after ${given} compressed bytes`, { packedOffset: given })
      : damaged(
          `it cannot be decoded, noticed after ${packedOffset} of its compressed bytes: ${cause.message}`,
          { packedOffset },
          cause,
        )
  }
}

/** Whole frames, skippable ones left out. */
async function* framesOf(
  source: AsyncIterable<Buffer>,
  format: FrameFormat,
): AsyncGenerator<Place & { bytes: Buffer }, void, undefined> {
  const place: Place = { frame: 0, packedOffset: 0 }
  let rest: Buffer = Buffer.alloc(0)
  /** Takes the frames that are whole; returns how many bytes are needed at least for the next one. */
  const whole = function* (): Generator<Place & { bytes: Buffer }, number> {
    while (rest.length > 0) {
      const end = endOfFrame(rest, format, place)
      if ('atLeast' in end) return end.atLeast
      const bytes = rest.subarray(0, end.bytes)
      rest = rest.subarray(end.bytes)
      const begins = { ...place }
      place.packedOffset += end.bytes
      if (end.skippable) continue
      place.frame += 1
      yield { ...begins, bytes }
    }
    return 0
  }
  let kept: Buffer[] = []
  let keptBytes = 0
  /** Nothing is looked at again until this many bytes are there: chunks are joined a few times, not each time. */
  let wanted = 0
  let broken: { error: unknown } | undefined
  const chunks = async function* () {
    try {
      yield* source
    } catch (error) {
      // Only at its end the source knows that something was changed; a frame that came may tell what.
      if (!hasCode(error, 'artifact.corrupted')) throw error
      broken = { error }
    }
  }
  for await (const chunk of chunks()) {
    kept.push(chunk)
    keptBytes += chunk.length
    if (keptBytes < wanted) continue
    rest = kept.length === 1 ? chunk : Buffer.concat(kept)
    const atLeast = yield* whole()
    // Blocks have at most 128 KiB; twice as much again keeps the joining linear.
    wanted = atLeast === 0 ? 0 : Math.max(atLeast, rest.length + Math.min(rest.length, 8 << 20))
    kept = rest.length === 0 ? [] : [rest]
    keptBytes = rest.length
  }
  rest = Buffer.concat(kept)
  const atLeast = yield* whole()
  if (broken) throw broken.error
  if (atLeast > 0) throw truncated(frameWords(place), place)
}

function endOfFrame(
  bytes: Buffer,
  format: FrameFormat,
  place: Place,
): { bytes: number; skippable: boolean } | { atLeast: number } {
  if (bytes.length < 8) return { atLeast: 8 }
  const magic = bytes.readUInt32LE(0)
  if (magic >>> 4 === skippableMagic) {
    const length = 8 + bytes.readUInt32LE(4)
    return bytes.length < length ? { atLeast: length } : { bytes: length, skippable: true }
  }
  if (magic !== format.magic) {
    throw damaged(`${frameWords(place)}, does not begin as one of ${format.name} does`, place)
  }
  const end = format.end(bytes)
  if (end === undefined) throw damaged(`${frameWords(place)}, has a block of an unknown kind`, place)
  return 'atLeast' in end ? end : { ...end, skippable: false }
}

/** RFC 8878. */
function endOfZstd(bytes: Buffer): ReturnType<FrameFormat['end']> {
  const descriptor = bytes[4] ?? 0
  const singleSegment = (descriptor >> 5) & 1
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0
  const sizeFlag = descriptor >> 6
  const sizeBytes = sizeFlag === 0 ? singleSegment : 1 << sizeFlag
  let at = 5 + (singleSegment ? 0 : 1) + dictionaryBytes + sizeBytes
  for (;;) {
    if (bytes.length < at + 3) return { atLeast: at + 3 }
    const header = bytes.readUIntLE(at, 3)
    const type = (header >> 1) & 3
    if (type === 3) return undefined
    // A run-length block holds one byte, whatever its size.
    at += 3 + (type === 1 ? 1 : header >> 3)
    if ((header & 1) === 1) break
  }
  if ((descriptor >> 2) & 1) at += 4
  return bytes.length < at ? { atLeast: at } : { bytes: at }
}

/** The LZ4 frame format: magic, descriptor, blocks with their lengths, an empty one at the end, a checksum. */
function endOfLz4(bytes: Buffer): { bytes: number } | { atLeast: number } {
  const flags = bytes[4] ?? 0
  const has = (bit: number) => (flags >> bit) & 1
  let at = 7 + 8 * has(3) + 4 * has(0)
  for (;;) {
    if (bytes.length < at + 4) return { atLeast: at + 4 }
    const length = bytes.readUInt32LE(at) & 0x7fffffff
    at += 4
    if (length === 0) break
    at += length + 4 * has(4)
  }
  at += 4 * has(2)
  return bytes.length < at ? { atLeast: at } : { bytes: at }
}
