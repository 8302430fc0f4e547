/**
 * Machines that tools run on: over SSH, whose keys are agreed to by somebody, never by themselves; and those that a worker of
 * their own serves.
 */

import { randomBytes } from 'node:crypto'
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { sshHostChecks } from '../../activities/host-checks.ts'
import { createHostToken, hostToken, revokeHostToken } from '../../catalog/host-tokens.ts'
import {
  findHost,
  hasWorker,
  hostSecrets,
  insertHost,
  listHosts,
  pinHostKey,
  readHost,
  readSshHost,
  removeHost,
  type StoredHost,
  workerOf,
} from '../../catalog/hosts.ts'
import { resolveSecrets } from '../../catalog/secret-references.ts'
import { fingerprint } from '../../hosts/ssh/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import { readable } from '../../model/ids.ts'
import { type HostInput, hostInput, hostTrustInput } from '../../model/inputs.ts'
import type { SshSettings } from '../../model/records.ts'
import type { CheckResult } from '../../model/types.ts'
import { type HostView, hostCheckView, hostTokenView, hostView, page } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { withEtag } from '../etag.ts'
import { InvalidRequest } from '../problem.ts'
import { requires } from '../roles.ts'
import { assertHostKeys, keyOf, passOver, sshAddress } from '../ssh-hosts.ts'
import { hostViewOf } from '../views.ts'
import { body, json, nameParam, nothing, pageByKey, pageQuery, problems } from './answers.ts'

const tags = ['hosts']

const add = createRoute({
  method: 'post',
  path: '/v1/hosts',
  tags,
  ...requires('admin'),
  summary:
    'Remember a machine that tools may run on: over SSH, where the key it shows is told, not trusted; or with a worker of its own',
  request: { body: body(hostInput) },
  responses: { 201: json(hostView, 'Remembered'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/hosts',
  tags,
  ...requires('viewer'),
  summary: 'All hosts',
  request: { query: z.strictObject(pageQuery) },
  responses: { 200: json(page(hostView), 'By name'), ...problems },
})
const show = createRoute({
  method: 'get',
  path: '/v1/hosts/{name}',
  tags,
  ...requires('viewer'),
  summary: 'One host, without its secrets',
  request: { params: nameParam },
  responses: { 200: json(hostView, 'The host'), ...problems },
})
const trust = createRoute({
  method: 'post',
  path: '/v1/hosts/{name}/trust',
  tags,
  ...requires('admin'),
  summary: 'Agree to the key that the host shows now, named by its fingerprint; or ask for it, naming none',
  request: { params: nameParam, body: body(hostTrustInput) },
  responses: { 200: json(hostView, 'As it is now'), ...problems },
})
const testIt = createRoute({
  method: 'post',
  path: '/v1/hosts/{name}/test',
  tags,
  ...requires('operator'),
  summary: 'Log in, become the user it is for, and look for what jobs need',
  request: { params: nameParam, body: body(nothing) },
  responses: { 200: json(hostCheckView, 'What was found'), ...problems },
})
const newTokenRoute = createRoute({
  method: 'post',
  path: '/v1/hosts/{name}/token',
  tags,
  ...requires('admin'),
  summary: 'A new token for the worker that lives on the host; it takes the place of the one before',
  request: { params: nameParam, body: body(nothing) },
  responses: { 200: json(hostTokenView, 'The token, shown this once'), ...problems },
})
const revoke = createRoute({
  method: 'delete',
  path: '/v1/hosts/{name}/token',
  tags,
  ...requires('admin'),
  summary: 'The token of the worker that lives on the host opens nothing any more',
  request: { params: nameParam },
  responses: { 204: { description: 'Revoked' }, ...problems },
})
const remove = createRoute({
  method: 'delete',
  path: '/v1/hosts/{name}',
  tags,
  ...requires('admin'),
  summary: 'Forget a host and its secrets',
  request: { params: nameParam },
  responses: { 204: { description: 'Forgotten' }, ...problems },
})

export function hostRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog } = context
  app.openapi(add, async c => {
    const requestKey = c.get('requestKey')
    const input = c.req.valid('json')
    const known = await findHost(catalog, input.name)
    if (known && requestKey !== null && known.requestKey === requestKey) {
      return c.json(await shownHost(context, known), 201)
    }
    if (known) throw new HoldfastError('request.exists', `There is a host named ${input.name} already.`)
    if (input.url === workerUrl) {
      const served = servedHost(input, requestKey)
      await insertHost(catalog, served, {})
      return c.json(await shownHost(context, served), 201)
    }
    const { host, secrets } = readInput(input, requestKey)
    // What it shows is for a person to compare; a machine that is off can be remembered all the same.
    const shown = host.hostKeys.length > 0 ? null : await keyOf(context, host, {}).catch(passOver)
    await insertHost(catalog, host, secrets)
    return c.json(hostViewOf(host, shown), 201)
  })
  app.openapi(list, async c => {
    const { items, ...more } = pageByKey(
      await listHosts(catalog),
      c.req.valid('query'),
      one => one.name,
      one => one,
    )
    const shown = await Promise.all(items.map(one => shownHost(context, one)))
    return c.json({ ...more, items: shown }, 200)
  })
  app.openapi(show, async c =>
    c.json(withEtag(c, await shownHost(context, await readHost(catalog, c.req.valid('param').name))), 200),
  )
  app.openapi(newTokenRoute, async c => {
    const { name } = c.req.valid('param')
    await readServed(context, name)
    c.set('secretAnswer', true)
    return c.json({ host: name, ...(await createHostToken(catalog, name)) }, 200)
  })
  app.openapi(revoke, async c => {
    const { name } = c.req.valid('param')
    await readServed(context, name)
    await revokeHostToken(catalog.db, name)
    return c.body(null, 204)
  })
  app.openapi(trust, async c => {
    const host = await readSshHost(catalog, c.req.valid('param').name)
    const wanted = c.req.valid('json').fingerprint
    const shown = await keyOf(context, host, await resolveSecrets(await hostSecrets(catalog, host.name)))
    if (wanted === undefined) return c.json(hostViewOf(host, shown), 200)
    c.set('auditDetail', { fingerprint: wanted })
    if (fingerprint(shown) !== wanted) {
      throw new HoldfastError(
        'host.key-changed',
        `Agreeing to the key of ${host.name}: it shows ${fingerprint(shown)}, not ${wanted}.`,
      )
    }
    await pinHostKey(catalog, host.name, [shown])
    return c.json(hostViewOf({ ...host, hostKeys: [shown] }, shown), 200)
  })
  app.openapi(testIt, async c => {
    const { name } = c.req.valid('param')
    return c.json({ name, checks: await hostChecksOf(context, await readHost(catalog, name)) }, 200)
  })
  app.openapi(remove, async c => {
    await removeHost(catalog, c.req.valid('param').name)
    return c.body(null, 204)
  })
}

const workerUrl = 'worker:'

/** Throws `request.invalid` for one that a worker of its own does not serve. */
async function readServed({ catalog }: ApiContext, name: string) {
  const host = await readHost(catalog, name)
  if (hasWorker(host)) return host
  throw new HoldfastError('request.invalid', `Host ${name} is reached over SSH; it has no worker of its own.`)
}

function servedHost(input: HostInput, requestKey: string | null): StoredHost {
  const { name, url: _url, ...more } = input
  const odd = Object.entries(more).filter(([, value]) => value !== undefined)
  if (odd.length > 0) {
    throw new InvalidRequest(
      odd.map(([path]) => ({ path, message: 'is for hosts over SSH; its worker has settings of its own' })),
    )
  }
  return {
    name,
    settings: { worker: readable(randomBytes(16)) },
    secretFields: [],
    hostKeys: [],
    createdAt: new Date().toISOString(),
    requestKey,
  }
}

async function shownHost({ catalog, temporal }: ApiContext, host: StoredHost): Promise<HostView> {
  if (!hasWorker(host)) return hostViewOf(host, null)
  const polling = await temporal.polling(workerOf(host).queue).catch(passOver)
  return { ...hostViewOf(host, null), worker: { polling, token: await hostToken(catalog, host.name) } }
}

export async function hostChecksOf(
  { temporal, hostNamed }: ApiContext,
  host: StoredHost,
): Promise<CheckResult[]> {
  if (!hasWorker(host)) return await sshHostChecks(() => hostNamed(host.name), 'It can be logged in to')
  return (await temporal.askHost(workerOf(host), { ask: 'checks' })) as unknown as CheckResult[]
}

function readInput(input: HostInput, requestKey: string | null) {
  const way = sshAddress(input.url)
  const keys = input.hostKeys ?? []
  assertHostKeys(keys)
  const secrets = Object.fromEntries(
    Object.entries(input.secrets ?? {}).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
  const runAs = input.runAs ?? null
  const host: StoredHost<SshSettings> = {
    name: input.name,
    settings: {
      ...way,
      runAs,
      tempDir: input.tempDir ?? `/var/tmp/holdfast-${runAs ?? way.user}`,
      through: input.through ?? null,
      agent: input.agent ?? false,
    },
    secretFields: Object.keys(secrets).sort(),
    hostKeys: keys,
    createdAt: new Date().toISOString(),
    requestKey,
  }
  return { host, secrets }
}
