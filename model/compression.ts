/** How the tool's bytes are made smaller, what that did to them, and what there is to say about it. Pure: workflows use it. */

export const compressionMethods = ['zstd', 'lz4', 'gzip', 'none', 'auto'] as const
/** `auto`: zstd, but data that does not shrink is kept as it is. */
export type CompressionMethod = (typeof compressionMethods)[number]
export type Codec = Exclude<CompressionMethod, 'auto'>

export interface Compression {
  method: CompressionMethod
  /** 0 where the method has none. */
  level: number
  /** zstd's long mode: looks for repetitions within 2^longWindow bytes; null: within a frame of a few MiB. */
  longWindow: number | null
  /** What compresses at once. */
  threads: number
}

/** Levels by method; null: it has none. */
export const compressionLevels: Record<CompressionMethod, { most: number; usual: number } | null> = {
  zstd: { most: 19, usual: 3 },
  auto: { most: 19, usual: 3 },
  gzip: { most: 9, usual: 6 },
  lz4: null,
  none: null,
}

export const longWindows = { least: 20, most: 31 } as const

/** As somebody asks for it. */
export interface CompressionRequest {
  method?: CompressionMethod | undefined
  level?: number | undefined
  longWindow?: number | undefined
  threads?: number | undefined
}

/** What was not said is as usual. */
export const wholeCompression = (asked: CompressionRequest): Compression => {
  const method = asked.method ?? 'zstd'
  return {
    method,
    level: asked.level ?? compressionLevels[method]?.usual ?? 0,
    longWindow: asked.longWindow ?? null,
    threads: asked.threads ?? 2,
  }
}

export const codecOf = (method: CompressionMethod): Codec => (method === 'auto' ? 'zstd' : method)

/** What the object's name says of it. */
export const compressionSuffix: Record<Codec, string> = { zstd: '.zst', lz4: '.lz4', gzip: '.gz', none: '' }

/** What is known of an artifact that was written: part of its manifest's entry. */
interface Compressed {
  name: string
  toolBytes: number
  compressedBytes: number
  compression: {
    codec: Codec
    level: number
    frames: number
    longWindow?: number | undefined
    storedFrames?: number | undefined
  }
}

/** `zstd, level 3, window 2^27`. */
export function compressionWords({
  codec,
  level,
  longWindow,
  storedFrames,
}: Compressed['compression']): string {
  if (codec === 'none') return 'not compressed'
  const words: string[] = [codec]
  if (compressionLevels[codec] !== null) words.push(`level ${level}`)
  if (longWindow !== undefined) words.push(`window 2^${longWindow}`)
  if (storedFrames !== undefined) words.push('where it shrinks')
  return words.join(', ')
}

/** Less is not worth a word. */
const worthSayingBytes = 1 << 20

/** What somebody should know who chose the compression; undefined: it was a good choice. */
export function compressionAdvice({
  name,
  toolBytes,
  compressedBytes,
  compression,
}: Compressed): string | undefined {
  const { codec, frames, storedFrames } = compression
  if (toolBytes < worthSayingBytes || codec === 'none') return undefined
  if (storedFrames !== undefined) {
    const share = Math.round((storedFrames / frames) * 100)
    return share < 50
      ? undefined
      : `${name} is already compressed: ${share} % of it is stored as it came. Look for what keeps images or archives in the database.`
  }
  const saved = Math.max(0, Math.floor((1 - compressedBytes / toolBytes) * 100))
  if (saved >= 5) return undefined
  // lz4 only finds repetitions: what it cannot shrink may not be compressed at all.
  return codec === 'lz4'
    ? `${name} does not shrink by lz4, which saved ${saved} %. With the compression "auto" zstd is tried, and what does not shrink is stored as it is.`
    : `${name} is already compressed: ${codec} saved ${saved} %. With the compression "auto" such data is stored as it is, with less work.`
}
