/**
 * Which role a route needs. It is part of the route's definition, so that `/openapi.json` says it too, and is asked before
 * anything else of the request is looked at. A route that does not say is a mistake: `createApp` refuses it.
 */
import { type OpenAPIHono, z } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import { matchedRoutes } from 'hono/route'
import { HoldfastError } from '../model/errors.ts'
import type { Actor } from '../model/records.ts'
import { type Role, roleIncludes, roles } from '../model/types.ts'
import type { ApiEnv } from './context.ts'

/**
 * What a token that is limited to connections reaches by a route: what the path names; `checked`: the route itself chooses
 * what it shows and does; `nothing`: it shows nothing of any connection.
 */
const reaches = ['connection', 'operation', 'backup', 'schedule', 'checked', 'nothing'] as const
export type Reach = (typeof reaches)[number]

/** Spread into a route's definition: reading needs `viewer`, changes at least `operator`; see reach.ts. */
export const requires = (role: Role, reach?: Reach) => ({
  'x-role': role,
  ...(reach === undefined ? {} : { 'x-reach': reach }),
})

/** For the few routes that nobody can have a credential for yet. */
export const openToEverybody = { 'x-role': 'none', security: [] }

/** Throws `request.forbidden`. For what depends on more than the route. */
export function assertRole(actor: Actor, needed: Role, what: string): void {
  if (roleIncludes(actor.role, needed)) return
  throw new HoldfastError(
    'request.forbidden',
    `${what} needs the role ${needed}; ${actor.name} has ${actor.role}.`,
    { hint: `Ask somebody with the role ${needed}, or use their token.` },
  )
}

/** What stands for a route in audit rows and tables: `POST /v1/backups/{id}/verify`. */
export type RouteName = string

export interface Needed {
  role: Role | 'none'
  /** What a token's scopes are about, e.g. `backups`. */
  subject: string
  /** What a token that is limited to connections reaches by it; undefined: it is refused. */
  reach: Reach | undefined
  /** What its body must be. */
  body: z.ZodType | undefined
}

const nameOf = (method: string, path: string): RouteName => `${method.toUpperCase()} ${path}`

/** The described route that answers this request; undefined when there is none. */
export function routeOf(c: Context<ApiEnv>): RouteName | undefined {
  const method = c.req.method === 'HEAD' ? 'GET' : c.req.method
  const match = matchedRoutes(c).find(route => route.method === method)
  return match && nameOf(method, match.path.replace(/:([A-Za-z]+)/g, '{$1}'))
}

/** Asks for the role, and for the scope of a token that is limited. Reading is allowed by a scope to write, too. */
export function withRole(needed: () => ReadonlyMap<RouteName, Needed>): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const route = routeOf(c)
    // Nothing is there: said by whoever says so to everybody.
    if (route === undefined) return await next()
    const needs = needed().get(route)
    if (!needs) throw new Error(`${route} is not described`)
    if (needs.role === 'none') return await next()
    const actor = c.get('actor')
    assertRole(actor, needs.role, route)
    const { scopes } = actor
    const act = route.startsWith('GET ') ? 'read' : 'write'
    const allowed = act === 'read' ? ['read', `${needs.subject}:read`] : []
    allowed.push(`${needs.subject}:write`)
    if (scopes === null || scopes.some(scope => allowed.includes(scope))) return await next()
    throw new HoldfastError(
      'request.forbidden',
      `${route} needs the scope ${needs.subject}:${act}; this token has: ${scopes.join(', ') || 'none'}.`,
      { hint: 'Use a token with the needed scope.' },
    )
  }
}

/** What each described route below /v1 needs. Throws for one that does not say. */
export function neededRoles(app: OpenAPIHono<ApiEnv>): Map<RouteName, Needed> {
  const needed = new Map<RouteName, Needed>()
  for (const definition of app.openAPIRegistry.definitions) {
    if (definition.type !== 'route' || !definition.route.path.startsWith('/v1/')) continue
    const { method, path, tags } = definition.route
    const role: unknown = definition.route['x-role']
    const known = ([...roles, 'none'] as const).find(one => one === role)
    const [subject, ...more] = tags ?? []
    if (!known) throw new Error(`${nameOf(method, path)} does not say who may ask: add ...requires(ROLE)`)
    if (subject === undefined || more.length > 0) throw new Error(`${nameOf(method, path)} needs one tag`)
    const reach = reaches.find(one => one === definition.route['x-reach'])
    const content = definition.route.request?.body?.content['application/json']
    const schema = content && 'schema' in content ? content.schema : undefined
    const body = schema instanceof z.ZodType ? schema : undefined
    needed.set(nameOf(method, path), { role: known, subject, reach, body })
  }
  return needed
}
