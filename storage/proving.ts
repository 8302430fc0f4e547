/**
 * Proving bytes on their way through. It takes longer than everything else that a read does, so it is done by a thread of its
 * own for a long object, while this one speaks to the store and feeds the tool.
 */
import { Worker } from 'node:worker_threads'
import { type ErrorFacts, HoldfastError } from '../model/errors.ts'
import { createProver, type Seal } from './prover.ts'

export interface Proving {
  /** null: the bytes are not sealed. */
  seal: Seal | null
  /** How many will come. */
  bytes: number
  /** By a thread, if there are bytes enough. */
  apart: boolean
  /** Throws if this is not the SHA-256 of what was stored. Asked before the last segment of sealed bytes is given out. */
  requireHash(sha256: string): void
}

/** Below it a thread costs more than it brings. */
const leastBytes = 64 * 1024 * 1024

/** So many chunks are with the thread before the first is waited for. */
const ahead = 3

/** The chunks of the source, opened if they were sealed. They must be nobody else's. To be read to its end, or returned. */
export const proven = (source: AsyncIterable<Buffer>, proving: Proving): AsyncGenerator<Buffer> =>
  proving.apart && proving.bytes >= leastBytes ? provenApart(source, proving) : provenHere(source, proving)

async function* provenHere(source: AsyncIterable<Buffer>, { seal, requireHash }: Proving) {
  const prover = createProver(seal)
  for await (const chunk of source) yield* prover.update(chunk)
  const { last, sha256 } = prover.final()
  requireHash(sha256)
  yield* last
}

async function* provenApart(source: AsyncIterable<Buffer>, { seal, requireHash }: Proving) {
  const thread = new Worker(new URL('./proving-thread.ts', import.meta.url), {
    workerData: seal,
    resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 },
  })
  const { give, taken } = talk(thread)
  try {
    let waiting = 0
    for await (const chunk of source) {
      give(ownMemory(chunk))
      waiting += 1
      if (waiting <= ahead) continue
      yield* (await taken()).proven
      waiting -= 1
    }
    give(null)
    for (; waiting > 0; waiting -= 1) yield* (await taken()).proven
    const { proven: last, sha256 = '' } = await taken()
    requireHash(sha256)
    yield* last
  } finally {
    await thread.terminate()
  }
}

/** One for each block, and one for the end, with the hash. After a failure none comes any more. */
export type Answer = { blocks: ArrayBuffer[]; sha256?: string } | { failed: ErrorFacts }

/** Answers come in the order of what was given. */
function talk(thread: Worker) {
  const answers: Answer[] = []
  let ended: Error | undefined
  let wake = () => {}
  thread.on('message', (answer: Answer) => {
    answers.push(answer)
    wake()
  })
  const end = (error: Error) => {
    ended ??= error
    wake()
  }
  thread.on('error', end)
  thread.on('exit', code => end(new Error(`The proving thread ended with ${code}.`)))
  return {
    give: (block: ArrayBuffer | null) => thread.postMessage(block, block === null ? [] : [block]),
    async taken(): Promise<{ proven: Buffer[]; sha256?: string }> {
      for (;;) {
        const answer = answers.shift()
        if (answer !== undefined) return read(answer)
        if (ended) throw ended
        await new Promise<void>(resolve => {
          wake = resolve
        })
      }
    },
  }
}

function read(answer: Answer): { proven: Buffer[]; sha256?: string } {
  if ('blocks' in answer) {
    const { blocks, ...end } = answer
    return { proven: blocks.map(block => Buffer.from(block)), ...end }
  }
  const { code, detail, hint, context } = answer.failed
  throw new HoldfastError(code, detail, { hint, ...(context && { context }) })
}

/** Memory that holds the chunk and nothing else, which can change hands. */
export function ownMemory(chunk: Buffer): ArrayBuffer {
  const { buffer } = chunk
  if (buffer instanceof ArrayBuffer && buffer.byteLength === chunk.length) return buffer
  const own = Buffer.allocUnsafeSlow(chunk.length)
  own.set(chunk)
  return own.buffer
}
