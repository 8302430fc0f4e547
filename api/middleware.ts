/** What every request passes: headers, log line, size, token, well-formed JSON, Idempotency-Key. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context, MiddlewareHandler, Next } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { forgetRequest, keepAnswer, takeRequest } from '../catalog/idempotency.ts'
import type { Catalog } from '../catalog/open.ts'
import { HoldfastError } from '../model/errors.ts'
import type { Actor } from '../model/records.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { HttpRefusal, InvalidRequest } from './problem.ts'
import { parseStrictJson } from './strict-json.ts'

const headers = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
}
/** Of answers over TLS: from now on a browser comes by TLS only. */
const strictTransport = 'max-age=31536000'

/** Security headers on every answer, and one line in the log. The query is left out: people put tokens there. */
export const withHeadersAndLog =
  ({ log }: ApiContext): MiddlewareHandler<ApiEnv> =>
  async (c, next) => {
    const began = performance.now()
    c.set('requestKey', null)
    c.set('secretAnswer', false)
    await next()
    for (const [name, value] of Object.entries(headers)) {
      // A page of ours says itself what it may load.
      if (!(name === 'content-security-policy' && c.res.headers.has(name))) c.res.headers.set(name, value)
    }
    if (c.get('secure')) c.res.headers.set('strict-transport-security', strictTransport)
    const quiet = c.req.path.startsWith('/internal/') || c.req.path.endsWith('z')
    log[quiet ? 'debug' : 'info']('request', {
      method: c.req.method,
      path: c.req.path.slice(0, 200),
      status: c.res.status,
      ms: Math.round(performance.now() - began),
    })
  }

export const withBodyLimit = (bytes: number): MiddlewareHandler<ApiEnv> =>
  bodyLimit({
    maxSize: bytes,
    onError: () => {
      throw new HoldfastError('request.too-large', `The body is larger than ${bytes} bytes.`)
    },
  })

/** A body must be one JSON object, said to be JSON; none at all counts as an empty object. */
export const withJson: MiddlewareHandler<ApiEnv> = async (c, next) => {
  if (['POST', 'PUT', 'PATCH'].includes(c.req.method)) {
    const text = await c.req.text()
    const type = (c.req.header('content-type') ?? '').split(';')[0]?.trim().toLowerCase()
    if (text !== '') {
      if (type !== 'application/json') throw new HttpRefusal(415, 'The body must be application/json.')
      const value = parseStrictJson(text)
      if (value === null || typeof value !== 'object' || Array.isArray(value)) {
        throw new InvalidRequest([{ path: '', message: 'the body must be a JSON object' }])
      }
    }
  }
  await next()
}

const waitMs = 30_000
const askMs = 200

/** Waits for another process that is at this very request; when it dies, the request is ours. */
async function takenUp(catalog: Catalog, request: Parameters<typeof takeRequest>[1]) {
  const until = Date.now() + waitMs
  for (;;) {
    const taken = await takeRequest(catalog, request)
    if (taken.state !== 'elsewhere') return taken
    if (Date.now() > until) {
      throw new HoldfastError('request.under-way', 'Another API process is still at this very request.')
    }
    await sleep(askMs)
  }
}

/**
 * The same key with the same request gets the same answer, also when both come at once or when the first one's process
 * died half-way. Only successes are kept: a refusal had no effect, so its key may be used again.
 */
export function withIdempotency(context: ApiContext): MiddlewareHandler<ApiEnv> {
  const { catalog } = context
  const underWay = new Map<string, Promise<void>>()

  const answer = async (c: Context<ApiEnv>, next: Next, key: string) => {
    const request = JSON.stringify([c.req.method, c.req.path, await c.req.text()])
    const taken = await takenUp(catalog, {
      key,
      hash: catalog.box.fingerprint(request),
      process: context.process,
    })
    if (taken.state === 'mismatch') {
      throw new HoldfastError(
        'request.idempotency-mismatch',
        'The Idempotency-Key came with another request before.',
      )
    }
    if (taken.state === 'answered') {
      const { status, body } = taken.answer
      return new Response(body === '' ? null : body, {
        status,
        headers: { 'content-type': 'application/json', 'idempotency-replayed': 'true' },
      })
    }
    c.set('requestKey', taken.requestKey)
    await next()
    if (c.res.status < 300 && !c.get('secretAnswer')) {
      await keepAnswer(catalog, key, { status: c.res.status, body: await c.res.clone().text() })
    } else await forgetRequest(catalog, key)
  }

  return async (c, next) => {
    const given = c.req.header('idempotency-key')
    if (c.req.method !== 'POST' || given === undefined) return await next()
    if (!/^[\x21-\x7e]{1,200}$/.test(given)) {
      throw new InvalidRequest([
        { path: 'Idempotency-Key', message: 'use 1 to 200 visible ASCII characters' },
      ])
    }
    // Two people may use the same key: neither gets the other's answer.
    const actor: Actor | undefined = c.get('actor')
    if (!actor) return await next()
    // Nor does a token that may see less get the answer to one that may see more.
    const who = actor.connections === null ? actor.name : `${actor.name} by ${actor.credentialId}`
    const key = `${who} ${given}`
    for (let other = underWay.get(key); other; other = underWay.get(key)) await other
    const { promise, resolve } = Promise.withResolvers<void>()
    underWay.set(key, promise)
    try {
      return await answer(c, next, key)
    } finally {
      underWay.delete(key)
      resolve()
    }
  }
}
