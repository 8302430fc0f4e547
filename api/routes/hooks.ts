import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { readConnection } from '../../catalog/connections.ts'
import { listHooks, putHooks } from '../../catalog/hooks.ts'
import { hooksInput } from '../../model/inputs.ts'
import { hooksView } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { InvalidRequest } from '../problem.ts'
import { requires } from '../roles.ts'
import { body, json, nameParam, problems } from './answers.ts'

const tags = ['connections']

const show = createRoute({
  method: 'get',
  path: '/v1/connections/{name}/hooks',
  tags,
  ...requires('viewer', 'connection'),
  summary: 'What runs around backups and restores of a connection',
  request: { params: nameParam },
  responses: { 200: json(hooksView, 'In the order in which they run'), ...problems },
})
const put = createRoute({
  method: 'put',
  path: '/v1/connections/{name}/hooks',
  tags,
  ...requires('admin'),
  summary: 'Replace the hooks of a connection; operations under way keep those of their plan',
  request: { params: nameParam, body: body(hooksInput) },
  responses: { 200: json(hooksView, 'As they are now'), ...problems },
})

export function hookRoutes(app: OpenAPIHono<ApiEnv>, { catalog }: ApiContext): void {
  app.openapi(show, async c => c.json({ items: await listHooks(catalog, c.req.valid('param').name) }, 200))
  app.openapi(put, async c => {
    const { name } = c.req.valid('param')
    const { items } = c.req.valid('json')
    const { secretFields } = await readConnection(catalog, name)
    const unknown = items.flatMap((hook, index) =>
      Object.entries(hook.secretEnv).flatMap(([variable, field]) =>
        secretFields.includes(field)
          ? []
          : [
              {
                path: `items.${index}.secretEnv.${variable}`,
                message: `connection ${name} stores no secret "${field}"`,
              },
            ],
      ),
    )
    if (unknown.length > 0) throw new InvalidRequest(unknown)
    await putHooks(catalog, name, items)
    return c.json({ items }, 200)
  })
}
