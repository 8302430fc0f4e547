/**
 * An HTTP proxy that tests put before a real server (object store, API) to stop the world at an exact instant: before a
 * request reaches the server, or after the server has acted on it and before its answer comes back. Passes bytes and
 * headers through as they are, `Host` too, so that request signatures stay valid.
 */
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'

export interface Held {
  /** Resolves when a matching request has arrived (`before`) or has been answered by the server (`after`). */
  reached: Promise<void>
  /** Lets the held request go on. Without effect when its client is gone. */
  release(): void
  /** Cuts the client off without an answer. */
  cut(): void
}

/**
 * `before`: the request has arrived and the server has not seen it. `after`: the server has answered, the client does not
 * know. `midway`: the server answers, and the client has got the first megabyte of the answer. `late`: the whole request is here, and reaches the server on release although its client may be long gone.
 */
export type Moment = 'before' | 'after' | 'midway' | 'late'

interface Rule {
  matches: (method: string, url: string) => boolean
  moment: Moment
  arrived: () => void
  verdict: Promise<'go' | 'cut'>
}

export interface Interceptor {
  url: string
  /** Holds the next request that matches, once. */
  hold(moment: Moment, matches: (method: string, url: string) => boolean): Held
  /** Answers the next `times` matching requests itself, with this status and body. */
  answer(matches: (method: string, url: string) => boolean, status: number, body: string, times: number): void
  /** Every request line seen so far: "PUT /bucket/key?x". */
  seen: string[]
  /** Status codes that the server gave to `late` requests. */
  lateAnswers: number[]
  close(): Promise<void>
}

export async function startInterceptor(target: string): Promise<Interceptor> {
  const upstream = new URL(target)
  const agent = new Agent({ keepAlive: true })
  const rules: Rule[] = []
  const answers: { matches: Rule['matches']; status: number; body: string; times: number }[] = []
  const seen: string[] = []
  const lateAnswers: number[] = []

  const take = (moment: Moment, method: string, url: string): Rule | undefined => {
    const index = rules.findIndex(rule => rule.moment === moment && rule.matches(method, url))
    return index === -1 ? undefined : rules.splice(index, 1)[0]
  }

  const pass = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const method = incoming.method ?? 'GET'
    const url = incoming.url ?? '/'
    seen.push(`${method} ${url}`)
    const canned = answers.find(one => one.times > 0 && one.matches(method, url))
    if (canned) {
      canned.times -= 1
      incoming.resume()
      outgoing.writeHead(canned.status, { 'content-type': 'application/xml', connection: 'close' })
      outgoing.end(canned.body)
      return
    }
    const before = take('before', method, url)
    if (before) {
      before.arrived()
      if ((await before.verdict) === 'cut' || outgoing.destroyed) {
        incoming.socket.destroy()
        return
      }
    }
    const late = take('late', method, url)
    if (late) {
      const body = await buffer(incoming)
      late.arrived()
      if ((await late.verdict) === 'cut') {
        incoming.socket.destroy()
        return
      }
      const sent = request(
        { host: upstream.hostname, port: upstream.port, method, path: url, headers: incoming.headers, agent },
        answer => {
          lateAnswers.push(answer.statusCode ?? 0)
          answer.resume()
          outgoing.writeHead(answer.statusCode ?? 502)
          outgoing.end()
        },
      )
      sent.end(body)
      return
    }
    const after = take('after', method, url)
    const midway = take('midway', method, url)
    const forwarded = request(
      { host: upstream.hostname, port: upstream.port, method, path: url, headers: incoming.headers, agent },
      async answer => {
        if (after) {
          after.arrived()
          if ((await after.verdict) === 'cut') {
            answer.destroy()
            incoming.socket.destroy()
            return
          }
        }
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
        if (midway) await passUntil(answer, outgoing, 1_000_000, midway)
        answer.pipe(outgoing)
        answer.on('error', () => outgoing.destroy())
      },
    )
    forwarded.on('error', () => incoming.socket.destroy())
    // A client that died in the middle of its request: the server must see the same.
    incoming.on('error', () => forwarded.destroy())
    outgoing.on('close', () => {
      if (!outgoing.writableFinished && !after && !midway) forwarded.destroy()
    })
    incoming.pipe(forwarded)
  }

  const server = createServer((incoming, outgoing) => void pass(incoming, outgoing))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    lateAnswers,
    hold(moment, matches) {
      const arrival = Promise.withResolvers<void>()
      const verdict = Promise.withResolvers<'go' | 'cut'>()
      rules.push({ matches, moment, arrived: arrival.resolve, verdict: verdict.promise })
      return {
        reached: arrival.promise,
        release: () => verdict.resolve('go'),
        cut: () => verdict.resolve('cut'),
      }
    },
    answer(matches, status, body, times) {
      answers.push({ matches, status, body, times })
    },
    async close() {
      agent.destroy()
      server.closeAllConnections()
      await new Promise<void>(resolve => server.close(() => resolve()))
    },
  }
}

/** Passes the first bytes on, then waits for the verdict. */
async function passUntil(
  answer: IncomingMessage,
  outgoing: ServerResponse,
  bytes: number,
  rule: Rule,
): Promise<void> {
  let passed = 0
  await new Promise<void>(resolve => {
    const onData = (chunk: Buffer) => {
      passed += chunk.length
      outgoing.write(chunk)
      if (passed < bytes) return
      answer.pause()
      answer.off('data', onData)
      resolve()
    }
    answer.on('data', onData)
    answer.once('end', resolve)
  })
  rule.arrived()
  if ((await rule.verdict) === 'cut') outgoing.destroy()
}
