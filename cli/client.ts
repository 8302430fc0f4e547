/** The HTTP client of the CLI: one place that knows about tokens, problems and lost answers. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { z } from 'zod'
import { HoldfastError, isErrorCode } from '../model/errors.ts'
import { problem } from '../model/schemas.ts'
import type { Settings } from '../model/settings.ts'

export interface Client {
  readonly url: string
  /** `query` values that are undefined are left out. */
  get<T>(schema: z.ZodType<T>, path: string, query?: Record<string, string | undefined>): Promise<T>
  /** Carries an Idempotency-Key, so that it can be sent again when the answer is lost. */
  post<T>(schema: z.ZodType<T>, path: string, body?: unknown): Promise<T>
  remove(path: string): Promise<void>
}

export function createClient(settings: Pick<Settings, 'url' | 'token' | 'tokenFile'>): Client {
  const base = settings.url.replace(/\/+$/, '')

  const send = async (method: string, path: string, body: unknown): Promise<unknown> => {
    const token = settings.token ?? tokenIn(settings.tokenFile)
    const request: RequestInit = {
      method,
      headers: {
        accept: 'application/json',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
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
        const reason = cause instanceof Error ? cause.message || code : String(cause)
        throw new HoldfastError('api.unreachable', `The API at ${base} does not answer: ${reason || code}.`, {
          cause,
        })
      }
    }
    const value = parseJson(text)
    if (answer.ok) return value
    const told = problem.safeParse(value)
    if (!told.success) {
      throw new HoldfastError(
        'internal',
        `${method} ${path} was answered with ${answer.status} by ${base}.`,
        {
          hint: 'Is this the address of a Holdfast API? See HOLDFAST_URL.',
        },
      )
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
    remove: async path => {
      await send('DELETE', path, undefined)
    },
  }
}

function tokenIn(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
