/** One question to the machine: a script, its words, what it reads and what it prints. */
import type { Writable } from 'node:stream'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions } from '../destination.ts'
import { passes } from '../retry-calls.ts'
import { explained, failed, isAbsentSaid } from './errors.ts'
import { exits, type ServerProcess, type ServerShell } from './shell.ts'

export interface Store {
  uri: string
  /** Absolute path there. */
  root: string
  shell: ServerShell
}

export interface Question extends CallOptions {
  /** In words, for errors: `Writing "a/b"`. */
  doing: string
  script: string
  /** The verb, and what follows the root. */
  words: readonly [string, ...string[]]
  input?: Uint8Array
  /** Ends that the caller wants to know of. */
  allow?: readonly number[]
}

export interface Answer {
  exit: number
  stdout: Buffer
  /** What went before was lost on the way, and may have been done. */
  asked: number
}

const tries = 3
/** Pieces small enough that a cancellation finds a place between them. */
const pieceBytes = 256 * 1024
/** After its input was cut a script cleans up and ends; if it does not, the link is dead. */
const graceMs = 2000

/**
 * Asked again when the link broke under it. A link that cannot be opened is an answer: whoever asked has patience of its own.
 * Rethrows the signal's reason, after the script was told to end.
 */
export async function ask(store: Store, question: Question): Promise<Answer> {
  const { doing, signal, allow = [] } = question
  for (let asked = 1; ; asked += 1) {
    const running = await begin(store, question, 'short')
    try {
      const { exit: code, stdout, stderr } = await talk(running, question)
      signal?.throwIfAborted()
      // It went away between two steps of the script.
      const exit = code !== 0 && allow.includes(exits.absent) && isAbsentSaid(stderr) ? exits.absent : code
      if (exit !== 0 && !allow.includes(exit)) throw failed(store, doing, exit, stderr)
      return { exit, stdout, asked }
    } catch (cause) {
      signal?.throwIfAborted()
      const error = explained(store, doing, cause)
      if (asked === tries || !passes(error)) throw error
    }
  }
}

export async function begin(
  store: Store,
  { doing, script, words: [verb, ...words], signal }: Question,
  size: 'short' | 'long',
): Promise<ServerProcess> {
  signal?.throwIfAborted()
  try {
    const running = await store.shell.script(script, [verb, store.root, ...words], size)
    // Handlers come later, and an error without one would end the process.
    for (const stream of [running.stdin, running.stdout, running.stderr]) stream.on('error', () => {})
    running.gone.catch(() => {})
    return running
  } catch (error) {
    throw explained(store, doing, error)
  }
}

async function talk(
  running: ServerProcess,
  { input, signal }: Question,
): Promise<{ exit: number; stdout: Buffer; stderr: string }> {
  const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  const closed = (['stdout', 'stderr'] as const).map(
    name =>
      new Promise<void>(resolve => {
        running[name].on('data', (chunk: Buffer) => chunks[name].push(chunk))
        running[name].once('close', resolve)
      }),
  )
  const ended = (async () => {
    await write(running.stdin, input)
    const exit = await running.gone
    await Promise.all(closed)
    return {
      exit,
      stdout: Buffer.concat(chunks.stdout),
      stderr: Buffer.concat(chunks.stderr).toString('utf8'),
    }
  })()
  if (signal === undefined) return await ended
  ended.catch(() => {})
  let patience: NodeJS.Timeout | undefined
  let cut = () => {}
  const givenUp = new Promise<never>((_resolve, reject) => {
    cut = () => {
      running.stdin.destroy()
      patience = setTimeout(() => {
        running.kill()
        reject(signal.reason)
      }, graceMs)
    }
  })
  signal.addEventListener('abort', cut, { once: true })
  if (signal.aborted) cut()
  try {
    return await Promise.race([ended, givenUp])
  } finally {
    clearTimeout(patience)
    signal.removeEventListener('abort', cut)
  }
}

/** Whoever takes no more says why when it ends. */
async function write(stdin: Writable, input: Uint8Array | undefined): Promise<void> {
  const closed = new Promise<void>(resolve => stdin.once('close', resolve))
  for (let at = 0; input !== undefined && at < input.length && !stdin.destroyed; at += pieceBytes) {
    const piece = input.subarray(at, at + pieceBytes)
    await Promise.race([new Promise<void>(resolve => stdin.write(piece, () => resolve())), closed])
  }
  if (!stdin.destroyed) stdin.end()
}

/** What `hf_see` printed. */
export function seen(line: string): { bytes: number; modifiedAt: Date; tag: string } {
  const match = /^(\d+) (-?\d+) (\d+)$/.exec(line.trim())
  if (!match) {
    throw new HoldfastError('destination.unreachable', `"${line.slice(0, 100)}" is no answer of a shell.`)
  }
  const [, bytes = '', seconds = '', inode = ''] = match
  return {
    bytes: Number(bytes),
    modifiedAt: new Date(Number(seconds) * 1000),
    tag: `${BigInt(inode).toString(36)}-${Number(bytes).toString(36)}-${Number(seconds).toString(36)}`,
  }
}
