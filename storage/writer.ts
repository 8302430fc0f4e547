/**
 * Writes one artifact: frames the compressor's output, seals it, cuts it into parts and sends several at once.
 * Does not complete the upload: the caller does, once the tool has proven that it wrote everything.
 */
import type { Readable } from 'node:stream'
import { type Compression, longWindows } from '../model/compression.ts'
import { letGo } from '../model/let-go.ts'
import type { PartInfo } from './destination.ts'
import { fanOut, type Sent, type Target } from './fan-out.ts'
import { announcedFrames, type FrameSummary, type Frames } from './frames.ts'
import { longFrame } from './long-frame.ts'
import { bareBytes, ownFrames } from './own-frames.ts'
import { createSealer, type SealSecrets } from './tink.ts'

export type Framing = 'pzstd' | 'zstd' | 'raw'

/** What is written, whatever the number of uploads. */
interface Written {
  /**
   * `pzstd`: its output. `zstd`: that of zstd in long mode. `raw`: the tool's bytes. Is read to its end, or destroyed when
   * writing fails; its chunks are let go of, so nobody else may hold them.
   */
  source: Readable
  framing: Framing
  compression: Compression
  /** null: not encrypted. */
  seal: SealSecrets | null
  parallelParts?: number
  /** Whole MiB. Kept in the attempt: another size makes other parts. */
  partBytes?: number
  /** A good guess of the object's length; the same for every run of an attempt. For stores that want equal parts. */
  expectedBytes?: number
  /** How long a store in trouble is borne before the error is thrown. */
  patienceSeconds?: number
  signal?: AbortSignal
  /** Once it is aborted, parts on their way still arrive, no other is begun, and its reason is thrown. */
  pausing?: AbortSignal
  /** Bytes the store has, and how many of the tool's bytes went through the compressor. */
  onProgress?: (progress: { storedBytes: number; toolBytes: number }) => void
}

export type WriteOptions = Written & Target

export interface WrittenArtifacts extends FrameSummary {
  storedBytes: number
  /** Hex SHA-256 of the whole object. */
  storedSha256: string
  /** Of each target; at least one has it all. */
  sent: Sent[]
}

export interface WrittenArtifact extends Omit<WrittenArtifacts, 'sent'> {
  parts: PartInfo[]
  /** Bytes sent in this call; less than stored when a resumed upload had parts already. */
  sentBytes: number
}

/** Into one upload. */
export async function writeArtifact(options: WriteOptions): Promise<WrittenArtifact> {
  const {
    sent: [sent],
    ...written
  } = await writeArtifacts([options], options)
  if (sent === undefined || 'error' in sent) throw sent?.error ?? new Error('Nothing was sent.')
  return { ...written, ...sent }
}

/**
 * Into several uploads in one pass. For each it holds at most `parallelParts` parts and the one that is being filled. Throws what the destination or the source throws,
 * `backup.incomplete` for malformed compressor output, `staging.changed` when bytes differ from the journal's: then nothing
 * that differs has been sent. The upload stays open in each case.
 */
export async function writeArtifacts(
  targets: readonly Target[],
  options: Written,
): Promise<WrittenArtifacts> {
  const { source, seal } = options
  const stop = new AbortController()
  const fail = (error: unknown) => {
    stop.abort(error)
    source.destroy(error instanceof Error ? error : new Error(String(error)))
  }
  // Heard by the iteration below; without a listener, an error before its first or after its last turn would end the process.
  source.on('error', () => {})
  const cancelled = () => fail(options.signal?.reason)
  options.signal?.throwIfAborted()
  options.signal?.addEventListener('abort', cancelled, { once: true })

  const sender = fanOut(targets, { ...options, signal: stop.signal }, fail)
  const frames = framesOf(options, sender.compressed)
  const send = async (sealed: Buffer[]) => {
    for (const piece of sealed) {
      await sender.write(piece)
      letGo(piece)
    }
  }
  try {
    const sealer = seal === null ? null : createSealer(seal)
    if (sealer !== null) await sender.write(sealer.header)
    let step = await frames.next()
    for (; !step.done; step = await frames.next()) {
      if (sealer === null) await sender.write(step.value)
      else await send(sealer.update(step.value))
    }
    if (sealer !== null) await send(sealer.final())
    return { ...step.value, ...(await sender.finish()) }
  } catch (error) {
    const reason = stop.signal.aborted ? stop.signal.reason : error
    fail(reason)
    await sender.settle()
    throw reason
  } finally {
    options.signal?.removeEventListener('abort', cancelled)
  }
}

function framesOf({ source, framing, compression }: Written, told: (bytes: number) => void): Frames {
  if (framing === 'pzstd') return announcedFrames(source, told)
  if (framing === 'zstd') return longFrame(source, compression.longWindow ?? longWindows.most, told)
  return compression.method === 'none' ? bareBytes(source, told) : ownFrames(source, compression, told)
}
