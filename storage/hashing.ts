/**
 * The SHA-256 of bytes on their way through. It takes longer than everything else that a read does, so a long object's is
 * made by a thread of its own, while this one speaks to the store and opens what was sealed.
 */
import { createHash } from 'node:crypto'
import { Worker } from 'node:worker_threads'

export interface Hashed {
  /** The same bytes, each chunk after it was hashed; not always cut as they came. To be read to its end, or returned. */
  chunks: AsyncGenerator<Buffer>
  /** Hex. Once all chunks were read. */
  digest(): string
}

/** Below it a thread costs more than it brings. */
const leastBytes = 64 * 1024 * 1024

/** So many chunks are with the thread before the first is waited for. */
const ahead = 3

/** `apart`: by a thread, if there are bytes enough. The chunks must be nobody else's. */
export const hashing = (source: AsyncIterable<Buffer>, bytes: number, apart: boolean): Hashed =>
  apart && bytes >= leastBytes ? hashedApart(source) : hashedHere(source)

function hashedHere(source: AsyncIterable<Buffer>): Hashed {
  const hash = createHash('sha256')
  const chunks = async function* () {
    for await (const chunk of source) {
      hash.update(chunk)
      yield chunk
    }
  }
  return { chunks: chunks(), digest: () => hash.digest('hex') }
}

function hashedApart(source: AsyncIterable<Buffer>): Hashed {
  let digest: string | undefined
  const chunks = async function* () {
    const thread = new Worker(new URL('./hash-thread.ts', import.meta.url), {
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 },
    })
    const { give, taken } = talk(thread)
    try {
      let waiting = 0
      for await (const chunk of source) {
        give(ownMemory(chunk))
        waiting += 1
        if (waiting <= ahead) continue
        yield Buffer.from((await taken()) as ArrayBuffer)
        waiting -= 1
      }
      give(null)
      for (; waiting > 0; waiting -= 1) yield Buffer.from((await taken()) as ArrayBuffer)
      digest = (await taken()) as string
    } finally {
      await thread.terminate()
    }
  }
  return {
    chunks: chunks(),
    digest() {
      if (digest === undefined) throw new Error('The digest is asked for before the end.')
      return digest
    },
  }
}

type Answer = ArrayBuffer | string

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
  thread.on('exit', code => end(new Error(`The hashing thread ended with ${code}.`)))
  return {
    give: (block: ArrayBuffer | null) => thread.postMessage(block, block === null ? [] : [block]),
    async taken(): Promise<Answer> {
      for (;;) {
        const answer = answers.shift()
        if (answer !== undefined) return answer
        if (ended) throw ended
        await new Promise<void>(resolve => {
          wake = resolve
        })
      }
    },
  }
}

/** Memory that holds the chunk and nothing else, which can change hands. */
function ownMemory(chunk: Buffer): ArrayBuffer {
  const { buffer } = chunk
  if (buffer instanceof ArrayBuffer && buffer.byteLength === chunk.length) return buffer
  const own = Buffer.allocUnsafeSlow(chunk.length)
  own.set(chunk)
  return own.buffer
}
