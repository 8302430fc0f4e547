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
  /** What was asked for, as it is carried out: recorded, since who unpacks must know. */
  compression: Compression
}

/** The program that zstd's long mode needs on the host; undefined for all else, which Node does where there is none. */
export const neededEncoder = ({ method, longWindow }: Compression): string | undefined =>
  method === 'zstd' && longWindow !== null ? 'zstd' : undefined

/** Within so much the program looks for repetitions where nobody asked for the long mode: about what its level does by itself. */
const ownWindow = 23

export async function chooseEncoder(
  context: Pick<WorkerContext, 'host' | 'here'>,
  compression: Compression,
): Promise<Encoder> {
  const { method, level, longWindow, threads } = compression
  const own: Encoder = { stage: undefined, framing: 'raw', name: ownEncoder(method), compression }
  if (method !== 'zstd') return own
  if (longWindow !== null) {
    const made = await oneFrame(context, compression, longWindow)
    if (made) return made
    throw new HoldfastError(
      'host.tool-missing',
      'The long mode of zstd needs the program "zstd" on this host.',
    )
  }
  const pzstd = await context.host.tool('pzstd', ['-V'])
  if (pzstd) {
    const argv = ['pzstd', '-q', `-${level}`, '-p', String(threads), '-c'] as const
    return { stage: { argv }, framing: 'pzstd', name: `pzstd ${versionIn(pzstd.version)}`, compression }
  }
  // Frames can be unpacked side by side, one piece cannot; but it crosses the link in a fraction of the time.
  const isFar = context.host !== context.here
  return (isFar ? await oneFrame(context, compression, ownWindow) : undefined) ?? own
}

/** By zstd itself, which makes one frame of everything; undefined: the host has none. */
async function oneFrame(
  { host }: Pick<WorkerContext, 'host'>,
  compression: Compression,
  longWindow: number,
): Promise<Encoder | undefined> {
  const zstd = await host.tool('zstd', ['-V'])
  if (!zstd) return undefined
  const { level, threads } = compression
  const argv = ['zstd', '-q', `-${level}`, `--long=${longWindow}`, `-T${threads}`, '-c'] as const
  const name = `zstd ${versionIn(zstd.version)}`
  return { stage: { argv }, framing: 'zstd', name, compression: { ...compression, longWindow } }
}

const versionIn = (said: string): string => /v(\d+\.\d+\.\d+)/.exec(said)?.[1] ?? said
