/**
 * The tool's bytes out of an artifact's zstd frames, for where there is no `zstd` program. Node's own stream ends silently
 * after the first frame, so frames are told apart here and each is decoded whole.
 */
import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import { HoldfastError } from '../model/errors.ts'

const decode = promisify(zstdDecompress)

const frameMagic = 0xfd2fb528
/** Skippable frames: 0x184d2a50 to 0x184d2a5f. */
const skippableMagic = 0x184d2a5
/** Frames decoded at once: keeps the order, fills the thread pool. */
const ahead = 2

/**
 * Yields the tool's bytes in order, frame by frame (a few MiB each). Throws `artifact.corrupted` for what is no zstd frame
 * and `artifact.truncated` when the bytes end within one; what was yielded before is right all the same.
 */
export async function* unpack(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  const decoding: Promise<Buffer>[] = []
  try {
    for await (const frame of framesOf(source)) {
      const decoded = decode(frame)
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

/** Whole frames, skippable ones left out. */
async function* framesOf(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
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
      const end = endOfFrame(rest)
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
    const end = endOfFrame(rest)
    if ('atLeast' in end) {
      throw new HoldfastError(
        'artifact.truncated',
        'Unpacking an artifact: it ends in the middle of a frame.',
      )
    }
    if (!end.skippable) yield rest.subarray(0, end.bytes)
    rest = rest.subarray(end.bytes)
  }
}

/** Length of the frame at the beginning of `bytes`, or how many bytes are needed at least to tell (RFC 8878). */
function endOfFrame(bytes: Buffer): { bytes: number; skippable: boolean } | { atLeast: number } {
  if (bytes.length < 8) return { atLeast: 8 }
  const magic = bytes.readUInt32LE(0)
  if (magic >>> 4 === skippableMagic) {
    const length = 8 + bytes.readUInt32LE(4)
    return bytes.length < length ? { atLeast: length } : { bytes: length, skippable: true }
  }
  if (magic !== frameMagic) throw damaged('there is no zstd frame where one should begin')
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
  return bytes.length < at ? { atLeast: at } : { bytes: at, skippable: false }
}
