import { setTimeout as sleep } from 'node:timers/promises'
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { findApproval } from '../../catalog/approvals.ts'
import { limitOperation } from '../../catalog/bandwidth.ts'
import { findKept } from '../../catalog/kept.ts'
import { readLog } from '../../catalog/log.ts'
import { isClosed, listOperations, readOperation } from '../../catalog/operations.ts'
import { sweptBy } from '../../catalog/sweeps.ts'
import { HoldfastError } from '../../model/errors.ts'
import { slugPattern } from '../../model/ids.ts'
import { operationChange } from '../../model/inputs.ts'
import type { OperationRecord } from '../../model/records.ts'
import { logEntryView, type OperationView, operationView, page } from '../../model/views.ts'
import { requestCancel } from '../cancel.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { limitOf } from '../reach.ts'
import { requires } from '../roles.ts'
import { approvalViewOf, keptViewOf, operationViewOf, progressOf } from '../views.ts'
import {
  body,
  cursorOf,
  cursorQuery,
  json,
  limitQuery,
  nothing,
  operationParam,
  problems,
} from './answers.ts'

const tags = ['operations']
const progressMs = 1000
const logCursor = z
  .string()
  .regex(/^\d{1,9}$/, 'not a cursor of this list')
  .transform(Number)
  .optional()

const list = createRoute({
  method: 'get',
  path: '/v1/operations',
  tags,
  ...requires('viewer', 'checked'),
  summary: 'Operations, newest first',
  request: {
    query: z.strictObject({
      state: operationView.shape.state.optional(),
      kind: operationView.shape.kind.optional(),
      connection: z.string().regex(slugPattern, 'not a connection name').optional(),
      cursor: cursorQuery,
      limit: limitQuery,
    }),
  },
  responses: { 200: json(page(operationView), 'A page; without live progress'), ...problems },
})
const show = createRoute({
  method: 'get',
  path: '/v1/operations/{id}',
  tags,
  ...requires('viewer', 'operation'),
  summary: 'One operation, with live progress',
  request: { params: operationParam },
  responses: { 200: json(operationView, 'The operation'), ...problems },
})
const cancel = createRoute({
  method: 'post',
  path: '/v1/operations/{id}/cancel',
  tags,
  ...requires('operator', 'operation'),
  summary: 'Ask an operation to stop and clean up; a closed one stays as it is',
  request: { params: operationParam, body: body(nothing) },
  responses: { 202: json(operationView, 'Asked'), ...problems },
})

const pause = createRoute({
  method: 'post',
  path: '/v1/operations/{id}/pause',
  tags,
  ...requires('operator', 'operation'),
  summary: 'Hold an operation at its next boundary: between two steps, or two parts of staged data',
  request: { params: operationParam, body: body(nothing) },
  responses: { 202: json(operationView, 'Asked'), ...problems },
})
const resume = createRoute({
  method: 'post',
  path: '/v1/operations/{id}/resume',
  tags,
  ...requires('operator', 'operation'),
  summary: 'Let a paused or parked operation go on at the step where it stopped',
  request: { params: operationParam, body: body(nothing) },
  responses: { 202: json(operationView, 'Asked'), ...problems },
})

const change = createRoute({
  method: 'patch',
  path: '/v1/operations/{id}',
  tags,
  ...requires('operator', 'operation'),
  summary: 'Give an open operation another limit of bandwidth of its own, or none',
  request: { params: operationParam, body: body(operationChange) },
  responses: { 200: json(operationView, 'It holds within seconds'), ...problems },
})

const log = createRoute({
  method: 'get',
  path: '/v1/operations/{id}/log',
  tags,
  ...requires('viewer', 'operation'),
  summary: 'What hooks and tools printed, oldest first',
  request: {
    params: operationParam,
    query: z.strictObject({ cursor: logCursor, limit: limitQuery }),
  },
  responses: { 200: json(page(logEntryView), 'A page'), ...problems },
})

export function operationRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog, temporal } = context
  app.openapi(list, async c => {
    const { cursor, limit = 50, state, kind, connection } = c.req.valid('query')
    const found = await listOperations(
      catalog,
      {
        ...(state === undefined ? {} : { state }),
        ...(kind === undefined ? {} : { kind }),
        ...(connection === undefined ? {} : { connection }),
        ...limitOf(c.get('actor')),
      },
      cursor && { createdAt: cursor.time, id: cursor.id },
      limit + 1,
    )
    const shown = found.slice(0, limit)
    const last = found.length > limit ? shown.at(-1) : undefined
    return c.json(
      {
        items: shown.map(operation => operationViewOf(operation, temporal)),
        nextCursor: last ? cursorOf(last.createdAt, last.id) : null,
      },
      200,
    )
  })
  app.openapi(show, async c => c.json(await liveView(context, c.req.valid('param').id), 200))
  app.openapi(change, async c => {
    const { id } = c.req.valid('param')
    await limitOperation(catalog, id, c.req.valid('json').bandwidth, new Date())
    return c.json(operationViewOf(await readOperation(catalog, id), temporal), 200)
  })
  app.openapi(log, async c => {
    const { id } = await readOperation(catalog, c.req.valid('param').id)
    const { cursor = 0, limit = 50 } = c.req.valid('query')
    const found = await readLog(catalog, id, cursor, limit + 1)
    const items = found.slice(0, limit).map(({ id: _id, ...entry }) => entry)
    const last = found.length > limit ? items.at(-1) : undefined
    return c.json({ items, nextCursor: last ? String(last.seq) : null }, 200)
  })
  app.openapi(cancel, async c => {
    const { id } = c.req.valid('param')
    const operation = await readOperation(catalog, id)
    if (!isClosed(operation.state)) await requestCancel(context, operation)
    return c.json(operationViewOf(await readOperation(catalog, id), temporal), 202)
  })
  app.openapi(pause, async c => {
    const { id } = c.req.valid('param')
    await send(context, id, 'pause')
    return c.json(operationViewOf(await readOperation(catalog, id), temporal), 202)
  })
  app.openapi(resume, async c => {
    const { id } = c.req.valid('param')
    await send(context, id, 'resume')
    return c.json(operationViewOf(await readOperation(catalog, id), temporal), 202)
  })
}

/** Temporal keeps the signal: what was answered with 202 reaches the workflow, whoever dies meanwhile. */
async function send(context: ApiContext, id: string, signal: 'pause' | 'resume'): Promise<void> {
  const { catalog, temporal } = context
  const operation = await readOperation(catalog, id)
  const refusal = (why: string) =>
    new HoldfastError('operation.state', `Operation ${id} cannot be ${signal}d: ${why}.`)
  if (isClosed(operation.state)) throw refusal(`it is ${operation.state}`)
  const run = await temporal.find(operation.workflowId, operation.id)
  if (!run) throw refusal('it has not begun yet')
  if (!(await temporal.signal(operation.workflowId, run.runId, signal)))
    throw refusal('its workflow has ended')
}

/** With live progress. Throws `request.not-found`. */
export async function liveView(
  context: Pick<ApiContext, 'catalog' | 'temporal' | 'log'>,
  id: string,
): Promise<OperationView> {
  const { catalog, temporal } = context
  const operation = await readOperation(catalog, id)
  const [approval, kept, swept, progress] = await Promise.all([
    findApproval(catalog.db, id),
    findKept(catalog, id),
    operation.kind === 'sweep' ? sweptBy(catalog, id) : null,
    liveProgress(context, operation),
  ])
  return {
    ...operationViewOf(operation, temporal, progress),
    approval: approval ? approvalViewOf(approval, operation) : null,
    kept: kept ? keptViewOf(kept) : null,
    swept,
  }
}

/** The row alone must be enough: without Temporal, or when it is slow to answer, there is no progress, and that is all. */
async function liveProgress(
  { temporal, log }: Pick<ApiContext, 'temporal' | 'log'>,
  operation: OperationRecord,
): Promise<OperationView['progress']> {
  if (isClosed(operation.state)) return null
  const asked = temporal.find(operation.workflowId, operation.id).then(
    run => (run?.status === 'RUNNING' ? progressOf(run) : null),
    error => {
      log.debug('no live progress', { operation: operation.id, reason: String(error) })
      return null
    },
  )
  const enough = new AbortController()
  const patience = sleep(progressMs, null, { signal: enough.signal }).catch(() => null)
  return await Promise.race([asked, patience]).finally(() => enough.abort())
}
