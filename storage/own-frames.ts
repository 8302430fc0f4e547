/**
 * Frames that Node compresses in its thread pool, each by itself: the same bytes whatever programs a host has, and several
 * at once. What a frame becomes depends on nothing but the bytes in it, so an attempt that is gone on with makes the same.
 */
import { promisify } from 'node:util'
import { constants, gzip, zstdCompress } from 'node:zlib'
import { compressFrame } from 'lz4-napi'
import type { Compression } from '../model/compression.ts'
import { letGo } from '../model/let-go.ts'
import packageJson from '../package.json' with { type: 'json' }
import { newEnds } from './ends.ts'
import { type Frames, seekTable } from './frames.ts'

const zstd = promisify(zstdCompress)
const gzipped = promisify(gzip)

const ownFrameBytes = 4 << 20
/** Of what the libraries are given room for at once. */
const pieceBytes = 1 << 20

/** Of `auto`: so much of each frame is tried before the whole. */
const samplePieces = 16
const samplePieceBytes = 8 << 10
/** A sample that shrinks to no less is data that is compressed already. */
const worthwhile = 0.96
/** zstd at its fastest looks for next to nothing: what does not shrink comes out in uncompressed blocks, with a checksum. */
const storingLevel = -1000

interface Packer {
  /** Independent of all other frames. */
  pack(frame: Buffer): Promise<{ bytes: Buffer; stored: boolean }>
  /** Frames that decoders skip may follow. */
  seekable: boolean
}

const packed = async (bytes: Promise<Buffer>) => ({ bytes: await bytes, stored: false })

const packerFor = ({ method, level }: Compression): Packer => {
  switch (method) {
    case 'lz4':
      return { pack: frame => packed(compressFrame(frame, { contentChecksum: true })), seekable: true }
    case 'gzip':
      return { pack: frame => packed(gzipped(frame, { level, chunkSize: pieceBytes })), seekable: false }
    case 'auto':
      return {
        async pack(frame) {
          const stored = !(await shrinks(frame))
          return { bytes: await zstdFrame(frame, stored ? storingLevel : level), stored }
        },
        seekable: true,
      }
    default:
      return { pack: frame => packed(zstdFrame(frame, level)), seekable: true }
  }
}

const zstdFrame = (frame: Buffer, level: number): Promise<Buffer> =>
  zstd(frame, {
    // Node's own 16 KiB are a turn of the event loop each.
    chunkSize: pieceBytes,
    pledgedSrcSize: frame.length,
    params: { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 },
  })

/** Looks at pieces from all over the frame. */
async function shrinks(frame: Buffer): Promise<boolean> {
  const step = frame.length / samplePieces
  const pieces = Array.from({ length: samplePieces }, (_, index) =>
    frame.subarray(Math.floor(index * step), Math.floor(index * step) + samplePieceBytes),
  )
  const sample = step <= samplePieceBytes ? frame : Buffer.concat(pieces)
  return (await zstdFrame(sample, 1)).length < sample.length * worthwhile
}

/** What makes the frames of a method, with its version: another one may make other bytes. */
export function ownEncoder(method: Compression['method']): string {
  if (method === 'none') return 'none'
  if (method === 'lz4') return `lz4-napi ${packageJson.dependencies['lz4-napi']}`
  return `node ${method === 'gzip' ? process.versions.zlib : process.versions.zstd}`
}

/** Compresses the tool's bytes into frames of 4 MiB, as many at a time as there are threads, in order. */
export async function* ownFrames(
  source: AsyncIterable<Buffer>,
  compression: Compression,
  onToolBytes: (bytes: number) => void = () => {},
): Frames {
  const { pack, seekable } = packerFor(compression)
  const sizes: number[] = []
  const working: ReturnType<Packer['pack']>[] = []
  const ends = newEnds()
  let lastBytes = 0
  let compressedBytes = 0
  let storedFrames = 0

  const begin = (frame: Buffer) => {
    ends.add(frame)
    lastBytes = frame.length
    const promise = pack(frame).finally(() => letGo(frame))
    promise.catch(() => {}) // awaited in its turn; until then a failure must not count as unhandled
    working.push(promise)
  }
  const finished = async function* () {
    const { bytes, stored } = await working.shift()!
    if (stored) storedFrames += 1
    sizes.push(bytes.length)
    compressedBytes += bytes.length
    onToolBytes(Math.min(ends.bytes, sizes.length * ownFrameBytes))
    yield bytes
    letGo(bytes)
  }

  for await (const frame of chunksOf(source, ownFrameBytes)) {
    if (working.length >= compression.threads) yield* finished()
    begin(frame)
  }
  if (ends.bytes === 0) begin(Buffer.alloc(0))
  while (working.length > 0) yield* finished()
  const frameBytes = sizes.length === 1 ? lastBytes : ownFrameBytes
  if (seekable) {
    const table = seekTable(sizes, frameBytes, lastBytes)
    compressedBytes += table.length
    yield table
  }
  const { bytes: toolBytes, head, tail } = ends
  return { frames: sizes.length, frameBytes, storedFrames, toolBytes, compressedBytes, head, tail }
}

/** The tool's bytes as they come. */
export async function* bareBytes(
  source: AsyncIterable<Buffer>,
  onToolBytes: (bytes: number) => void = () => {},
): Frames {
  const ends = newEnds()
  for await (const chunk of source) {
    ends.add(chunk)
    onToolBytes(ends.bytes)
    yield chunk
    letGo(chunk)
  }
  const { bytes, head, tail } = ends
  return { frames: 0, frameBytes: 0, storedFrames: 0, toolBytes: bytes, compressedBytes: bytes, head, tail }
}

/** Buffers of exactly `bytes`, the last one shorter; none for an empty source. */
async function* chunksOf(source: AsyncIterable<Buffer>, bytes: number): AsyncGenerator<Buffer> {
  let pieces: Buffer[] = []
  let held = 0
  const joined = () => {
    const whole = Buffer.concat(pieces, held)
    for (const piece of pieces) letGo(piece)
    pieces = []
    held = 0
    return whole
  }
  for await (const chunk of source) {
    let rest = chunk
    while (rest.length > 0) {
      const piece = rest.subarray(0, bytes - held)
      pieces.push(piece)
      held += piece.length
      rest = rest.subarray(piece.length)
      if (held < bytes) continue
      yield joined()
    }
  }
  if (held > 0) yield joined()
}
