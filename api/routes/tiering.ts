import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { readDestination } from '../../catalog/destinations.ts'
import { dueMoves } from '../../catalog/tiers.ts'
import { tieringWorkflowId } from '../../model/ids.ts'
import { tierList } from '../../model/keeping.ts'
import type { OperationRecord, TieringInput } from '../../model/records.ts'
import { accepted, tieringView } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { InvalidRequest } from '../problem.ts'
import { requires } from '../roles.ts'
import { newOperation, newOperationId, patienceOf, submit, submittedBefore } from '../submit.ts'
import { operationViewOf } from '../views.ts'
import { body, json, nameParam, nothing, problems } from './answers.ts'

const show = createRoute({
  method: 'get',
  path: '/v1/destinations/{name}/tiers',
  tags: ['destinations'],
  ...requires('viewer'),
  summary: 'What would be moved to a colder class now, as far as the catalog knows',
  request: { params: nameParam },
  responses: { 200: json(tieringView, 'The oldest first'), ...problems },
})
const start = createRoute({
  method: 'post',
  path: '/v1/destinations/{name}/tiers',
  tags: ['destinations'],
  ...requires('operator'),
  summary: 'Move what is old enough to a colder class of the store',
  request: { params: nameParam, body: body(nothing) },
  responses: { 202: json(accepted, 'Accepted'), ...problems },
})

export function tieringRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog } = context
  app.openapi(show, async c => {
    const { name, settings } = await readDestination(catalog, c.req.valid('param').name)
    const parsed = tierList.safeParse(settings.tiers)
    const moves = await dueMoves(catalog, name, new Date().toISOString())
    return c.json(
      {
        destination: name,
        tiers: parsed.success ? parsed.data : [],
        moves: moves.map(({ backupId: backup, connection, bytes, to }) => ({
          backup,
          connection,
          bytes,
          to,
        })),
      },
      200,
    )
  })
  app.openapi(start, async c => {
    const requestKey = c.get('requestKey')
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(context, await newTiering(context, c.req.valid('param').name, false), requestKey))
    return c.json({ operation: operationViewOf(operation, context.temporal) }, 202)
  })
}

export async function newTiering(
  context: ApiContext,
  name: string,
  unattended: boolean,
  operationId = newOperationId(),
): Promise<OperationRecord> {
  const { settings } = await readDestination(context.catalog, name)
  if (!tierList.safeParse(settings.tiers).success) {
    throw new InvalidRequest([{ path: 'destination', message: `${name} has no tiers` }])
  }
  const now = new Date().toISOString()
  const input: TieringInput = {
    version: 1,
    operationId,
    destination: name,
    asOf: now,
    ...patienceOf(context, { unattended }),
  }
  return {
    ...newOperation(),
    id: operationId,
    kind: 'tiering',
    connection: null,
    engine: null,
    backupId: null,
    destination: name,
    targetDatabase: null,
    workflowId: tieringWorkflowId(name),
    input,
    warnings: [],
    createdAt: now,
  }
}
