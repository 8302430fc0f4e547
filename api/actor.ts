/** Who asks: a token in the header, or a session in a cookie. */
import type { Context, MiddlewareHandler } from 'hono'
import { deleteCookie, getCookie, setCookie } from 'hono/cookie'
import { actorOfSession, csrfTokenIsRight, sessionSeconds, sessionStands } from '../catalog/sessions.ts'
import { actorOfToken, tokenStands, workerOfToken } from '../catalog/tokens.ts'
import { HoldfastError } from '../model/errors.ts'
import type { Actor } from '../model/records.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { assertSameOrigin } from './origin.ts'

/** A token counts wherever it is given; a cookie only without one. Browsers send cookies by themselves, so changes need more. */
export const withActor =
  (context: ApiContext, isOpen: (c: Context<ApiEnv>) => boolean): MiddlewareHandler<ApiEnv> =>
  async (c, next) => {
    if (!isOpen(c)) await recognise(context, c)
    await next()
  }

async function recognise({ catalog }: ApiContext, c: Context<ApiEnv>) {
  if (c.req.header('authorization') !== undefined) {
    const token = bearerOf(c)
    const actor = token === undefined ? undefined : await actorOfToken(catalog, token, c.get('address'))
    if (!actor) throw unauthenticated(c, 'needs a valid token')
    c.set('actor', actor)
    return
  }
  const secret = sessionSecretOf(c)
  if (secret === undefined) throw unauthenticated(c, 'needs a valid token')
  const actor = await actorOfSession(catalog, secret, c.get('address'))
  if (!actor) throw unauthenticated(c, 'came with a session that is over')
  // Also when it is refused: whose browser was used for it is worth knowing.
  c.set('actor', actor)
  if (c.req.method === 'GET' || c.req.method === 'HEAD') return
  assertSameOrigin(c)
  if (csrfTokenIsRight(secret, c.req.header('x-csrf-token') ?? '')) return
  throw new HoldfastError(
    'request.forbidden',
    `${c.req.method} ${c.req.path} came with a cookie and without the X-CSRF-Token of its session.`,
    { hint: 'GET /v1/me says the token of the session.' },
  )
}

/** For answers that take long: a token that was revoked, or a session that was ended, sees no more of them. */
export const stillHere = ({ catalog }: ApiContext, { via, credentialId }: Actor): Promise<boolean> =>
  via === 'token' ? tokenStands(catalog, credentialId) : sessionStands(catalog, credentialId)

export const withWorkerToken =
  ({ catalog }: ApiContext): MiddlewareHandler<ApiEnv> =>
  async (c, next) => {
    const token = bearerOf(c)
    const worker = token === undefined ? undefined : await workerOfToken(catalog, token)
    if (!worker) throw unauthenticated(c, 'needs a valid token')
    c.set('workerHost', worker.host)
    await next()
  }

const bearerOf = (c: Context): string | undefined =>
  /^Bearer ([\x21-\x7e]{1,512})$/i.exec(c.req.header('authorization') ?? '')?.[1]

const unauthenticated = (c: Context, why: string) =>
  new HoldfastError('request.unauthenticated', `${c.req.method} ${c.req.path} ${why}.`)

/** Over TLS the name itself makes browsers keep it from other hosts and from plain connections. */
const cookieName = (c: Context<ApiEnv>): string =>
  c.get('secure') ? '__Host-holdfast_session' : 'holdfast_session'

export const sessionSecretOf = (c: Context<ApiEnv>): string | undefined => getCookie(c, cookieName(c))

export const setSessionCookie = (c: Context<ApiEnv>, secret: string): void =>
  setCookie(c, cookieName(c), secret, {
    path: '/',
    httpOnly: true,
    sameSite: 'Strict',
    secure: c.get('secure'),
    maxAge: sessionSeconds,
  })

export const clearSessionCookie = (c: Context<ApiEnv>): void =>
  void deleteCookie(c, cookieName(c), { path: '/', secure: c.get('secure') })
