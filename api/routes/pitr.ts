import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { readConnection } from '../../catalog/connections.ts'
import { recoveryWindowsView } from '../../model/recovery-views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { recoveryWindowsOf } from '../recovery-windows.ts'
import { requires } from '../roles.ts'
import { json, nameParam, problems } from './answers.ts'

const windows = createRoute({
  method: 'get',
  path: '/v1/connections/{name}/windows',
  tags: ['pitr'],
  ...requires('viewer', 'connection'),
  summary: 'Which places of the log can be recovered, and where it has holes. Lists the archives',
  request: { params: nameParam },
  responses: { 200: json(recoveryWindowsView, 'By destination and timeline'), ...problems },
})

export function pitrRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  app.openapi(windows, async c => {
    const connection = await readConnection(context.catalog, c.req.valid('param').name)
    return c.json(await recoveryWindowsOf(context, connection), 200)
  })
}
