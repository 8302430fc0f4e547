/** What a file is wrapped in, by its first bytes, and its content without that. Knows no Temporal: `holdfast diagnose` uses it too. */
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import type { Host } from '../hosts/host.ts'
import { HoldfastError } from '../model/errors.ts'
import type { ForeignWrapping } from '../model/foreign.ts'

export type Wrapping = ForeignWrapping

const beginnings: readonly [Wrapping, RegExp][] = [
  ['gzip', /^1f8b08/],
  ['zstd', /^(28b52ffd|5.2a4d18)/],
  ['lz4', /^04224d18/],
  ['bzip2', /^425a68/],
  ['xz', /^fd377a585a00/],
]

export const wrappingOf = (head: Buffer): Wrapping | undefined =>
  beginnings.find(([, beginning]) => beginning.test(head.toString('hex', 0, 8)))?.[0]

/** What the beginning of a wrapped file holds, as far as it goes; undefined where only a program can tell. */
export async function beginningWithin(wrapping: Wrapping, head: Buffer): Promise<Buffer | undefined> {
  if (wrapping !== 'gzip' && wrapping !== 'zstd') return undefined
  const decoder = wrapping === 'gzip' ? createGunzip() : createZstdDecompress()
  const pieces: Buffer[] = []
  await new Promise<void>(resolve => {
    decoder.on('data', (piece: Buffer) => pieces.push(piece))
    // It is cut: that its end is missing is no news.
    decoder.once('error', () => resolve())
    decoder.once('end', () => resolve())
    decoder.once('close', () => resolve())
    decoder.end(head)
  })
  return Buffer.concat(pieces)
}

export interface Opening {
  host: Host
  operation: string
  signal: AbortSignal
}

const chunkBytes = 1 << 20

/** The bytes in it. Throws `artifact.truncated` or `artifact.corrupted` with how far it went, `host.tool-missing`. */
export async function* unwrapped(
  path: string,
  wrapping: Wrapping | undefined,
  opening: Opening,
): AsyncGenerator<Buffer> {
  if (wrapping === undefined)
    yield* createReadStream(path, { highWaterMark: chunkBytes, signal: opening.signal })
  else if (wrapping === 'gzip') yield* gunzipped(path, opening.signal)
  else yield* byProgram(path, wrapping, opening)
}

async function* gunzipped(path: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const file = createReadStream(path, { highWaterMark: chunkBytes, signal })
  const decoder = createGunzip({ chunkSize: chunkBytes })
  file.once('error', error => decoder.destroy(error))
  file.pipe(decoder)
  let given = 0
  try {
    for await (const chunk of decoder) {
      given += chunk.length
      yield chunk
    }
  } catch (error) {
    signal.throwIfAborted()
    const said = error instanceof Error ? error.message : String(error)
    throw broken('gzip', /unexpected end/.test(said), given, said)
  } finally {
    file.destroy()
  }
}

/** Frames of any size, of any version: the programs know them all, and need little memory. */
async function* byProgram(
  path: string,
  program: Exclude<Wrapping, 'gzip'>,
  { host, operation, signal }: Opening,
): AsyncGenerator<Buffer> {
  // Said to be quiet, bzip2 does not even say what is wrong.
  const argv = [program, '-d', ...(program === 'bzip2' ? [] : ['-q']), '-c', '--', path] as const
  const job = { operation, step: 'unpack', token: crypto.randomUUID() }
  const running = await host.stream(job, { stages: [{ argv: [...argv] }] }, { signal })
  let given = 0
  try {
    for await (const chunk of running.stdout) {
      given += chunk.length
      yield chunk
    }
    const { exits, stderrTail } = await running.result
    if (exits[0] === 0) return
    if (exits[0] === 127) {
      throw new HoldfastError(
        'host.tool-missing',
        `It is compressed by ${program}, which is not installed here.`,
      )
    }
    const short = /premature|unexpected|truncat|unfinished/i.test(stderrTail)
    const said = stderrTail.trim().replace(/\s+/g, ' ').slice(0, 300)
    throw broken(program, short, given, said)
  } finally {
    await running.stop()
  }
}

const broken = (by: Wrapping, short: boolean, given: number, said: string): HoldfastError =>
  new HoldfastError(
    short ? 'artifact.truncated' : 'artifact.corrupted',
    `Its compression (${by}) ${short ? 'ends too early' : 'is damaged'} after ${given} bytes of its content: ${said}.`,
    { context: { offset: given } },
  )

/** A format is told by so much of the beginning. */
export const headBytes = 64 << 10

export async function beginningOf(path: string): Promise<Buffer> {
  const file = await open(path, 'r')
  try {
    const head = Buffer.alloc(headBytes)
    const { bytesRead } = await file.read(head, 0, headBytes, 0)
    return head.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

export async function firstOf(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const pieces: Buffer[] = []
  let held = 0
  for await (const chunk of source) {
    pieces.push(chunk)
    held += chunk.length
    if (held >= headBytes) break
  }
  return Buffer.concat(pieces).subarray(0, headBytes)
}
