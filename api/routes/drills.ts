import { createHash } from 'node:crypto'
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { findBackup } from '../../catalog/backups.ts'
import { writeDrillReport } from '../../catalog/drill-reports.ts'
import { type DrillRecord, findDrill, listDrills } from '../../catalog/drills.ts'
import { readOperation } from '../../catalog/operations.ts'
import { drillPage, drillPageStyle } from '../../model/drill-page.ts'
import { type SignedDrillReport, signedDrillReportSchema } from '../../model/drill-report.ts'
import { HoldfastError } from '../../model/errors.ts'
import { drillInput } from '../../model/inputs.ts'
import type { Actor } from '../../model/records.ts'
import { accepted, drillCleanupView, drillView, page } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { assertMayDrill, newDrill, removeLeftovers } from '../drills.ts'
import { limitOf, within } from '../reach.ts'
import { requires } from '../roles.ts'
import { submit, submittedBefore } from '../submit.ts'
import { drillViewOf, operationViewOf } from '../views.ts'
import {
  body,
  cursorOf,
  json,
  noQuery,
  nothing,
  operationParam,
  pageOf,
  pageQuery,
  problems,
} from './answers.ts'

const tags = ['drills']
const styleHash = createHash('sha256').update(drillPageStyle).digest('base64')
const pageHeaders = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': `default-src 'none'; style-src 'sha256-${styleHash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
}

const start = createRoute({
  method: 'post',
  path: '/v1/drills',
  tags,
  ...requires('operator', 'checked'),
  summary:
    'Restore a backup to a throw-away copy, prove and measure it, and remove it; queries take the role admin',
  request: { body: body(drillInput) },
  responses: { 202: json(accepted, 'Accepted'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/drills',
  tags,
  ...requires('viewer', 'checked'),
  summary: 'Drills, newest first',
  request: { query: z.strictObject({ connection: z.string().max(100).optional(), ...pageQuery }) },
  responses: { 200: json(page(drillView), 'A page'), ...problems },
})
const report = createRoute({
  method: 'get',
  path: '/v1/drills/{id}/report',
  tags,
  ...requires('viewer', 'operation'),
  summary: 'What a drill has shown, signed by the installation',
  request: { params: operationParam, query: noQuery },
  responses: { 200: json(signedDrillReportSchema, 'The report'), ...problems },
})
const shownPage = createRoute({
  method: 'get',
  path: '/v1/drills/{id}/page',
  tags,
  ...requires('viewer', 'operation'),
  summary: 'The same as one page of HTML, for printing and filing',
  request: { params: operationParam, query: noQuery },
  responses: {
    200: { content: { 'text/html': { schema: z.string() } }, description: 'The report' },
    ...problems,
  },
})
const cleanup = createRoute({
  method: 'post',
  path: '/v1/drills/cleanup',
  tags,
  ...requires('operator'),
  summary: 'Remove now what drills that were ended from outside have left',
  request: { body: body(nothing) },
  responses: { 200: json(drillCleanupView, 'The drills whose copies are being removed'), ...problems },
})

export function drillRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog, temporal } = context
  app.openapi(start, async c => {
    const requestKey = c.get('requestKey')
    const request = c.req.valid('json')
    const actor = c.get('actor')
    assertMayDrill(actor, request)
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(context, await newDrill(context, request, actor), requestKey))
    return c.json({ operation: operationViewOf(operation, temporal) }, 202)
  })
  app.openapi(list, async c => {
    const { cursor, limit = 50, connection } = c.req.valid('query')
    const found = await listDrills(
      catalog,
      { ...(connection === undefined ? {} : { connection }), ...limitOf(c.get('actor')) },
      cursor && { createdAt: cursor.time, id: cursor.id },
      limit + 1,
    )
    const views = await Promise.all(found.map(drill => viewOf(context, drill)))
    return c.json(
      pageOf(
        views,
        limit,
        last => cursorOf(last.startedAt, last.id),
        view => view,
      ),
      200,
    )
  })
  app.openapi(report, async c =>
    c.json(await reportOf(context, c.req.valid('param').id, c.get('actor')), 200),
  )
  app.openapi(shownPage, async c => {
    const found = await reportOf(context, c.req.valid('param').id, c.get('actor'))
    return c.body(drillPage(found), 200, pageHeaders)
  })
  app.openapi(cleanup, async c => c.json({ items: await removeLeftovers(context, true) }, 200))
}

async function viewOf({ catalog }: ApiContext, drill: DrillRecord) {
  const operation = await readOperation(catalog, drill.operationId)
  const backup = operation.backupId === null ? undefined : await findBackup(catalog, operation.backupId)
  return drillViewOf(drill, operation, backup)
}

/** Throws `request.not-found`, `drill.no-report`. */
async function reportOf({ catalog }: ApiContext, id: string, actor: Actor): Promise<SignedDrillReport> {
  const drill = await findDrill(catalog, id)
  // The copy may be made on what a token reaches, of what it does not.
  if (!drill || !within(actor, drill.connection)) {
    throw new HoldfastError('request.not-found', `There is no drill ${id}.`)
  }
  await writeDrillReport(catalog, id)
  const report = (await findDrill(catalog, id))?.report
  if (!report) throw new HoldfastError('drill.no-report', `Drill ${id} has no report.`)
  return report
}
