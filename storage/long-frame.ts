/**
 * zstd's long mode: the program makes one frame of everything, as repetitions are looked for far back. It does not tell how
 * much it has read, so its output is decoded beside: that tells the tool's bytes, and proves that they can be read again.
 */
import { constants, createZstdDecompress } from 'node:zlib'
import { letGo } from '../model/let-go.ts'
import { newEnds } from './ends.ts'
import { type Frames, malformed } from './frames.ts'

/** Of a decoder: as far back as a frame may refer; it takes that much memory. */
export const windowParameter = (longWindow: number) => ({ [constants.ZSTD_d_windowLogMax]: longWindow })

export async function* longFrame(
  source: AsyncIterable<Buffer>,
  longWindow: number,
  onToolBytes: (bytes: number) => void = () => {},
): Frames {
  const decoder = createZstdDecompress({ chunkSize: 1 << 20, params: windowParameter(longWindow) })
  const ends = newEnds()
  const decoded = (async () => {
    for await (const chunk of decoder) {
      ends.add(chunk)
      onToolBytes(ends.bytes)
    }
  })()
  decoded.catch(() => {}) // waited for below, whatever happens
  const decode = (chunk: Buffer) =>
    new Promise<void>((resolve, reject) => decoder.write(chunk, error => (error ? reject(error) : resolve())))
  let compressedBytes = 0
  try {
    for await (const chunk of source) {
      compressedBytes += chunk.length
      const taken = decode(chunk)
      taken.catch(() => {})
      yield chunk
      // A decoder that fails does not say so of what it was just given.
      await Promise.race([taken, decoded]).catch(undecodable)
      letGo(chunk)
    }
    decoder.end()
    await decoded.catch(undecodable)
    if (decoder.bytesWritten < compressedBytes) throw malformed('something follows its frame')
  } finally {
    decoder.destroy()
  }
  const { bytes, head, tail } = ends
  return { frames: 1, frameBytes: bytes, storedFrames: 0, toolBytes: bytes, compressedBytes, head, tail }
}

const undecodable = (cause: unknown): never => {
  throw malformed(`it cannot be decoded (${cause instanceof Error ? cause.message : String(cause)})`, cause)
}
