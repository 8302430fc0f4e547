/** Ports of this machine that a child can be given. */
import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'
import { HoldfastError } from '../model/errors.ts'

/**
 * A port nobody listens on at this moment. From below those that the system gives to outgoing connections (Linux: from 32768 on): one
 * of these may be gone before a child listens there, or after it was killed.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries += 1) {
    const port = randomInt(12_000, 32_000)
    if (await isFree('127.0.0.1', port)) return port
  }
  throw new HoldfastError('request.in-use', 'No free port of 127.0.0.1 was found between 12000 and 32000.')
}

/** Whether we could listen there now. */
export function isFree(host: string, port: number): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}
