/**
 * One request and its answer. By undici's own interface: `fetch`, which stands on it, copies what is sent twice and gives
 * what comes by way of a web stream.
 */
import type { Readable } from 'node:stream'
import { request } from 'undici'

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

/** Redirects are not followed. Throws undici's errors and the signal's reason. */
export async function askGoogle(url: URL, { method, headers, body, signal }: Question): Promise<Answer> {
  const {
    statusCode,
    headers: got,
    body: came,
  } = await request(url, {
    method,
    headers,
    body: body ?? null,
    signal,
  })
  // It may break before anybody reads it, or after everybody did.
  came.on('error', () => {})
  return {
    status: statusCode,
    ok: statusCode >= 200 && statusCode < 300,
    header: name => [got[name] ?? []].flat()[0],
    body: came,
    text: () => came.text(),
    json: () => came.json(),
    bytes: () => came.bytes(),
  }
}
