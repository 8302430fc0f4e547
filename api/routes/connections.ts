import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import {
  findConnection,
  insertConnection,
  listConnections,
  readConnection,
  removeConnection,
  type StoredConnection,
  setPolicy,
} from '../../catalog/connections.ts'
import { findHost } from '../../catalog/hosts.ts'
import type { Engine } from '../../engines/engine.ts'
import { engineForUrl } from '../../engines/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import {
  type ConnectionInput,
  connectionInput,
  connectionPolicyInput,
  precheckInput,
} from '../../model/inputs.ts'
import type { Json, MethodName } from '../../model/types.ts'
import { connectionCheckView, connectionView, page } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { withEtag } from '../etag.ts'
import { precheck } from '../precheck.ts'
import { probeConnection } from '../probe.ts'
import { InvalidRequest, inField } from '../problem.ts'
import { within } from '../reach.ts'
import { requires } from '../roles.ts'
import { connectionViewOf } from '../views.ts'
import { body, json, nameParam, pageByKey, pageQuery, problems } from './answers.ts'

const tags = ['connections']

const add = createRoute({
  method: 'post',
  path: '/v1/connections',
  tags,
  ...requires('admin'),
  summary: 'Remember a database server; it is asked who it is',
  request: { body: body(connectionInput) },
  responses: { 201: json(connectionView, 'Remembered'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/connections',
  tags,
  ...requires('viewer', 'checked'),
  summary: 'All connections',
  request: {
    query: z.strictObject({ engine: connectionView.shape.engine.max(40).optional(), ...pageQuery }),
  },
  responses: { 200: json(page(connectionView), 'By name'), ...problems },
})
const show = createRoute({
  method: 'get',
  path: '/v1/connections/{name}',
  tags,
  ...requires('viewer', 'connection'),
  summary: 'One connection, without its secrets',
  request: { params: nameParam },
  responses: { 200: json(connectionView, 'The connection'), ...problems },
})
const remove = createRoute({
  method: 'delete',
  path: '/v1/connections/{name}',
  tags,
  ...requires('admin'),
  summary: 'Forget a connection and its secrets; backups stay',
  request: { params: nameParam },
  responses: { 204: { description: 'Forgotten' }, ...problems },
})
const precheckOf = <Path extends string>(path: Path) =>
  createRoute({
    method: 'post',
    path,
    tags,
    ...requires('operator', 'connection'),
    summary: 'Is it ready for a backup?',
    request: { params: nameParam, body: body(precheckInput) },
    responses: { 200: json(connectionCheckView, 'What was found'), ...problems },
  })

const policy = createRoute({
  method: 'post',
  path: '/v1/connections/{name}/policy',
  tags,
  ...requires('admin'),
  summary:
    'Whether restores over something here need a second person; whether a canary is written before backups',
  request: { params: nameParam, body: body(connectionPolicyInput) },
  responses: { 200: json(connectionView, 'As it is now'), ...problems },
})

export function connectionRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog } = context
  app.openapi(add, async c => {
    const requestKey = c.get('requestKey')
    const input = c.req.valid('json')
    const known = await findConnection(catalog, input.name)
    // Made by this very request, whose answer was lost.
    if (known && requestKey !== null && known.requestKey === requestKey) {
      return c.json(connectionViewOf(known), 201)
    }
    if (known) {
      throw new HoldfastError('request.exists', `There is a connection named ${input.name} already.`)
    }
    const { engine, settings, secrets, method } = readInput(input)
    const host = input.host ?? 'local'
    if (host !== 'local' && !(await findHost(catalog, host))) {
      throw new InvalidRequest([{ path: 'host', message: `There is no host named ${host}` }])
    }
    const asked = { name: input.name, engine: engine.name, settings, host }
    const facts = await probeConnection(context, asked, secrets)
    const connection: StoredConnection = {
      name: input.name,
      engine: engine.name,
      method,
      settings,
      secretFields: Object.keys(secrets).sort(),
      host,
      serverIdentity: facts.identity,
      serverVersion: facts.version,
      createdAt: new Date().toISOString(),
      address: engine.describe(settings),
      requestKey,
      twoPerson: input.twoPerson ?? false,
      canary: input.canary ?? false,
    }
    await insertConnection(catalog, connection, secrets)
    return c.json(connectionViewOf(connection), 201)
  })
  app.openapi(list, async c => {
    const { engine, ...place } = c.req.valid('query')
    const actor = c.get('actor')
    const all = (await listConnections(catalog)).filter(one => within(actor, one.name))
    const chosen = engine === undefined ? all : all.filter(one => one.engine === engine)
    return c.json(
      pageByKey(chosen, place, one => one.name, connectionViewOf),
      200,
    )
  })
  app.openapi(show, async c =>
    c.json(withEtag(c, connectionViewOf(await readConnection(catalog, c.req.valid('param').name))), 200),
  )
  app.openapi(policy, async c => {
    const { name } = c.req.valid('param')
    const policy = c.req.valid('json')
    const { twoPerson, canary } = policy
    c.set('auditDetail', {
      ...(twoPerson === undefined ? {} : { twoPerson }),
      ...(canary === undefined ? {} : { canary }),
    })
    await setPolicy(catalog, name, policy)
    return c.json(connectionViewOf(await readConnection(catalog, name)), 200)
  })
  app.openapi(remove, async c => {
    await removeConnection(catalog, c.req.valid('param').name)
    return c.body(null, 204)
  })
  for (const path of ['/v1/connections/{name}/precheck', '/v1/connections/{name}/check'] as const) {
    app.openapi(precheckOf(path), async c => {
      const connection = await readConnection(catalog, c.req.valid('param').name)
      const { facts, checks } = await precheck(context, connection, c.req.valid('json'))
      return c.json(
        {
          serverIdentity: facts?.identity ?? null,
          serverVersion: facts?.version ?? null,
          database: facts?.database ?? null,
          sizeBytes: facts?.sizeBytes ?? null,
          checks,
        },
        200,
      )
    })
  }
}

/** Splits what a person typed into settings and secrets. Never repeats the URL, which may hold a password. */
function readInput(input: ConnectionInput): {
  engine: Engine
  settings: Json
  secrets: Record<string, string>
  method: MethodName
} {
  const engine = inField('url', () => engineForUrl(input.url))
  const parsed = inField('url', () => engine.parseUrl(input.url))
  const given = input.secrets ?? {}
  assertSecretFields(engine, given)
  const method = methodOf(engine, input.method)
  return { engine, settings: parsed.settings as Json, secrets: { ...parsed.secrets, ...given }, method }
}

export function assertSecretFields(engine: Engine, given: Record<string, unknown>): void {
  const unknown = Object.keys(given).filter(field => !engine.secretFields.includes(field))
  if (unknown.length === 0) return
  const fields = engine.secretFields.join(', ') || 'none'
  throw new InvalidRequest(
    unknown.map(field => ({
      path: `secrets.${field}`,
      message: `${engine.title} has no such secret (it has: ${fields})`,
    })),
  )
}

/** The engine's first one unless another is asked for. */
export function methodOf(engine: Engine, asked: MethodName | undefined): MethodName {
  const available = Object.keys(engine.methods) as MethodName[]
  const method = asked ?? available[0]
  if (method !== undefined && available.includes(method)) return method
  throw new InvalidRequest([{ path: 'method', message: `${engine.title} has: ${available.join(', ')}` }])
}
