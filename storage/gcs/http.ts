/**
 * One request and its answer. By Node's own client: `fetch` copies what is sent twice, and gives what comes by way of a web
 * stream.
 */
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import type { Readable } from 'node:stream'
import { buffer, json, text } from 'node:stream/consumers'

export interface Question {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  headers: Record<string, string>
  body: Uint8Array | undefined
  signal: AbortSignal
}

export interface Answer {
  status: number
  ok: boolean
  /** The first of that name. */
  header(name: string): string | undefined
  /** To be read by one of the following, or destroyed: its connection waits for it. */
  body: Readable
  text(): Promise<string>
  json(): Promise<unknown>
  bytes(): Promise<Uint8Array>
}

/** Redirects are not followed. Throws errors of the network, and the signal's reason. */
export async function askGoogle(url: URL, { method, headers, body, signal }: Question): Promise<Answer> {
  const client = url.protocol === 'https:' ? https : http
  const came = await new Promise<IncomingMessage>((resolve, reject) => {
    const length = body === undefined ? {} : { 'content-length': String(body.length) }
    const request = client.request(url, { method, headers: { ...headers, ...length }, signal })
    request.on('response', resolve)
    request.on('error', reject)
    request.end(body)
  })
  // It may break before anybody reads it, or after everybody did.
  came.on('error', () => {})
  const status = came.statusCode ?? 0
  return {
    status,
    ok: status >= 200 && status < 300,
    header: name => [came.headers[name] ?? []].flat()[0],
    body: came,
    text: () => text(came),
    json: () => json(came),
    bytes: () => buffer(came),
  }
}
