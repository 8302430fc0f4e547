import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { listBackups } from '../../catalog/backups.ts'
import { listConnections } from '../../catalog/connections.ts'
import { listDestinations, readDestination } from '../../catalog/destinations.ts'
import { writerIdentity } from '../../catalog/installation.ts'
import { openOperations } from '../../catalog/operations.ts'
import { rebuildInput, rebuildView, statusView, sweepInput, sweepView } from '../../model/schemas.ts'
import { thumbprint } from '../../storage/keys.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { rebuildFrom } from '../rebuild.ts'
import { requires } from '../roles.ts'
import { sweep } from '../sweep.ts'
import { version } from '../version.ts'
import { body, json, noQuery, problems } from './answers.ts'
import { withDestination } from './destinations.ts'

const rebuild = createRoute({
  method: 'post',
  path: '/v1/catalog/rebuild',
  tags: ['catalog'],
  ...requires('operator'),
  summary: 'Read the backups of the destinations into the catalog again',
  request: { body: body(rebuildInput) },
  responses: { 200: json(rebuildView, 'What was found'), ...problems },
})
const sweeping = createRoute({
  method: 'post',
  path: '/v1/sweep',
  tags: ['catalog'],
  ...requires('operator'),
  summary: 'Remove what closed operations left behind',
  request: { body: body(sweepInput) },
  responses: { 200: json(sweepView, 'What was (or would be) removed'), ...problems },
})
const status = createRoute({
  method: 'get',
  path: '/v1/status',
  tags: ['status'],
  ...requires('viewer'),
  summary: 'Per database: the latest backup and its age',
  request: { query: noQuery },
  responses: { 200: json(statusView, 'Now'), ...problems },
})

export function maintenanceRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog, temporal, settings } = context
  app.openapi(rebuild, async c => {
    const { destination } = c.req.valid('json')
    const names =
      destination === undefined
        ? (await listDestinations(catalog)).map(({ name }) => name)
        : [(await readDestination(catalog, destination)).name]
    const total = { found: 0, added: 0, refused: [] as Awaited<ReturnType<typeof rebuildFrom>>['refused'] }
    for (const name of names) {
      const one = await withDestination(context, name, opened => rebuildFrom(context, name, opened))
      total.found += one.found
      total.added += one.added
      total.refused.push(...one.refused)
    }
    return c.json(total, 200)
  })
  app.openapi(sweeping, async c => c.json(await sweep(context, c.req.valid('json').dryRun ?? false), 200))
  app.openapi(status, async c => {
    const { installationId, instanceId, publicKey } = await writerIdentity(catalog)
    const reachable = await temporal.check().then(
      () => true,
      () => false,
    )
    const databases = []
    for (const { name, engine } of await listConnections(catalog)) {
      const [latest] = await listBackups(catalog, { connection: name, state: 'committed' }, undefined, 1)
      databases.push({
        connection: name,
        engine,
        latestBackup: latest
          ? { id: latest.id, startedAt: latest.startedAt, verified: latest.verified?.ok ?? false }
          : null,
        ageSeconds: latest
          ? Math.max(0, Math.floor((Date.now() - Date.parse(latest.startedAt)) / 1000))
          : null,
      })
    }
    const { namespace, uiUrl } = settings.temporal
    return c.json(
      {
        version,
        installationId,
        instanceId,
        fingerprint: await thumbprint(publicKey),
        temporal: { reachable, namespace, uiUrl: uiUrl ?? null },
        operations: { open: (await openOperations(catalog)).length },
        databases,
      },
      200,
    )
  })
}
