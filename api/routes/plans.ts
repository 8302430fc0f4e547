import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { readOperation } from '../../catalog/operations.ts'
import { readPlan } from '../../catalog/plans.ts'
import { HoldfastError } from '../../model/errors.ts'
import { planView } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { planViewOf } from '../plan-view.ts'
import { requires } from '../roles.ts'
import { json, operationParam, problems } from './answers.ts'

const show = createRoute({
  method: 'get',
  path: '/v1/operations/{id}/plan',
  tags: ['operations'],
  ...requires('viewer', 'operation'),
  summary: 'What an operation does, step by step, as it was planned and stored',
  request: { params: operationParam },
  responses: { 200: json(planView, 'The plan'), ...problems },
})

export function planRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  app.openapi(show, async c => {
    const operation = await readOperation(context.catalog, c.req.valid('param').id)
    const stored = await readPlan(context.catalog, operation.id)
    if (!stored) {
      throw new HoldfastError('request.not-found', `Operation ${operation.id} has no plan (yet).`)
    }
    return c.json(await planViewOf(context, operation, stored), 200)
  })
}
