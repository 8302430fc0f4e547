/** Who compresses: a program in the host's pipe, so that fewer bytes leave the host, or Node in the worker. */
import type { Stage } from '../engines/engine.ts'
import type { Compression } from '../model/compression.ts'
import { HoldfastError } from '../model/errors.ts'
import { ownEncoder } from '../storage/own-frames.ts'
import type { Framing } from '../storage/writer.ts'
import type { WorkerContext } from './context.ts'

export interface Encoder {
  /** The last program of the host's pipe; none: then Node makes the frames. */
  stage: Stage | undefined
  framing: Framing
  /** Program and version: another encoder would make other bytes. */
  name: string
}

/** The program that zstd's long mode needs on the host; undefined for all else, which Node does where there is none. */
export const neededEncoder = ({ method, longWindow }: Compression): string | undefined =>
  method === 'zstd' && longWindow !== null ? 'zstd' : undefined

export async function chooseEncoder(context: WorkerContext, compression: Compression): Promise<Encoder> {
  const { method, level, longWindow, threads } = compression
  const own: Encoder = { stage: undefined, framing: 'raw', name: ownEncoder(method) }
  if (method !== 'zstd') return own
  if (longWindow !== null) {
    const zstd = await context.host.tool('zstd', ['-V'])
    if (!zstd) {
      throw new HoldfastError(
        'host.tool-missing',
        'The long mode of zstd needs the program "zstd" on this host.',
      )
    }
    const argv = ['zstd', '-q', `-${level}`, `--long=${longWindow}`, `-T${threads}`, '-c'] as const
    return { stage: { argv }, framing: 'zstd', name: `zstd ${versionIn(zstd.version)}` }
  }
  const pzstd = await context.host.tool('pzstd', ['-V'])
  if (!pzstd) return own
  const argv = ['pzstd', '-q', `-${level}`, '-p', String(threads), '-c'] as const
  return { stage: { argv }, framing: 'pzstd', name: `pzstd ${versionIn(pzstd.version)}` }
}

const versionIn = (said: string): string => /v(\d+\.\d+\.\d+)/.exec(said)?.[1] ?? said
