import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { listConnections } from '../../catalog/connections.ts'
import { createToken, listTokens, removeToken, type TokenInput } from '../../catalog/tokens.ts'
import { readUser } from '../../catalog/users.ts'
import { tokenInput, tokenMade, tokenView } from '../../model/access.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { Actor } from '../../model/records.ts'
import { roleIncludes } from '../../model/types.ts'
import { page } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { InvalidRequest } from '../problem.ts'
import { assertRole, requires } from '../roles.ts'
import { body, cursorOf, json, pageOf, pageQuery, problems } from './answers.ts'

const tags = ['tokens']

const add = createRoute({
  method: 'post',
  path: '/v1/tokens',
  tags,
  ...requires('viewer'),
  summary: 'Make a token; this answer is the only one that shows it',
  description: 'It may never do more, nor live longer, than the token or user that makes it.',
  request: { body: body(tokenInput) },
  responses: { 201: json(tokenMade, 'Made'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/tokens',
  tags,
  ...requires('viewer'),
  summary: 'Tokens: all of them for admins, else those of oneself',
  request: { query: z.strictObject(pageQuery) },
  responses: { 200: json(page(tokenView), 'By id'), ...problems },
})
const revoke = createRoute({
  method: 'delete',
  path: '/v1/tokens/{id}',
  tags,
  ...requires('viewer'),
  summary: 'Revoke a token, at once; those of others as admin',
  request: { params: z.object({ id: z.string().regex(/^tok-[A-Za-z0-9]{4,40}$/, 'not a token id') }) },
  responses: { 204: { description: 'Revoked' }, ...problems },
})

export function tokenRoutes(app: OpenAPIHono<ApiEnv>, { catalog }: ApiContext): void {
  app.openapi(add, async c => {
    const actor = c.get('actor')
    const {
      name,
      role = actor.role,
      scopes = null,
      connections = null,
      expiresAt = null,
      user = actor.user,
    } = c.req.valid('json')
    const input = { name, role, scopes, connections, expiresAt: utc(expiresAt), user }
    assertNoMore(actor, input)
    if (user !== null) {
      const owner = await readUser(catalog, user)
      if (!roleIncludes(owner.role, role)) {
        throw new InvalidRequest([{ path: 'role', message: `${user} has the role ${owner.role}` }])
      }
    }
    const known = new Set((await listConnections(catalog)).map(one => one.name))
    const unknown = (connections ?? []).flatMap((one, index) =>
      known.has(one)
        ? []
        : [{ path: `connections.${index}`, message: `there is no connection named ${one}` }],
    )
    if (unknown.length > 0) throw new InvalidRequest(unknown)
    c.set('secretAnswer', true)
    const { record, token } = await createToken(catalog, input)
    return c.json({ ...record, token }, 201)
  })
  app.openapi(list, async c => {
    const { cursor, limit = 50 } = c.req.valid('query')
    const whose = ownOnly(c.get('actor'))
    const filter = whose === undefined ? {} : { user: whose }
    const found = await listTokens(catalog, filter, cursor?.id ?? '', limit + 1)
    return c.json(
      pageOf(
        found,
        limit,
        last => cursorOf('', last.id),
        token => token,
      ),
      200,
    )
  })
  app.openapi(revoke, async c => {
    await removeToken(catalog, c.req.valid('param').id, ownOnly(c.get('actor')))
    return c.body(null, 204)
  })
}

/** undefined for admins: everybody's. A token that is nobody's has none of its own. */
export const ownOnly = ({ role, user }: Actor): string | undefined =>
  roleIncludes(role, 'admin') ? undefined : (user ?? '')

/** A stolen token must not be able to make one that does more, or that outlives it. */
function assertNoMore(actor: Actor, { role, user, expiresAt }: TokenInput): void {
  if (actor.scopes !== null) {
    throw new HoldfastError('request.forbidden', 'A token that is limited to scopes makes no other tokens.')
  }
  if (user !== actor.user || user === null) assertRole(actor, 'admin', 'Making a token for another')
  assertRole(actor, role, `Making a token with the role ${role}`)
  if (expiresAt !== null && Date.parse(expiresAt) <= Date.now()) {
    throw new InvalidRequest([{ path: 'expiresAt', message: 'is in the past' }])
  }
  if (actor.via !== 'token' || actor.expiresAt === null) return
  if (expiresAt !== null && expiresAt <= actor.expiresAt) return
  throw new InvalidRequest([
    { path: 'expiresAt', message: `this token itself ends ${actor.expiresAt}: no later` },
  ])
}

const utc = (time: string | null): string | null => (time === null ? null : new Date(time).toISOString())
