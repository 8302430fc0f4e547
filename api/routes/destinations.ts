import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import {
  destinationSecrets,
  findDestination,
  insertDestination,
  listPlaces,
  markReadOnly,
  readDestination,
  readOwnDestination,
  removeDestination,
  type StoredDestination,
} from '../../catalog/destinations.ts'
import { rememberEpoch, rememberedEpoch } from '../../catalog/epochs.ts'
import { findHost, hasWorker } from '../../catalog/hosts.ts'
import { writerIdentity } from '../../catalog/installation.ts'
import type { Catalog } from '../../catalog/open.ts'
import { resolveSecrets } from '../../catalog/secret-references.ts'
import { trustedInstallations } from '../../catalog/trust.ts'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import { type DestinationInput, destinationInput, takeoverInput } from '../../model/inputs.ts'
import type { EpochDocument } from '../../model/manifest.ts'
import { homePaths } from '../../model/settings.ts'
import { destinationCheckView, destinationView, page, takeoverView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import {
  checkDestinationSecrets,
  hostOfDestination,
  openDestination,
  parseDestinationUri,
  splitExtras,
} from '../../storage/index.ts'
import { claimOrCheck, currentEpoch, takeover } from '../../storage/installation.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { withEtag } from '../etag.ts'
import { InvalidRequest, inField } from '../problem.ts'
import { assertKeys } from '../recipients.ts'
import { requires } from '../roles.ts'
import { destinationViewOf } from '../views.ts'
import { body, json, nameParam, nothing, pageByKey, pageQuery, problems } from './answers.ts'

const tags = ['destinations']

const add = createRoute({
  method: 'post',
  path: '/v1/destinations',
  tags,
  ...requires('admin'),
  summary: 'Remember a place for backups; it is written to, read back and claimed',
  request: { body: body(destinationInput) },
  responses: { 201: json(destinationView, 'Remembered'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/destinations',
  tags,
  ...requires('viewer', 'nothing'),
  summary: 'All destinations',
  request: { query: z.strictObject({ kind: destinationView.shape.kind.max(40).optional(), ...pageQuery }) },
  responses: { 200: json(page(destinationView), 'By name'), ...problems },
})
const show = createRoute({
  method: 'get',
  path: '/v1/destinations/{name}',
  tags,
  ...requires('viewer', 'nothing'),
  summary: 'One destination, without its secrets',
  request: { params: nameParam },
  responses: { 200: json(destinationView, 'The destination'), ...problems },
})
const remove = createRoute({
  method: 'delete',
  path: '/v1/destinations/{name}',
  tags,
  ...requires('admin'),
  summary: 'Forget a destination and its credentials; the objects there stay',
  request: { params: nameParam },
  responses: { 204: { description: 'Forgotten' }, ...problems },
})
const check = createRoute({
  method: 'post',
  path: '/v1/destinations/{name}/check',
  tags,
  ...requires('operator'),
  summary: 'Write, read back, list and delete a small object there',
  request: { params: nameParam, body: body(nothing) },
  responses: { 200: json(destinationCheckView, 'It works'), ...problems },
})
const take = createRoute({
  method: 'post',
  path: '/v1/destinations/{name}/takeover',
  tags,
  ...requires('admin'),
  summary: 'Become the one installation that writes there',
  request: { params: nameParam, body: body(takeoverInput) },
  responses: { 200: json(takeoverView, 'Taken over'), ...problems },
})

export function destinationRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog } = context
  app.openapi(add, async c => {
    const requestKey = c.get('requestKey')
    const input = c.req.valid('json')
    const known = await findDestination(catalog, input.name)
    if (known && requestKey !== null && known.requestKey === requestKey) {
      return c.json(destinationViewOf(known), 201)
    }
    if (known) {
      throw new HoldfastError('request.exists', `There is a destination named ${input.name} already.`)
    }
    const { destination, secrets } = await readInput(input, requestKey)
    await assertKeys(context, destination.encryptTo)
    await assertFailover(context, destination)
    await expectHost(catalog, destination)
    const { epoch } = await using(context, destination, secrets, async opened => {
      await opened.check()
      return await claim(context, opened, null)
    })
    const stored = { ...destination, readOnly: epoch === null }
    await insertDestination(catalog, stored, secrets, epoch)
    return c.json(destinationViewOf(stored), 201)
  })
  app.openapi(list, async c => {
    const { kind, ...place } = c.req.valid('query')
    const all = await listPlaces(catalog)
    const chosen = kind === undefined ? all : all.filter(one => one.kind === kind)
    return c.json(
      pageByKey(chosen, place, one => one.name, destinationViewOf),
      200,
    )
  })
  app.openapi(show, async c =>
    c.json(withEtag(c, destinationViewOf(await readDestination(catalog, c.req.valid('param').name))), 200),
  )
  app.openapi(remove, async c => {
    await removeDestination(catalog, c.req.valid('param').name)
    return c.body(null, 204)
  })
  app.openapi(check, async c => {
    const { name } = c.req.valid('param')
    const known = await readOwnDestination(catalog, name)
    const notes = await withDestination(context, name, async opened => {
      const found = await opened.check()
      const { epoch } = await claim(context, opened, await rememberedEpoch(catalog, name))
      if (epoch === null) await markReadOnly(catalog, name, true)
      else await rememberEpoch(catalog, name, epoch)
      known.readOnly = epoch === null
      return found
    })
    return c.json({ ...destinationViewOf(known), ok: true as const, notes }, 200)
  })
  app.openapi(take, async c => {
    const { name } = c.req.valid('param')
    const { reason = 'takeover by request' } = c.req.valid('json')
    await readOwnDestination(catalog, name)
    const { epoch, before } = await withDestination(context, name, async opened => ({
      before: await currentEpoch(opened),
      epoch: await takeover(opened, await writerIdentity(catalog), reason),
    }))
    await rememberEpoch(catalog, name, epoch)
    const warnings = await afterTakeover(context, before)
    context.log.info('destination taken over', { destination: name, epoch })
    for (const warning of warnings) context.log.warn(warning, { destination: name })
    return c.json({ destination: name, epoch, warnings }, 200)
  })
}

/** Opens a stored destination for one act. */
export async function withDestination<T>(
  context: ApiContext,
  name: string,
  act: (opened: Destination) => Promise<T>,
): Promise<T> {
  const { catalog } = context
  const destination = await readDestination(catalog, name)
  return await using(context, destination, await destinationSecrets(catalog, name), act)
}

export async function using<T>(
  { shellOn }: ApiContext,
  destination: StoredDestination,
  secrets: Record<string, string>,
  act: (opened: Destination) => Promise<T>,
): Promise<T> {
  const opened = await openDestination(destination, await resolveSecrets(secrets), { shellOn })
  try {
    return await act(opened)
  } finally {
    await opened.close()
  }
}

/** A directory of a server is on a host that is known here. */
async function expectHost(catalog: Catalog, destination: StoredDestination): Promise<void> {
  const host = hostOfDestination(destination)
  if (host === undefined || host === 'local') return
  const found = await findHost(catalog, host)
  if (found && hasWorker(found)) {
    const message = `names the host ${host}, to which nobody logs in: it has a worker of its own`
    throw new InvalidRequest([{ path: 'uri', message }])
  }
  if (found) return
  throw new InvalidRequest([{ path: 'uri', message: `names the host ${host}, which is not known here` }])
}

/** null: somebody else holds it; we may read. */
async function claim(
  { catalog }: ApiContext,
  opened: Destination,
  remembered: number | null,
): Promise<{ epoch: number | null }> {
  try {
    return { epoch: await claimOrCheck(opened, await writerIdentity(catalog), remembered) }
  } catch (error) {
    if (hasCode(error, 'destination.read-only')) return { epoch: null }
    throw error
  }
}

/** What the new holder has to know of the former one. Its key in the destination is not believed: anybody can put one there. */
async function afterTakeover(
  { catalog, settings }: ApiContext,
  before: EpochDocument | undefined,
): Promise<string[]> {
  const own = await writerIdentity(catalog)
  if (!before || before.instanceId === own.instanceId) return []
  const { installationId, instanceId, at } = before
  const gone = `Installation ${installationId}, instance ${instanceId}, held it since ${at} and can write no more; stop it if it still runs.`
  const keys = homePaths(settings.home).keys
  if (Object.hasOwn(await trustedInstallations(catalog, keys), installationId)) return [gone]
  return [
    gone,
    `Its backups cannot be restored here yet: no key file in ${keys} names installation ${installationId}. Put its key file there and run \`holdfast catalog rebuild\`.`,
  ]
}

/** Throws when it is the destination itself, or none. */
export async function assertFailover(
  { catalog }: ApiContext,
  { name, failover }: Pick<StoredDestination, 'name' | 'failover'>,
): Promise<void> {
  if (failover === null) return
  const message =
    failover === name
      ? 'must be another destination'
      : ((await findDestination(catalog, failover))?.foreignOnly ?? true)
        ? `there is no destination named ${failover}`
        : undefined
  if (message !== undefined) throw new InvalidRequest([{ path: 'failover', message }])
}

async function readInput(
  input: DestinationInput,
  requestKey: string | null,
): Promise<{ destination: StoredDestination; secrets: Record<string, string> }> {
  const { name, uri, encryptTo = null, failover = null, offSite = null, ...said } = input
  const { extras, credentials } = splitExtras(said)
  const secrets = Object.fromEntries(
    Object.entries(credentials).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
  const values = await resolveSecrets(secrets)
  const parsed = inField('uri', () => {
    const found = parseDestinationUri(uri, extras, values)
    checkDestinationSecrets(found.kind, values)
    return found
  })
  const destination: StoredDestination = {
    name,
    kind: parsed.kind,
    uri: parsed.uri,
    settings: parsed.settings,
    secretFields: Object.keys(secrets).sort(),
    createdAt: new Date().toISOString(),
    readOnly: false,
    encryptTo,
    failover,
    offSite,
    foreignOnly: false,
    requestKey,
  }
  return { destination, secrets }
}
