/** The thread of hashing.ts: hashes the blocks that it is given, and gives them back. */
import { createHash } from 'node:crypto'
import { parentPort } from 'node:worker_threads'

const port = parentPort
if (!port) throw new Error('hash-thread.ts is started by hashing.ts')
const hash = createHash('sha256')

port.on('message', (block: ArrayBuffer | null) => {
  if (block === null) return port.postMessage(hash.digest('hex'))
  hash.update(new Uint8Array(block))
  port.postMessage(block, [block])
})
