/**
 * Resumable uploads as Google documents them, on disk, before a server that keeps the objects: multiples of 256 KiB until the
 * last bytes, 308 with the range that is kept, bytes sent twice ignored, a cut connection leaves what arrived, a hash that
 * does not fit refuses, cancelling answers 499. Everything else is passed on.
 */
import { createHash, randomBytes } from 'node:crypto'
import { appendFile, readFile, truncate, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

const granuleBytes = 256 * 1024

interface Session {
  bucket: string
  resource: { name: string } & Record<string, unknown>
  preconditions: URLSearchParams
  path: string
  stored: number
  state: 'open' | 'cancelled' | { made: string }
  /** One request at a time. */
  turn: Promise<unknown>
}

export interface SessionFront {
  endpoint: string
  /** Names of objects whose sessions are open. */
  open(): string[]
  /** Bytes of bodies that came for the object, sent twice or not. */
  received: Map<string, number>
  close(): Promise<void>
}

export async function startSessionFront(behind: string, root: string): Promise<SessionFront> {
  const sessions = new Map<string, Session>()
  const received = new Map<string, number>()

  const begin = async (incoming: IncomingMessage, outgoing: ServerResponse, url: URL, bucket: string) => {
    const resource = JSON.parse(await text(incoming)) as Session['resource']
    const known = await fetch(`${behind}/storage/v1/b/${bucket}`)
    if (!known.ok) return void outgoing.writeHead(known.status).end(await known.text())
    const id = randomBytes(16).toString('hex')
    const path = join(root, id)
    await writeFile(path, '')
    const preconditions = new URLSearchParams()
    for (const [name, value] of url.searchParams) if (name.startsWith('if')) preconditions.set(name, value)
    sessions.set(id, {
      bucket,
      resource,
      preconditions,
      path,
      stored: 0,
      state: 'open',
      turn: Promise.resolve(),
    })
    const location = `http://${incoming.headers.host}${url.pathname}?uploadType=resumable&upload_id=${id}`
    outgoing.writeHead(200, { location, 'content-length': '0' }).end()
  }

  const goOn = async (incoming: IncomingMessage, outgoing: ServerResponse, session: Session) => {
    const [, range = '', total = ''] =
      /^bytes ([\d-]+|\*)\/(\d+|\*)$/.exec(incoming.headers['content-range'] ?? '') ?? []
    const body = await whatArrives(incoming)
    session.turn = session.turn.then(() => take(incoming, outgoing, session, range, total, body))
    await session.turn
  }

  const take = async (
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    session: Session,
    range: string,
    total: string,
    body: Buffer,
  ) => {
    const { name } = session.resource
    received.set(name, (received.get(name) ?? 0) + body.length)
    if (session.state === 'cancelled') return void outgoing.writeHead(499).end()
    if (session.state === 'open' && range !== '*') {
      const from = Number(range.split('-')[0])
      if (from > session.stored) return refuse(outgoing, 'Invalid request. Bytes are missing.')
      const fresh = body.subarray(Math.min(body.length, session.stored - from))
      const whole = total !== '*' && from + body.length === Number(total)
      const kept = whole ? fresh.length : fresh.length - ((session.stored + fresh.length) % granuleBytes)
      if (kept > 0) {
        await appendFile(session.path, fresh.subarray(0, kept))
        session.stored += kept
      }
    }
    if (session.state === 'open' && total !== '*' && session.stored === Number(total)) {
      return await make(incoming, outgoing, session)
    }
    if (session.state === 'open') {
      const headers = session.stored > 0 ? { range: `bytes=0-${session.stored - 1}` } : {}
      // Clients whose HTTP library takes 308 for a redirect ask for another status.
      const other = incoming.headers['x-guploader-no-308'] === 'yes'
      const override = other ? { 'x-http-status-code-override': '308' } : {}
      return void outgoing
        .writeHead(other ? 200 : 308, { ...headers, ...override, 'content-length': '0' })
        .end()
    }
    outgoing.writeHead(200, { 'content-type': 'application/json' }).end(session.state.made)
  }

  const refuse = (outgoing: ServerResponse, words: string): void => {
    outgoing.writeHead(400, { 'content-length': String(Buffer.byteLength(words)) }).end(words)
  }

  const make = async (incoming: IncomingMessage, outgoing: ServerResponse, session: Session) => {
    const data = await readFile(session.path)
    const wanted = /md5=([A-Za-z0-9+/=]+)/.exec(String(incoming.headers['x-goog-hash'] ?? ''))?.[1]
    if (wanted !== undefined && createHash('md5').update(data).digest('base64') !== wanted) {
      session.state = 'cancelled'
      return refuse(outgoing, 'Provided MD5 hash does not match.')
    }
    const boundary = randomBytes(12).toString('hex')
    const answer = await fetch(
      `${behind}/upload/storage/v1/b/${session.bucket}/o?uploadType=multipart&${session.preconditions}`,
      {
        method: 'POST',
        headers: { 'content-type': `multipart/related; boundary=${boundary}` },
        body: Buffer.concat([
          Buffer.from(
            `--${boundary}\r\ncontent-type: application/json\r\n\r\n${JSON.stringify(session.resource)}\r\n--${boundary}\r\ncontent-type: application/octet-stream\r\n\r\n`,
          ),
          data,
          Buffer.from(`\r\n--${boundary}--\r\n`),
        ]),
      },
    )
    const said = await answer.text()
    if (answer.ok) {
      session.state = { made: said }
      await truncate(session.path)
    }
    outgoing.writeHead(answer.status, { 'content-type': 'application/json' }).end(said)
  }

  const passOn = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { method = 'GET', url = '/', headers } = incoming
    const { hostname, port } = new URL(behind)
    const onward = request({ hostname, port, method, path: url, headers }, answer => {
      outgoing.writeHead(answer.statusCode ?? 500, answer.rawHeaders)
      answer.pipe(outgoing)
      answer.once('error', () => outgoing.destroy())
    })
    onward.once('error', () => outgoing.destroy())
    outgoing.once('close', () => onward.destroy())
    incoming.pipe(onward)
  }

  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const url = new URL(incoming.url ?? '/', 'http://front')
    const bucket = /^\/upload\/storage\/v1\/b\/([^/]+)\/o$/.exec(url.pathname)?.[1]
    const id = url.searchParams.get('upload_id')
    if (bucket === undefined || url.searchParams.get('uploadType') !== 'resumable') {
      return passOn(incoming, outgoing)
    }
    if (id === null) return await begin(incoming, outgoing, url, bucket)
    const session = sessions.get(id)
    if (session === undefined) return void outgoing.writeHead(404).end()
    if (incoming.method !== 'DELETE') return await goOn(incoming, outgoing, session)
    if (session.state === 'open') session.state = 'cancelled'
    outgoing.writeHead(499).end()
  }

  const server = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => outgoing.destroy())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no address')
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    open: () => [...sessions.values()].filter(one => one.state === 'open').map(one => one.resource.name),
    received,
    async close() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

/** Also of a connection that is cut. */
async function whatArrives(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of incoming) chunks.push(chunk as Buffer)
  } catch {
    // What came is kept.
  }
  return Buffer.concat(chunks)
}
