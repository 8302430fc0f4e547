/** A thread that feeds two programs, one after the other, as the worker's steps do. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { openLocalHost } from '../../hosts/index.ts'

const warnings: string[] = []
process.on('warning', ({ message }) => warnings.push(message))
const host = await openLocalHost({ name: 'local', stagingRoot: workerData.stagingRoot })
for (let run = 0; run < 2; run += 1) {
  const token = randomBytes(6).toString('hex')
  const fed = await host.feed(
    { operation: 'op-fed', step: 'feed', token },
    { stages: [{ argv: ['cat'], env: {} }] },
  )
  await new Promise<void>((resolve, reject) =>
    fed.stdin.write('some bytes', cause => (cause ? reject(cause) : resolve())),
  )
  await fed.complete()
  assert.equal((await fed.result).stdout, 'some bytes')
}
await new Promise(resolve => setImmediate(resolve))
parentPort?.postMessage({ warnings })
// It lives until it is ended.
setInterval(() => {}, 1000)
