/**
 * Compressed frames on their way into an artifact: independent ones, then the seek table of the zstd seekable format, so
 * that `zstd -d` reads the whole and a reader can start at any frame.
 *
 * `announcedFrames` reads what pzstd writes: each frame after a skippable frame of 12 bytes that tells its length. These are
 * left out. pzstd puts the same number of the tool's bytes into every frame but the last (it depends on the level), so
 * decoding the first and the last tells all sizes; Node touches no other byte of the tool. What Node compresses itself is
 * in own-frames.ts, zstd's long mode in long-frame.ts.
 */
import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import { HoldfastError } from '../model/errors.ts'
import { letGo } from '../model/let-go.ts'

const decompress = promisify(zstdDecompress)

const frameMagic = 0xfd2fb528
const announcementMagic = 0x184d2a50
const announcementBytes = 12
const seekTableMagic = 0x184d2a5e
const seekFooterMagic = 0x8f92eab1
/** Of the reference implementation of the seekable format. */
const maxFrameBytes = 1 << 30
const headBytes = 64
const tailBytes = 64 << 10

export interface FrameSummary {
  /** 0: not compressed. */
  frames: number
  /** The tool's bytes in each frame but the last; of the only one when there is one. */
  frameBytes: number
  /** Frames that were not compressed, as they would not have shrunk. */
  storedFrames: number
  toolBytes: number
  /** All bytes given out: frames and seek table. */
  compressedBytes: number
  /** The first ≤ 64 of the tool's bytes. */
  head: Buffer
  /** The last ≤ 64 KiB of the tool's bytes. */
  tail: Buffer
}

/**
 * Yields compressed bytes in order, each piece good until the next is asked for; returns the summary. The source's chunks
 * are let go of. Throws `backup.incomplete` when the source is not well formed.
 */
export type Frames = AsyncGenerator<Buffer, FrameSummary, undefined>

/** `onToolBytes` is told how many of the tool's bytes are in frames that are through. */
export async function* announcedFrames(
  source: AsyncIterable<Buffer>,
  onToolBytes: (bytes: number) => void = () => {},
): Frames {
  const announcement = Buffer.alloc(announcementBytes)
  let announced = 0
  let missing = 0
  const stored: number[] = []
  // The newest two frames are kept: the end of the tool's bytes lies in them.
  let current = collected()
  let previous = collected()
  let first: Buffer | undefined
  let compressedBytes = 0

  for await (const chunk of source) {
    let rest = chunk
    while (rest.length > 0) {
      if (missing === 0) {
        const taken = rest.copy(announcement, announced, 0, announcementBytes - announced)
        announced += taken
        rest = rest.subarray(taken)
        if (announced < announcementBytes) continue
        announced = 0
        missing = announcedLength(announcement, stored.length)
        stored.push(missing)
        ;[previous, current] = [current, previous]
        current.clear()
        continue
      }
      const piece = rest.subarray(0, missing)
      rest = rest.subarray(piece.length)
      missing -= piece.length
      current.add(piece)
      compressedBytes += piece.length
      yield piece
      if (missing > 0) continue
      if (first === undefined) first = await decoded(current.bytes(), 0)
      else requireFrame(current.bytes(), stored.length - 1)
      onToolBytes(stored.length * first.length)
    }
    letGo(chunk)
  }
  if (first === undefined || missing > 0 || announced > 0) {
    const where = first === undefined ? 'inside its first frame' : `inside frame ${stored.length}`
    throw malformed(`it ended ${where}`)
  }
  const frames = stored.length
  const last = frames === 1 ? first : await decoded(current.bytes(), frames - 1)
  if (last.length > first.length) {
    throw malformed(`its last frame holds ${last.length} bytes, more than the ${first.length} of the first`)
  }
  let tail: Buffer = last
  if (last.length < tailBytes && frames > 1) {
    tail = Buffer.concat([await decoded(previous.bytes(), frames - 2), last])
  }
  const table = seekTable(stored, first.length, last.length)
  yield table
  return {
    frames,
    frameBytes: first.length,
    storedFrames: 0,
    toolBytes: first.length * (frames - 1) + last.length,
    compressedBytes: compressedBytes + table.length,
    head: Buffer.from(first.subarray(0, headBytes)),
    tail: Buffer.from(tail.subarray(Math.max(0, tail.length - tailBytes))),
  }
}

/** Bytes in one piece, in memory that is used again. */
function collected() {
  let memory = Buffer.allocUnsafeSlow(1 << 20)
  let used = 0
  return {
    clear() {
      used = 0
    },
    add(piece: Buffer) {
      if (used + piece.length > memory.length) {
        const larger = Buffer.allocUnsafeSlow(Math.max(2 * memory.length, used + piece.length))
        memory.copy(larger, 0, 0, used)
        memory = larger
      }
      used += piece.copy(memory, used)
    },
    /** Good until the next change. */
    bytes: (): Buffer => memory.subarray(0, used),
  }
}

function announcedLength(announcement: Buffer, frame: number): number {
  const length = announcement.readUInt32LE(8)
  if (
    announcement.readUInt32LE(0) !== announcementMagic ||
    announcement.readUInt32LE(4) !== 4 ||
    length < 9
  ) {
    throw malformed(`frame ${frame + 1} is not announced`)
  }
  return length
}

function requireFrame(bytes: Buffer, frame: number): void {
  if (bytes.readUInt32LE(0) !== frameMagic) throw malformed(`frame ${frame + 1} is no zstd frame`)
}

async function decoded(bytes: Buffer, frame: number): Promise<Buffer> {
  requireFrame(bytes, frame)
  try {
    return await decompress(bytes, { maxOutputLength: maxFrameBytes })
  } catch (cause) {
    throw malformed(`frame ${frame + 1} cannot be decoded`, cause)
  }
}

export const malformed = (what: string, cause?: unknown): HoldfastError =>
  new HoldfastError('backup.incomplete', `Reading the output of the compressor: ${what}.`, { cause })

/** The seek table: a skippable frame of (compressed, decompressed) sizes per frame and a footer of 9 bytes. */
export function seekTable(stored: readonly number[], frameBytes: number, lastBytes: number): Buffer {
  const table = Buffer.alloc(8 + stored.length * 8 + 9)
  table.writeUInt32LE(seekTableMagic, 0)
  table.writeUInt32LE(table.length - 8, 4)
  let at = 8
  stored.forEach((bytes, index) => {
    table.writeUInt32LE(bytes, at)
    table.writeUInt32LE(index === stored.length - 1 ? lastBytes : frameBytes, at + 4)
    at += 8
  })
  table.writeUInt32LE(stored.length, at)
  table[at + 4] = 0 // no checksums per frame: every frame carries zstd's own
  table.writeUInt32LE(seekFooterMagic, at + 5)
  return table
}
