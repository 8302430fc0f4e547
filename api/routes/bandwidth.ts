import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { listLimits, putLimit } from '../../catalog/bandwidth.ts'
import { readDestination } from '../../catalog/destinations.ts'
import { readHost } from '../../catalog/hosts.ts'
import { limitedKinds } from '../../model/bandwidth.ts'
import { bandwidthInput, slug } from '../../model/inputs.ts'
import { bandwidthView, page } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { requires } from '../roles.ts'
import { body, json, problems } from './answers.ts'

const tags = ['bandwidth']

const list = createRoute({
  method: 'get',
  path: '/v1/bandwidth',
  tags,
  ...requires('viewer'),
  summary: 'Limits of bandwidth',
  responses: { 200: json(page(bandwidthView), 'All of them'), ...problems },
})
const put = createRoute({
  method: 'put',
  path: '/v1/bandwidth/{kind}/{name}',
  tags,
  ...requires('admin'),
  summary: 'Limit what a destination or a host takes of the network, or no longer',
  request: { params: z.object({ kind: z.enum(limitedKinds), name: slug }), body: body(bandwidthInput) },
  responses: { 204: { description: 'It holds, within seconds also for what is under way' }, ...problems },
})

export function bandwidthRoutes(app: OpenAPIHono<ApiEnv>, { catalog }: ApiContext): void {
  app.openapi(list, async c => {
    const items = await listLimits(catalog, new Date())
    return c.json(
      { items: items.map(({ rules, ...one }) => ({ ...one, limit: rules })), nextCursor: null },
      200,
    )
  })
  app.openapi(put, async c => {
    const { kind, name } = c.req.valid('param')
    const { limit } = c.req.valid('json')
    if (kind === 'destination') await readDestination(catalog, name)
    else if (name !== 'local') await readHost(catalog, name)
    await putLimit(catalog, kind, name, limit, new Date())
    return c.body(null, 204)
  })
}
