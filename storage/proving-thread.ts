/** The thread of proving.ts: proves the blocks that it is given, and gives what is proven. */
import { parentPort, workerData } from 'node:worker_threads'
import { HoldfastError } from '../model/errors.ts'
import { createProver, type Seal } from './prover.ts'
import { type Answer, ownMemory } from './proving.ts'

const port = parentPort
if (!port) throw new Error('proving-thread.ts is started by proving.ts')
const prover = createProver(workerData as Seal | null)

const prove = (block: ArrayBuffer | null): Answer => {
  try {
    if (block !== null) return { blocks: prover.update(Buffer.from(block)).map(ownMemory) }
    const { last, sha256 } = prover.final()
    return { blocks: last.map(ownMemory), sha256 }
  } catch (error) {
    if (error instanceof HoldfastError) return { failed: error.facts() }
    throw error
  }
}

port.on('message', (block: ArrayBuffer | null) => {
  const answer = prove(block)
  port.postMessage(answer, 'blocks' in answer ? answer.blocks : [])
})
