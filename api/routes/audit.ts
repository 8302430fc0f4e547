import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { listAudit } from '../../catalog/audit.ts'
import { checkAudit, pruneAudit } from '../../catalog/audit-chain.ts'
import { auditCheckView, auditPruneInput, auditPruneView, auditView } from '../../model/access.ts'
import { page } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { InvalidRequest } from '../problem.ts'
import { requires } from '../roles.ts'
import { body, cursorOf, json, noQuery, pageOf, pageQuery, problems } from './answers.ts'

const tags = ['audit']
const text = z.string().min(1).max(300).optional()

const list = createRoute({
  method: 'get',
  path: '/v1/audit',
  tags,
  ...requires('admin'),
  summary: 'Who changed what, and who was refused; newest first',
  request: {
    query: z.strictObject({
      actor: text,
      action: text,
      object: text,
      outcome: auditView.shape.outcome.optional(),
      since: z.iso.datetime({ offset: true }).optional(),
      until: z.iso.datetime({ offset: true }).optional(),
      ...pageQuery,
    }),
  },
  responses: { 200: json(page(auditView), 'A page'), ...problems },
})
const check = createRoute({
  method: 'get',
  path: '/v1/audit/check',
  tags,
  ...requires('admin'),
  summary: 'Are all rows as they were written?',
  request: { query: noQuery },
  responses: { 200: json(auditCheckView, 'What was found'), ...problems },
})

const prune = createRoute({
  method: 'post',
  path: '/v1/audit/prune',
  tags,
  ...requires('admin'),
  summary: 'Remove the oldest rows; those that are kept can still be checked',
  request: { body: body(auditPruneInput) },
  responses: { 200: json(auditPruneView, 'What went'), ...problems },
})

/** Whoever has become admin today cannot remove how. */
const keptDays = 30

export function auditRoutes(app: OpenAPIHono<ApiEnv>, { catalog }: ApiContext): void {
  app.openapi(list, async c => {
    const { cursor, limit = 50, since, until, ...filter } = c.req.valid('query')
    const before = cursor === undefined ? undefined : Number(cursor.id)
    if (before !== undefined && !Number.isSafeInteger(before)) {
      throw new InvalidRequest([{ path: 'cursor', message: 'not a cursor of this list' }])
    }
    const found = await listAudit(
      catalog,
      { ...filter, since: utc(since), until: utc(until) },
      before,
      limit + 1,
    )
    return c.json(
      pageOf(
        found,
        limit,
        last => cursorOf(last.at, String(last.seq)),
        row => row,
      ),
      200,
    )
  })
  app.openapi(check, async c => c.json(await checkAudit(catalog), 200))
  app.openapi(prune, async c => {
    const { before, dryRun = false } = c.req.valid('json')
    if (Date.parse(before) > Date.now() - keptDays * 86_400_000) {
      throw new InvalidRequest([
        { path: 'before', message: `the rows of the last ${keptDays} days are always kept` },
      ])
    }
    return c.json(await pruneAudit(catalog, new Date(before).toISOString(), c.get('actor'), dryRun), 200)
  })
}

const utc = (time: string | undefined) => (time === undefined ? undefined : new Date(time).toISOString())
