/** Logins of people: a session in a cookie, for a console; programs use tokens. */
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import {
  createSession,
  csrfTokenOf,
  endSession,
  listSessions,
  sessionIdleSeconds,
} from '../../catalog/sessions.ts'
import { checkPassword, findUser } from '../../catalog/users.ts'
import { loginInput, sessionMade, sessionView } from '../../model/access.ts'
import { HoldfastError } from '../../model/errors.ts'
import { page } from '../../model/views.ts'
import { clearSessionCookie, setSessionCookie } from '../actor.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { assertSameOrigin } from '../origin.ts'
import { openToEverybody, requires } from '../roles.ts'
import { body, json, pageByKey, pageQuery, problems } from './answers.ts'
import { ownOnly } from './tokens.ts'

const tags = ['sessions']

const login = createRoute({
  method: 'post',
  path: '/v1/sessions',
  tags,
  ...openToEverybody,
  summary: 'Log in: a session in a cookie',
  description: 'Wrong passwords are counted; after some there is a growing pause (429, Retry-After).',
  request: { body: body(loginInput) },
  responses: { 201: json(sessionMade, 'Logged in'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/sessions',
  tags,
  ...requires('viewer'),
  summary: 'Sessions: all of them for admins, else those of oneself',
  request: { query: z.strictObject(pageQuery) },
  responses: { 200: json(page(sessionView), 'By id'), ...problems },
})
const end = createRoute({
  method: 'delete',
  path: '/v1/sessions/{id}',
  tags,
  ...requires('viewer'),
  summary: 'End a session: `current` is a logout; those of others as admin',
  request: {
    params: z.object({ id: z.string().regex(/^(current|ses-[A-Za-z0-9]{4,40})$/, 'not a session id') }),
  },
  responses: { 204: { description: 'Ended' }, ...problems },
})

export function sessionRoutes(app: OpenAPIHono<ApiEnv>, { catalog }: ApiContext): void {
  app.openapi(login, async c => {
    // A page of another site must not be able to log somebody in as somebody else.
    assertSameOrigin(c)
    const { user: name, password } = c.req.valid('json')
    const user = await findUser(catalog, name)
    // A name that nobody has is not written down: it may be a password in the wrong field.
    c.set('auditDetail', user ? { user: user.name } : {})
    const address = c.get('address')
    if (!(await checkPassword(catalog, name, password, address)) || !user) {
      throw new HoldfastError('request.password', 'User or password is not right.')
    }
    const agent = (c.req.header('user-agent') ?? '').replace(/\p{Cc}/gu, '?').slice(0, 200)
    const { session, secret } = await createSession(catalog, { user: user.name, address, agent })
    const { id, expiresAt } = session
    const { role } = user
    c.set('actor', {
      name: user.name,
      user: user.name,
      via: 'session',
      credentialId: id,
      role,
      scopes: null,
      connections: null,
      expiresAt,
      address,
    })
    setSessionCookie(c, secret)
    const csrfToken = csrfTokenOf(secret)
    return c.json({ id, user: user.name, role, csrfToken, expiresAt, idleSeconds: sessionIdleSeconds }, 201)
  })
  app.openapi(list, async c => {
    const actor = c.get('actor')
    const all = await listSessions(catalog, ownOnly(actor))
    return c.json(
      pageByKey(
        all,
        c.req.valid('query'),
        session => session.id,
        session => ({ ...session, current: session.id === actor.credentialId }),
      ),
      200,
    )
  })
  app.openapi(end, async c => {
    const actor = c.get('actor')
    const { id } = c.req.valid('param')
    const chosen = id === 'current' ? actor.credentialId : id
    await endSession(catalog, chosen, ownOnly(actor))
    if (chosen === actor.credentialId) clearSessionCookie(c)
    return c.body(null, 204)
  })
}
