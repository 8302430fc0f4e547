import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { readDestination } from '../../catalog/destinations.ts'
import { scrubWorkflowId } from '../../model/ids.ts'
import { type ScrubRequestInput, scrubInput } from '../../model/inputs.ts'
import type { OperationRecord, ScrubInput } from '../../model/records.ts'
import { accepted } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { requires } from '../roles.ts'
import { newOperation, newOperationId, patienceOf, submit, submittedBefore } from '../submit.ts'
import { operationViewOf } from '../views.ts'
import { body, json, problems } from './answers.ts'

const start = createRoute({
  method: 'post',
  path: '/v1/scrub',
  tags: ['backups'],
  ...requires('operator'),
  summary: 'Verify the backups that were least recently found whole, within a budget of bytes',
  request: { body: body(scrubInput) },
  responses: { 202: json(accepted, 'Accepted'), ...problems },
})

export function scrubRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  app.openapi(start, async c => {
    const requestKey = c.get('requestKey')
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(context, await newScrub(context, c.req.valid('json'), false), requestKey))
    return c.json({ operation: operationViewOf(operation, context.temporal) }, 202)
  })
}

export async function newScrub(
  context: ApiContext,
  request: ScrubRequestInput,
  unattended: boolean,
  operationId = newOperationId(),
): Promise<OperationRecord> {
  const destination =
    request.destination === undefined
      ? null
      : (await readDestination(context.catalog, request.destination)).name
  const input: ScrubInput = {
    version: 1,
    operationId,
    destination,
    level: request.level ?? 'checksum',
    budgetBytes: request.budgetBytes ?? null,
    ...patienceOf(context, { unattended }),
  }
  return {
    ...newOperation(),
    id: operationId,
    kind: 'scrub',
    connection: null,
    engine: null,
    backupId: null,
    destination,
    targetDatabase: null,
    workflowId: scrubWorkflowId(destination),
    input,
    warnings: [],
    createdAt: new Date().toISOString(),
  }
}
