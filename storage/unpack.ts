/**
 * The tool's bytes out of an artifact, for where the programs for that are missing. Frames of zstd and lz4 are told apart here
 * and decoded whole, several at once; what comes in one piece of any length (gzip, zstd's long mode) goes through a stream.
 */
import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { createGunzip, createZstdDecompress, zstdDecompress } from 'node:zlib'
import { decompressFrame } from 'lz4-napi'
import { HoldfastError } from '../model/errors.ts'
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
 * the bytes end too early; what was given out before is right all the same.
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
  /** Length of the frame at the beginning of `bytes`, or how many bytes are needed at least to tell. */
  end(bytes: Buffer): { bytes: number } | { atLeast: number }
}

const zstd: FrameFormat = {
  magic: 0xfd2fb528,
  name: 'zstd',
  decode: promisify(zstdDecompress),
  end: endOfZstd,
}
const lz4: FrameFormat = { magic: 0x184d2204, name: 'lz4', decode: decompressFrame, end: endOfLz4 }

async function* unpack(
  source: AsyncIterable<Buffer>,
  format: FrameFormat,
): AsyncGenerator<Buffer, void, undefined> {
  const decoding: Promise<Buffer>[] = []
  try {
    for await (const frame of framesOf(source, format)) {
      const decoded = format.decode(frame)
      // Awaited in its turn below; until then its failure must not count as unhandled.
      decoded.catch(() => {})
      decoding.push(decoded)
      if (decoding.length >= ahead) yield* first(decoding)
    }
    while (decoding.length > 0) yield* first(decoding)
  } finally {
    await Promise.allSettled(decoding)
  }
}

async function* first(decoding: Promise<Buffer>[]): AsyncGenerator<Buffer, void, undefined> {
  const decoded = decoding.shift()
  if (!decoded) return
  try {
    yield await decoded
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause) throw damaged('a frame cannot be decoded', cause)
    throw cause
  }
}

const damaged = (what: string, cause?: unknown) =>
  new HoldfastError('artifact.corrupted', `Unpacking an artifact: ${what}.`, { cause })

const truncated = () =>
  new HoldfastError('artifact.truncated', 'Unpacking an artifact: it ends in the middle of a frame.')

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
    if (decoder.bytesWritten < given) throw damaged('something follows its end')
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause) || cause instanceof HoldfastError) throw cause
    throw cause.code === 'Z_BUF_ERROR'
      ? truncated()
      : damaged(`it cannot be decoded: ${cause.message}`, cause)
  }
}

/** Whole frames, skippable ones left out. */
async function* framesOf(
  source: AsyncIterable<Buffer>,
  format: FrameFormat,
): AsyncGenerator<Buffer, void, undefined> {
  let kept: Buffer[] = []
  let keptBytes = 0
  /** Nothing is looked at again until this many bytes are there: chunks are joined a few times, not each time. */
  let wanted = 0
  for await (const chunk of source) {
    kept.push(chunk)
    keptBytes += chunk.length
    if (keptBytes < wanted) continue
    let rest = kept.length === 1 ? chunk : Buffer.concat(kept)
    for (;;) {
      const end = endOfFrame(rest, format)
      if ('atLeast' in end) {
        // Blocks have at most 128 KiB; twice as much again keeps the joining linear.
        wanted = Math.max(end.atLeast, rest.length + Math.min(rest.length, 8 << 20))
        break
      }
      if (!end.skippable) yield rest.subarray(0, end.bytes)
      rest = rest.subarray(end.bytes)
      wanted = 0
      if (rest.length === 0) break
    }
    kept = rest.length === 0 ? [] : [rest]
    keptBytes = rest.length
  }
  let rest = Buffer.concat(kept)
  while (rest.length > 0) {
    const end = endOfFrame(rest, format)
    if ('atLeast' in end) {
      throw truncated()
    }
    if (!end.skippable) yield rest.subarray(0, end.bytes)
    rest = rest.subarray(end.bytes)
  }
}

function endOfFrame(
  bytes: Buffer,
  format: FrameFormat,
): { bytes: number; skippable: boolean } | { atLeast: number } {
  if (bytes.length < 8) return { atLeast: 8 }
  const magic = bytes.readUInt32LE(0)
  if (magic >>> 4 === skippableMagic) {
    const length = 8 + bytes.readUInt32LE(4)
    return bytes.length < length ? { atLeast: length } : { bytes: length, skippable: true }
  }
  if (magic !== format.magic) throw damaged(`there is no ${format.name} frame where one should begin`)
  const end = format.end(bytes)
  return 'atLeast' in end ? end : { ...end, skippable: false }
}

/** RFC 8878. */
function endOfZstd(bytes: Buffer): { bytes: number } | { atLeast: number } {
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
    if (type === 3) throw damaged('a frame has a block of an unknown kind')
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
