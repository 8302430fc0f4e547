/** Changes of connections and destinations: another address, other credentials, and still the same server or place. */
import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import {
  type ConnectionChanges,
  changeConnection,
  connectionSecrets,
  readConnection,
  type StoredConnection,
} from '../../catalog/connections.ts'
import {
  changeDestination,
  destinationSecrets,
  readDestination,
  type StoredDestination,
} from '../../catalog/destinations.ts'
import { writerIdentity } from '../../catalog/installation.ts'
import { engineForUrl, engineOf } from '../../engines/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import {
  type ConnectionChange,
  connectionChange,
  type DestinationChange,
  destinationChange,
} from '../../model/inputs.ts'
import type { Json } from '../../model/types.ts'
import { connectionView, destinationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import {
  type DestinationExtras,
  expectSecretFields,
  parseDestinationUri,
  placeNames,
  splitExtras,
} from '../../storage/index.ts'
import { currentEpoch } from '../../storage/installation.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { assertMatch, withEtag } from '../etag.ts'
import { probeConnection } from '../probe.ts'
import { InvalidRequest, inField } from '../problem.ts'
import { assertKeys } from '../recipients.ts'
import { requires } from '../roles.ts'
import { connectionViewOf, destinationViewOf } from '../views.ts'
import { body, json, nameParam, problems } from './answers.ts'
import { assertSecretFields, methodOf } from './connections.ts'
import { assertFailover, using } from './destinations.ts'

const connection = createRoute({
  method: 'patch',
  path: '/v1/connections/{name}',
  tags: ['connections'],
  ...requires('admin'),
  summary: 'Change address, method or secrets; the server is asked again who it is',
  description:
    'Another address needs the secrets again: stored ones are never sent to another place. Another server is refused unless `acceptNewServer`.',
  request: { params: nameParam, body: body(connectionChange) },
  responses: { 200: json(connectionView, 'As it is now'), ...problems },
})
const destination = createRoute({
  method: 'patch',
  path: '/v1/destinations/{name}',
  tags: ['destinations'],
  ...requires('admin'),
  summary: 'Change credentials, endpoint or region; it must still be the same place',
  request: { params: nameParam, body: body(destinationChange) },
  responses: { 200: json(destinationView, 'As it is now'), ...problems },
})

export function changeRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog } = context
  app.openapi(connection, async c => {
    const before = await readConnection(catalog, c.req.valid('param').name)
    assertMatch(c, connectionViewOf(before))
    const { changes, secrets, moved } = await changedConnection(context, before, c.req.valid('json'))
    const changed = await changeConnection(catalog, before.name, changes, secrets, (current, usedBy) => {
      // As it was when the server was asked: not even those who send no ETag undo what came between.
      assertSame(connectionViewOf(before), connectionViewOf(current), before.name)
      if (moved) assertUnused(usedBy, before.name)
    })
    return c.json(withEtag(c, connectionViewOf(changed)), 200)
  })
  app.openapi(destination, async c => {
    const before = await readDestination(catalog, c.req.valid('param').name)
    assertMatch(c, destinationViewOf(before))
    const {
      encryptTo = before.encryptTo,
      failover = before.failover,
      offSite = before.offSite,
      ...asked
    } = c.req.valid('json')
    const { settings, secrets, moved, changed: otherwise } = changedDestination(before, asked)
    if (encryptTo !== before.encryptTo) await assertKeys(context, encryptTo)
    await assertFailover(context, { name: before.name, failover })
    const known = await destinationSecrets(catalog, before.name)
    await using(context, { ...before, settings }, applied(known, secrets), async opened => {
      // Before anything is written there.
      if (moved) await assertSamePlace(context, before, opened)
      await opened.check()
    })
    const changes = { settings, encryptTo, failover, offSite }
    const changed = await changeDestination(catalog, before.name, changes, secrets, (current, usedBy) => {
      assertSame(destinationViewOf(before), destinationViewOf(current), before.name)
      if (otherwise) assertUnused(usedBy, before.name)
    })
    return c.json(withEtag(c, destinationViewOf(changed)), 200)
  })
}

type SecretChanges = Record<string, string | null>

const applied = (known: Record<string, string>, changes: SecretChanges): Record<string, string> =>
  Object.fromEntries(
    Object.entries({ ...known, ...changes }).filter((entry): entry is [string, string] => entry[1] !== null),
  )

function assertSame(before: unknown, current: unknown, name: string): void {
  if (JSON.stringify(before) === JSON.stringify(current)) return
  throw new HoldfastError('request.changed', `Somebody else changed ${name} at the same time.`)
}

/** Credentials may be mended under a running operation; where it works may not change. */
function assertUnused(usedBy: string | undefined, name: string): void {
  if (usedBy === undefined) return
  throw new HoldfastError(
    'request.in-use',
    `Operation ${usedBy} uses ${name}; only secrets can be changed now.`,
  )
}

/** Stored secrets are for the place they were given for: whoever changes the place brings them along, or forgets them. */
function assertSecretsGiven(
  stored: readonly string[],
  given: SecretChanges,
  path: (field: string) => string,
) {
  const missing = stored.filter(field => !Object.hasOwn(given, field))
  if (missing.length === 0) return
  throw new InvalidRequest(
    missing.map(field => ({ path: path(field), message: 'is needed again for another place, or null' })),
  )
}

/** Throws when nobody of ours ever wrote there, or somebody else holds what was ours. */
async function assertSamePlace(
  { catalog }: ApiContext,
  before: StoredDestination,
  opened: Destination,
): Promise<void> {
  const epoch = await currentEpoch(opened)
  const { instanceId } = await writerIdentity(catalog)
  if (epoch !== undefined && (before.readOnly || epoch.instanceId === instanceId)) return
  throw new InvalidRequest(
    [{ path: 'endpoint', message: 'is another place' }],
    `What lies at ${before.uri} under the new settings is not what ${before.name} wrote: add it as another destination.`,
  )
}

async function changedConnection(context: ApiContext, before: StoredConnection, change: ConnectionChange) {
  const engine = engineOf(before.engine)
  const { url } = change
  if (url !== undefined && inField('url', () => engineForUrl(url)).name !== before.engine) {
    throw new InvalidRequest([{ path: 'url', message: `is not of ${engine.title}; add another connection` }])
  }
  const parsed = url === undefined ? undefined : inField('url', () => engine.parseUrl(url))
  const settings = parsed === undefined ? before.settings : (parsed.settings as Json)
  const secrets: SecretChanges = { ...parsed?.secrets, ...change.secrets }
  assertSecretFields(engine, secrets)
  const elsewhere = JSON.stringify(settings) !== JSON.stringify(before.settings)
  if (elsewhere) assertSecretsGiven(before.secretFields, secrets, field => `secrets.${field}`)
  const method = methodOf(engine, change.method ?? before.method)
  const all = applied(await connectionSecrets(context.catalog, before.name), secrets)
  const facts = await probeConnection(
    context,
    { name: before.name, engine: engine.name, settings, host: before.host },
    all,
  )
  if (facts.identity !== before.serverIdentity && change.acceptNewServer !== true) {
    throw new HoldfastError(
      'database.changed',
      `The server calls itself ${facts.identity}; ${before.name} was added as ${before.serverIdentity}.`,
      { hint: 'If another server is meant, say so: acceptNewServer, --accept-new-server.' },
    )
  }
  const changes: ConnectionChanges = {
    settings,
    method,
    address: engine.describe(engine.connection.parse(settings)),
    serverIdentity: facts.identity,
    serverVersion: facts.version,
  }
  const moved = elsewhere || method !== before.method || facts.identity !== before.serverIdentity
  return { changes, secrets, moved }
}

function changedDestination(
  before: StoredDestination,
  change: Omit<DestinationChange, 'encryptTo' | 'failover' | 'offSite'>,
) {
  const { extras, credentials } = splitExtras(change)
  const { settings: now } = before
  const asked = Object.entries({ ...now, ...extras }).map(([name, value]) => [
    name,
    // What is absent stays, null takes away.
    value === undefined ? now[name] : (value ?? undefined),
  ])
  const { settings } = inField('endpoint', () =>
    parseDestinationUri(before.uri, Object.fromEntries(asked) as DestinationExtras),
  )
  const secrets = Object.fromEntries(
    Object.entries(credentials).filter((entry): entry is [string, string | null] => entry[1] !== undefined),
  )
  inField('secrets', () => expectSecretFields(before.kind, Object.keys(secrets)))
  const moved = placeNames.some(name => settings[name] !== now[name])
  const changed = JSON.stringify(settings) !== JSON.stringify(now)
  if (moved) assertSecretsGiven(before.secretFields, secrets, field => field)
  return { settings, secrets, moved, changed }
}
