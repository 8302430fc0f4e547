/** A proxy before a real store that does what networks and other stores do: cuts, loses answers, refuses. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

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
  /** The connection is reset after so many bytes of the request's body; the store is not asked. */
  | { kind: 'reset'; afterBytes: number }
  /** Passed on late, and the answer comes in small pieces with pauses between them. */
  | { kind: 'slow'; delayMs: number; pieceBytes: number; pieces: number }
  /** Passed on; the answer as another store gives it. */
  | { kind: 'changed'; headers?: Record<string, string | undefined>; body?: (text: string) => string }
  /** Both directions at so many bytes per second. */
  | { kind: 'narrow'; bytesPerSecond: number }
  /** Neither passed on nor answered, until the caller gives up: what a peer looks like that is gone without a word. */
  | { kind: 'silence' }
  /** Half open: nothing more comes after so many bytes of the answer's body, and the connection stays. */
  | { kind: 'stall'; afterBytes: number }
  /** An answer that ends properly after so many bytes of its body, unless its length was told. */
  | { kind: 'short'; afterBytes: number }

export interface FaultyStore {
  endpoint: string
  /** Every request that came, as `METHOD /path?query`. */
  seen: string[]
  /** Decides about each request; replace it to begin a scenario. */
  fault: (incoming: IncomingMessage) => Fault
  /** Is told the body of every request that came whole. */
  heard?: (incoming: IncomingMessage, body: Buffer) => void
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
    if (fault.kind === 'reset') {
      let came = 0
      for await (const chunk of incoming) {
        came += (chunk as Buffer).length
        if (came >= fault.afterBytes) break
      }
      return void incoming.socket.resetAndDestroy()
    }
    const body = await buffer(incoming)
    store.heard?.(incoming, body)
    if (fault.kind === 'narrow') await sleep((body.length / fault.bytesPerSecond) * 1000)
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
      if (fault.kind === 'changed') return void change(answer, outgoing, fault)
      outgoing.writeHead(answer.statusCode ?? 500, answer.rawHeaders)
      if (fault.kind === 'slow') return void drip(answer, outgoing, fault)
      if (fault.kind === 'narrow') return void trickle(answer, outgoing, fault.bytesPerSecond)
      if (fault.kind === 'stall' || fault.kind === 'short') {
        return void beginning(answer, outgoing, fault.afterBytes, fault.kind === 'short')
      }
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
    if (fault.kind === 'slow') await sleep(fault.delayMs)
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

async function change(
  answer: IncomingMessage,
  outgoing: ServerResponse,
  { headers = {}, body = text => text }: Extract<Fault, { kind: 'changed' }>,
): Promise<void> {
  const came = (await buffer(answer)).toString()
  const goes = Buffer.from(body(came))
  // The length of an answer to HEAD is that of what is not in it.
  const length = came === '' ? {} : { 'content-length': String(goes.length) }
  const all = Object.entries({ ...answer.headers, ...headers, ...length })
  outgoing.writeHead(
    answer.statusCode ?? 500,
    Object.fromEntries(all.filter((entry): entry is [string, string] => entry[1] !== undefined)),
  )
  outgoing.end(goes)
}

/** The first pieces of the answer slowly, one by one; what follows as it comes. */
async function drip(
  answer: IncomingMessage,
  outgoing: ServerResponse,
  { delayMs, pieceBytes, pieces }: Extract<Fault, { kind: 'slow' }>,
): Promise<void> {
  let left = pieces
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      let rest = chunk
      for (; left > 0 && rest.length > 0; left -= 1) {
        outgoing.write(rest.subarray(0, pieceBytes))
        rest = rest.subarray(pieceBytes)
        await sleep(delayMs)
      }
      if (rest.length > 0 && !outgoing.write(rest) && !outgoing.destroyed) await once(outgoing, 'drain')
    }
    outgoing.end()
  } catch {
    outgoing.destroy()
  }
}

async function trickle(answer: IncomingMessage, outgoing: ServerResponse, bytesPerSecond: number) {
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      await sleep((chunk.length / bytesPerSecond) * 1000)
      if (!outgoing.write(chunk) && !outgoing.destroyed) await once(outgoing, 'drain')
    }
    outgoing.end()
  } catch {
    outgoing.destroy()
  }
}

/** The first bytes of the answer, and then its end or nothing. */
async function beginning(answer: IncomingMessage, outgoing: ServerResponse, bytes: number, ends: boolean) {
  const body = await buffer(answer)
  // A head without a byte behind it is held back otherwise.
  outgoing.flushHeaders()
  outgoing.write(body.subarray(0, bytes))
  if (ends || body.length <= bytes) outgoing.end()
}

/**
 * A network that is bad all the time: about each fourth request meets a fault when it comes for the first time, and gets
 * through when it comes again. Which one it meets hangs on the request alone, so that a run can be repeated. An answer that
 * opens something is never lost: what nobody knows the name of, nobody can give back. Silence takes its time, so it falls
 * `silences` times of each kind at most, and never on what a store may think about for minutes.
 */
export function badWeather(
  throttled: { status: number; body: string; headers: Record<string, string> },
  silences: number,
) {
  const met = new Set<string>()
  const counts: Record<string, number> = {}
  const fault = ({ method = '', url = '', headers }: IncomingMessage): Fault => {
    const request = `${method} ${url} ${headers.range ?? ''} ${headers['content-range'] ?? ''}`
    const chance = createHash('sha256').update(request).digest()
    if (met.has(request) || chance.readUInt8(0) % 4 !== 0) return { kind: 'pass' }
    met.add(request)
    const opens = method === 'POST' && /[?&](uploads=?(&|$)|uploadType=resumable)/.test(url)
    const joins = method === 'POST' && /[?&]uploadId=/.test(url)
    const faults: Fault[] = [
      { kind: 'answer', ...throttled },
      { kind: 'answer', status: 500, body: '', headers: { 'retry-after': '0' } },
      { kind: 'answer', status: 429, body: '', headers: { 'retry-after': '0' } },
      { kind: 'slow', delayMs: 5, pieceBytes: 7, pieces: 20 },
      { kind: 'narrow', bytesPerSecond: 16 * 1024 * 1024 },
      { kind: 'reset', afterBytes: 1000 },
      ...(opens
        ? []
        : ([
            { kind: 'lose-answer' },
            { kind: 'cut', afterBytes: 3 },
            { kind: 'short', afterBytes: 3 },
          ] as const)),
      ...(opens || joins
        ? []
        : ([{ kind: 'silence' }, { kind: 'stall', afterBytes: 3 }] as const).filter(
            ({ kind }) => (counts[kind] ?? 0) < silences,
          )),
    ]
    const chosen = faults[chance.readUInt8(1) % faults.length] ?? { kind: 'pass' }
    counts[chosen.kind] = (counts[chosen.kind] ?? 0) + 1
    return chosen
  }
  return { fault, counts }
}
