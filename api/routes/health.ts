/** For load balancers and `up`: open to everybody, and telling nobody anything. */
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import type { ApiContext, ApiEnv } from '../context.ts'
import { json } from './answers.ts'

const alive = z.object({ status: z.literal('ok') })
const readiness = z.object({
  status: z.enum(['ok', 'not ready']),
  catalog: z.boolean(),
  temporal: z.boolean(),
})

const health = createRoute({
  method: 'get',
  path: '/healthz',
  tags: ['health'],
  summary: 'The process answers',
  security: [],
  responses: { 200: json(alive, 'It does') },
})
const ready = createRoute({
  method: 'get',
  path: '/readyz',
  tags: ['health'],
  summary: 'Catalog and Temporal answer',
  security: [],
  responses: { 200: json(readiness, 'Both do'), 503: json(readiness, 'One does not') },
})

export function healthRoutes(app: OpenAPIHono<ApiEnv>, { catalog, temporal }: ApiContext): void {
  const works = (asked: Promise<unknown>) =>
    asked.then(
      () => true,
      () => false,
    )
  app.openapi(health, c => c.json({ status: 'ok' as const }, 200))
  app.openapi(ready, async c => {
    const [catalogWorks, temporalWorks] = await Promise.all([
      works(catalog.db.selectFrom('installation').select('id').executeTakeFirstOrThrow()),
      works(temporal.check()),
    ])
    const ok = catalogWorks && temporalWorks
    const answer = { catalog: catalogWorks, temporal: temporalWorks }
    return ok
      ? c.json({ status: 'ok' as const, ...answer }, 200)
      : c.json({ status: 'not ready' as const, ...answer }, 503)
  })
}
