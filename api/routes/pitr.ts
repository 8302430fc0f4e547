import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { readConnection } from '../../catalog/connections.ts'
import { keepRestorePoint, listRestorePoints, removeRestorePoint } from '../../catalog/restore-points.ts'
import { archivingView, enablePitrInput } from '../../model/archiving-views.ts'
import { pitrInput } from '../../model/inputs.ts'
import {
  archiversView,
  keptInput,
  recoveryWindowsView,
  restorePointInput,
  restorePointView,
  vouchInput,
} from '../../model/recovery-views.ts'
import { accepted } from '../../model/views.ts'
import { archiversOf, vouchForArchiver } from '../archivers.ts'
import { archivingOf } from '../archiving.ts'
import { submitAsking } from '../consent.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { newEnabling } from '../enabling.ts'
import { newRecovery } from '../recovery.ts'
import { recoveryWindowsOf } from '../recovery-windows.ts'
import { newRestorePoint } from '../restore-points.ts'
import { requires } from '../roles.ts'
import { submit, submittedBefore } from '../submit.ts'
import { operationViewOf } from '../views.ts'
import { body, json, nameParam, problems } from './answers.ts'

const windows = createRoute({
  method: 'get',
  path: '/v1/connections/{name}/windows',
  tags: ['pitr'],
  ...requires('viewer', 'connection'),
  summary: 'Which places of the log can be recovered, and where it has holes. Lists the archives',
  request: { params: nameParam },
  responses: { 200: json(recoveryWindowsView, 'By destination and timeline'), ...problems },
})

const points = createRoute({
  method: 'get',
  path: '/v1/connections/{name}/restore-points',
  tags: ['pitr'],
  ...requires('viewer', 'connection'),
  summary: 'Named places in the log of a server',
  request: { params: nameParam },
  responses: { 200: json(z.object({ items: z.array(restorePointView) }), 'The newest first'), ...problems },
})
const point = createRoute({
  method: 'post',
  path: '/v1/connections/{name}/restore-points',
  tags: ['pitr'],
  ...requires('operator', 'connection'),
  summary: 'Name this moment of a server, to recover to',
  request: { params: nameParam, body: body(restorePointInput) },
  responses: { 201: json(restorePointView, 'Made'), ...problems },
})
const keep = createRoute({
  method: 'patch',
  path: '/v1/connections/{name}/restore-points/{point}',
  tags: ['pitr'],
  ...requires('operator', 'connection'),
  summary: 'Until when what this moment needs is kept at hand',
  request: { params: nameParam.extend({ point: nameParam.shape.name }), body: body(keptInput) },
  responses: { 200: json(restorePointView, 'Changed'), ...problems },
})
const forget = createRoute({
  method: 'delete',
  path: '/v1/connections/{name}/restore-points/{point}',
  tags: ['pitr'],
  ...requires('operator', 'connection'),
  summary: 'Forget the name of a moment; the place stays in the log',
  request: { params: nameParam.extend({ point: nameParam.shape.name }) },
  responses: { 204: { description: 'Forgotten' }, ...problems },
})
const archiving = createRoute({
  method: 'get',
  path: '/v1/connections/{name}/archiving',
  tags: ['pitr'],
  ...requires('viewer', 'connection'),
  summary: 'How a server archives its log, as it says itself now',
  request: { params: nameParam },
  responses: { 200: json(archivingView, 'Asked of the server'), ...problems },
})
const archivers = createRoute({
  method: 'get',
  path: '/v1/connections/{name}/archivers',
  tags: ['pitr'],
  ...requires('viewer', 'connection'),
  summary: 'Whoever signs the files of its log archives, and whom this installation vouches for',
  request: { params: nameParam },
  responses: { 200: json(archiversView, 'By destination'), ...problems },
})
const vouch = createRoute({
  method: 'post',
  path: '/v1/connections/{name}/archivers',
  tags: ['pitr'],
  ...requires('admin', 'connection'),
  summary: 'Vouch for an archiver: whoever trusts this installation trusts what it archives',
  request: { params: nameParam, body: body(vouchInput) },
  responses: { 200: json(archiversView, 'By destination'), ...problems },
})
const enable = createRoute({
  method: 'post',
  path: '/v1/connections/{name}/archiving',
  tags: ['pitr'],
  ...requires('admin', 'connection'),
  summary: 'Make a server archive its log: set what it needs, wait for its restart, see a segment arrive',
  request: { params: nameParam, body: body(enablePitrInput) },
  responses: { 202: json(accepted, 'Accepted'), ...problems },
})

const start = createRoute({
  method: 'post',
  path: '/v1/pitr',
  tags: ['pitr'],
  ...requires('operator', 'checked'),
  summary:
    'Recover a server to a moment, into a new data directory beside it, or in its place once that is approved; refused where the log does not reach',
  request: { body: body(pitrInput) },
  responses: { 202: json(accepted, 'Accepted: it goes on whatever happens to this process'), ...problems },
})

/** Times are compared as text. */
const inUtc = (until: string | null): string | null =>
  until === null || until === 'forever' ? until : new Date(until).toISOString()

export function pitrRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  app.openapi(windows, async c => {
    const connection = await readConnection(context.catalog, c.req.valid('param').name)
    return c.json(await recoveryWindowsOf(context, connection), 200)
  })
  app.openapi(archiving, async c => {
    const connection = await readConnection(context.catalog, c.req.valid('param').name)
    return c.json(await archivingOf(context, connection), 200)
  })
  app.openapi(archivers, async c => {
    const connection = await readConnection(context.catalog, c.req.valid('param').name)
    return c.json(await archiversOf(context, connection), 200)
  })
  app.openapi(vouch, async c => {
    const connection = await readConnection(context.catalog, c.req.valid('param').name)
    const asked = c.req.valid('json')
    c.set('auditDetail', asked)
    return c.json(await vouchForArchiver(context, connection, asked), 200)
  })
  app.openapi(enable, async c => {
    const connection = await readConnection(context.catalog, c.req.valid('param').name)
    const requestKey = c.get('requestKey')
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(context, await newEnabling(context, connection, c.req.valid('json')), requestKey))
    return c.json({ operation: operationViewOf(operation, context.temporal) }, 202)
  })
  app.openapi(points, async c => {
    const { name } = await readConnection(context.catalog, c.req.valid('param').name)
    return c.json({ items: await listRestorePoints(context.catalog, name) }, 200)
  })
  app.openapi(point, async c => {
    const connection = await readConnection(context.catalog, c.req.valid('param').name)
    const { name, note, keepUntil } = c.req.valid('json')
    const kept = inUtc(keepUntil ?? null)
    const asked = { name, note: note ?? null, keepUntil: kept, by: c.get('actor').name }
    return c.json(await newRestorePoint(context, connection, asked), 201)
  })
  app.openapi(keep, async c => {
    const { name, point } = c.req.valid('param')
    const keepUntil = inUtc(c.req.valid('json').keepUntil)
    c.set('auditDetail', { keepUntil })
    const connection = await readConnection(context.catalog, name)
    return c.json(await keepRestorePoint(context.catalog, connection, point, keepUntil), 200)
  })
  app.openapi(forget, async c => {
    const { name, point } = c.req.valid('param')
    await removeRestorePoint(context.catalog, await readConnection(context.catalog, name), point)
    return c.body(null, 204)
  })
  app.openapi(start, async c => {
    const [requestKey, request, actor] = [c.get('requestKey'), c.req.valid('json'), c.get('actor')]
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submitAsking(context, await newRecovery(context, request, actor), request, actor, requestKey))
    return c.json({ operation: operationViewOf(operation, context.temporal) }, 202)
  })
}
