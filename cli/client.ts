/** The HTTP client of the CLI: one place that knows about tokens, problems and lost answers. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { z } from 'zod'
import { HoldfastError, isErrorCode } from '../model/errors.ts'
import { page, problem } from '../model/views.ts'

export interface Client {
  readonly url: string
  /** `query` values that are undefined are left out. */
  get<T>(schema: z.ZodType<T>, path: string, query?: Record<string, string | undefined>): Promise<T>
  /** Carries an Idempotency-Key, so that it can be sent again when the answer is lost. */
  post<T>(schema: z.ZodType<T>, path: string, body?: unknown): Promise<T>
  patch<T>(schema: z.ZodType<T>, path: string, body: unknown): Promise<T>
  /** Of what is answered with nothing. */
  put(path: string, body: unknown): Promise<void>
  remove(path: string): Promise<void>
}

/** Every item of a list, page after page. */
export async function allOf<T>(
  client: Client,
  item: z.ZodType<T>,
  path: string,
  query: Record<string, string | undefined> = {},
): Promise<T[]> {
  const items: T[] = []
  for (let cursor: string | undefined; ; ) {
    const found = await client.get(page(item), path, { ...query, limit: '200', cursor })
    items.push(...found.items)
    if (found.nextCursor === null) return items
    cursor = found.nextCursor
  }
}

/** `readToken` is asked before each request: the token's file may be younger than this client. */
export function createClient(url: string, readToken: () => string | undefined): Client {
  const base = url.replace(/\/+$/, '')

  const send = async (method: string, path: string, body: unknown): Promise<unknown> => {
    const token = readToken()
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
    return (await exchange(base, method, path, headers, body)).value
  }

  const read = async <T>(schema: z.ZodType<T>, method: string, path: string, body?: unknown): Promise<T> => {
    const parsed = schema.safeParse(await send(method, path, body))
    if (parsed.success) return parsed.data
    throw new HoldfastError('internal', `The API at ${base} answered ${method} ${path} with another shape.`, {
      hint: 'CLI and API are probably of different versions.',
      cause: parsed.error,
    })
  }

  return {
    url: base,
    get: (schema, path, query = {}) => {
      const params = new URLSearchParams()
      for (const [name, value] of Object.entries(query)) if (value !== undefined) params.set(name, value)
      return read(schema, 'GET', params.size === 0 ? path : `${path}?${params}`)
    },
    post: (schema, path, body) => read(schema, 'POST', path, body ?? {}),
    patch: (schema, path, body) => read(schema, 'PATCH', path, body),
    put: async (path, body) => {
      await send('PUT', path, body)
    },
    remove: async path => {
      await send('DELETE', path, undefined)
    },
  }
}

/** One request and its answer; refusals are thrown with the code that the API gave them. */
export async function exchange(
  base: string,
  method: string,
  path: string,
  headers: Record<string, string>,
  body: unknown,
): Promise<{ value: unknown; headers: Headers }> {
  const request: RequestInit = {
    method,
    headers: {
      accept: 'application/json',
      ...headers,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(method === 'POST' ? { 'idempotency-key': randomUUID() } : {}),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  }
  let answer: Response
  let text: string
  for (let again = 0; ; again++) {
    try {
      answer = await fetch(`${base}${path}`, { ...request, signal: AbortSignal.timeout(120_000) })
      text = await answer.text()
      break
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
      // Connected and cut off: the API may have been restarted under us; the key makes asking again safe.
      if (again < 3 && ['ECONNRESET', 'UND_ERR_SOCKET', 'EPIPE'].includes(code)) {
        await new Promise(resolve => setTimeout(resolve, 300))
        continue
      }
      const reason = (cause instanceof Error ? cause.message : String(cause)) || code
      throw new HoldfastError('api.unreachable', `The API at ${base} does not answer: ${reason}.`, {
        cause,
        ...(isCertificateTrouble(code) ? { hint: certificateHint } : {}),
      })
    }
  }
  const value = parseJson(text)
  if (answer.ok) return { value, headers: answer.headers }
  const told = problem.safeParse(value)
  if (!told.success) {
    throw new HoldfastError('internal', `${method} ${path} was answered with ${answer.status} by ${base}.`, {
      hint: 'Is this the address of a Holdfast API? See HOLDFAST_URL.',
    })
  }
  const { code, detail, hint, errors } = told.data
  const fields = (errors ?? []).map(item => `${item.path || 'body'}: ${item.message}`).join('; ')
  throw new HoldfastError(
    isErrorCode(code) ? code : 'internal',
    fields === '' ? detail : `${detail} (${fields})`,
    {
      hint,
    },
  )
}

/** undefined when it is not there (yet). */
export function tokenIn(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}

/** OpenSSL's and Node's names for a certificate that is not believed. */
const isCertificateTrouble = (code: string): boolean =>
  /^(SELF_SIGNED_CERT|DEPTH_ZERO_SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|CERT_|ERR_TLS_CERT)/.test(code)
const certificateHint =
  'Its certificate is not trusted here: name the certificates of its authority with --ca FILE, HOLDFAST_CA or in the profile.'

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
