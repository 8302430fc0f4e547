/** A proxy before a real store that does what networks and other stores do: cuts, loses answers, refuses. */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'

export type Fault =
  /** Passed on untouched. */
  | { kind: 'pass' }
  /** The store is not asked. */
  | { kind: 'answer'; status: number; body: string; headers?: Record<string, string> }
  /** The store does it, but its answer never arrives. */
  | { kind: 'lose-answer' }
  /** The connection ends after so many bytes of the answer's body. */
  | { kind: 'cut'; afterBytes: number }
  /** The store gets another first byte of the body than was sent. */
  | { kind: 'damage' }
  /** Neither passed on nor answered, until the caller gives up. */
  | { kind: 'silence' }

export interface FaultyStore {
  endpoint: string
  /** Every request that came, as `METHOD /path?query`. */
  seen: string[]
  /** Decides about each request; replace it to begin a scenario. */
  fault: (incoming: IncomingMessage) => Fault
  close(): Promise<void>
}

export const s3Error = (code: string, message: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`

export async function startFaultyStore(target: string): Promise<FaultyStore> {
  const { hostname, port } = new URL(target)
  const store: FaultyStore = {
    endpoint: '',
    seen: [],
    fault: () => ({ kind: 'pass' }),
    async close() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }

  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    store.seen.push(`${incoming.method} ${incoming.url}`)
    const fault = store.fault(incoming)
    if (fault.kind === 'silence') return
    const body = await buffer(incoming)
    if (fault.kind === 'damage' && body.length > 0) body.writeUInt8(body.readUInt8(0) ^ 1)
    if (fault.kind === 'answer') {
      outgoing.writeHead(fault.status, { 'content-type': 'application/xml', ...fault.headers })
      outgoing.end(incoming.method === 'HEAD' ? undefined : fault.body)
      return
    }
    const { method = 'GET', url = '/', headers } = incoming
    const onward = request({ hostname, port, method, path: url, headers }, answer => {
      if (fault.kind === 'lose-answer') {
        answer.resume()
        answer.once('end', () => outgoing.destroy())
        return
      }
      outgoing.writeHead(answer.statusCode ?? 500, answer.rawHeaders)
      let left = fault.kind === 'cut' ? fault.afterBytes : Number.POSITIVE_INFINITY
      answer.on('data', (chunk: Buffer) => {
        if (left <= 0) return
        const piece = chunk.subarray(0, Math.min(left, chunk.length))
        left -= piece.length
        outgoing.write(piece, () => {
          if (left <= 0) {
            answer.destroy()
            outgoing.destroy()
          }
        })
      })
      answer.once('end', () => outgoing.end())
      answer.once('error', () => outgoing.destroy())
    })
    onward.once('error', () => outgoing.destroy())
    onward.end(body)
  }

  const server = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => outgoing.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no address')
  store.endpoint = `http://127.0.0.1:${address.port}`
  return store
}
