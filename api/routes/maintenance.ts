import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { listDestinations, readOwnDestination } from '../../catalog/destinations.ts'
import { rebuildInput, sweepInput, syncInput } from '../../model/inputs.ts'
import { accepted, rebuildView, syncView } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { rebuildFrom } from '../rebuild.ts'
import { requires } from '../roles.ts'
import { submit, submittedBefore } from '../submit.ts'
import { newSweep } from '../sweeping.ts'
import { syncForeign } from '../sync.ts'
import { rememberDirectory, syncPlaceOf } from '../sync-place.ts'
import { operationViewOf } from '../views.ts'
import { body, json, problems } from './answers.ts'
import { using, withDestination } from './destinations.ts'

const rebuild = createRoute({
  method: 'post',
  path: '/v1/catalog/rebuild',
  tags: ['catalog'],
  ...requires('operator'),
  summary: 'Read the backups of the destinations into the catalog again',
  request: { body: body(rebuildInput) },
  responses: { 200: json(rebuildView, 'What was found'), ...problems },
})
const sync = createRoute({
  method: 'post',
  path: '/v1/catalog/sync',
  tags: ['catalog'],
  ...requires('operator'),
  summary:
    'Catalogue dumps and archives that were not made here, where they lie; until nothing is left to read, ask again',
  request: { body: body(syncInput) },
  responses: { 200: json(syncView, 'What was found'), ...problems },
})
const sweeping = createRoute({
  method: 'post',
  path: '/v1/sweep',
  tags: ['catalog'],
  ...requires('operator'),
  summary: 'Remove what closed operations left behind',
  request: { body: body(sweepInput) },
  responses: { 202: json(accepted, 'Accepted'), ...problems },
})
export function maintenanceRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog } = context
  app.openapi(rebuild, async c => {
    const { destination } = c.req.valid('json')
    const names =
      destination === undefined
        ? (await listDestinations(catalog)).map(({ name }) => name)
        : [(await readOwnDestination(catalog, destination)).name]
    const total = { found: 0, added: 0, refused: [] as Awaited<ReturnType<typeof rebuildFrom>>['refused'] }
    for (const name of names) {
      const one = await withDestination(context, name, opened => rebuildFrom(context, name, opened))
      total.found += one.found
      total.added += one.added
      total.refused.push(...one.refused)
    }
    return c.json(total, 200)
  })
  app.openapi(sync, async c => {
    const { after, ...where } = c.req.valid('json')
    const place = await syncPlaceOf(context, where, c.get('actor'))
    const { destination, secrets, prefix } = place
    const synced = await using(context, destination, secrets, async opened => {
      if (place.isNew) {
        // Not remembered before it answers: it throws for what is no directory.
        for await (const _ of opened.list('')) break
        await rememberDirectory(context, destination)
      }
      return await syncForeign(context, destination.name, opened, { prefix, after })
    })
    return c.json({ destination: destination.name, ...synced }, 200)
  })
  app.openapi(sweeping, async c => {
    const requestKey = c.get('requestKey')
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(context, await newSweep(context, c.req.valid('json')), requestKey))
    return c.json({ operation: operationViewOf(operation, context.temporal) }, 202)
  })
}
