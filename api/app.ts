/** The routes, and what stands before them. */
import { OpenAPIHono } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { withActor, withWorkerToken } from './actor.ts'
import { withAudit, withBegunAudit } from './audited.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { docsHeaders, docsPage } from './docs-page.ts'
import { internalRoutes } from './internal.ts'
import { withBodyLimit, withHeadersAndLog, withIdempotency, withJson } from './middleware.ts'
import { withHost, withOrigin } from './origin.ts'
import { answerError, fieldsOf, HttpRefusal, InvalidRequest } from './problem.ts'
import { withReach } from './reach.ts'
import { neededRoles, routeOf, withRole } from './roles.ts'
import { approvalRoutes } from './routes/approvals.ts'
import { auditRoutes } from './routes/audit.ts'
import { backupRoutes } from './routes/backups.ts'
import { bandwidthRoutes } from './routes/bandwidth.ts'
import { changeRoutes } from './routes/changes.ts'
import { connectionRoutes } from './routes/connections.ts'
import { destinationRoutes } from './routes/destinations.ts'
import { drillRoutes } from './routes/drills.ts'
import { eventRoutes } from './routes/events.ts'
import { healthRoutes } from './routes/health.ts'
import { hookRoutes } from './routes/hooks.ts'
import { hostChangeRoute } from './routes/host-change.ts'
import { hostRoutes } from './routes/hosts.ts'
import { keyRoutes } from './routes/keys.ts'
import { logStreamRoutes } from './routes/log-streams.ts'
import { maintenanceRoutes } from './routes/maintenance.ts'
import { operationRoutes } from './routes/operations.ts'
import { pitrRoutes } from './routes/pitr.ts'
import { planRoutes } from './routes/plans.ts'
import { restoreRoutes } from './routes/restores.ts'
import { scheduleRoutes } from './routes/schedules.ts'
import { scrubRoutes } from './routes/scrub.ts'
import { sessionRoutes } from './routes/sessions.ts'
import { statusRoutes } from './routes/status.ts'
import { tieringRoutes } from './routes/tiering.ts'
import { tokenRoutes } from './routes/tokens.ts'
import { userRoutes } from './routes/users.ts'
import { version } from './version.ts'

const mebibyte = 1024 * 1024

const described = {
  openapi: '3.1.0',
  info: {
    title: 'Holdfast',
    version,
    description: 'Durable database backup and restore. Errors are problem+json with stable codes.',
  },
  security: [{ bearer: [] }, { session: [] }],
}

export function createApp(context: ApiContext): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>({
    defaultHook: result => {
      if (!result.success) throw new InvalidRequest(fieldsOf(result.error))
    },
  })
  app.use(withHeadersAndLog(context), withOrigin(context.settings), withHost(context.settings))
  app.use(
    '/v1/*',
    withAudit(context),
    withActor(context, c => needed.get(routeOf(c) ?? '')?.role === 'none'),
    withRole(() => needed),
    withReach(context, () => needed),
    withBodyLimit(mebibyte),
    withJson,
    withIdempotency(context),
    withBegunAudit(context, () => needed),
  )
  // Manifests and plans of databases with many tables are larger than what people send.
  app.use('/internal/*', withWorkerToken(context), withBodyLimit(32 * mebibyte))

  healthRoutes(app, context)
  connectionRoutes(app, context)
  hookRoutes(app, context)
  hostRoutes(app, context)
  hostChangeRoute(app, context)
  bandwidthRoutes(app, context)
  destinationRoutes(app, context)
  changeRoutes(app, context)
  backupRoutes(app, context)
  restoreRoutes(app, context)
  drillRoutes(app, context)
  approvalRoutes(app, context)
  operationRoutes(app, context)
  eventRoutes(app, context)
  planRoutes(app, context)
  pitrRoutes(app, context)
  logStreamRoutes(app, context)
  scheduleRoutes(app, context)
  scrubRoutes(app, context)
  tieringRoutes(app, context)
  keyRoutes(app, context)
  maintenanceRoutes(app, context)
  userRoutes(app, context)
  tokenRoutes(app, context)
  sessionRoutes(app, context)
  auditRoutes(app, context)
  statusRoutes(app, context)
  const needed = neededRoles(app)

  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', { type: 'http', scheme: 'bearer' })
  app.openAPIRegistry.registerComponent('securitySchemes', 'session', {
    type: 'apiKey',
    in: 'cookie',
    name: 'holdfast_session',
    description: 'Over TLS `__Host-holdfast_session`. Changes need the header X-CSRF-Token, too.',
  })
  // Made once, when somebody first asks: it takes a while, and everybody may ask.
  let description: string | undefined
  const describe = (): string => {
    description ??= JSON.stringify(app.getOpenAPI31Document(described))
    return description
  }
  let page: string | undefined
  app.get('/openapi.json', c => c.body(describe(), 200, { 'content-type': 'application/json' }))
  app.get('/docs', c => {
    page ??= docsPage(JSON.parse(describe()))
    return c.body(page, 200, docsHeaders)
  })
  app.route('/internal/v1', internalRoutes(context))

  const publicRoutes = methodsByPath(app)
  app.notFound(c => answerError(nobodyThere(c, publicRoutes), c, context.log))
  app.onError((error, c) => answerError(error, c, context.log))
  return app
}

/** Which methods a path has, for telling 405 from 404. */
function methodsByPath(app: OpenAPIHono<ApiEnv>): { pattern: RegExp; method: string }[] {
  return app.routes
    .filter(route => route.method !== 'ALL')
    .map(({ path, method }) => ({
      method,
      pattern: new RegExp(`^${path.replace(/[.+*?^$()[\]{}|\\]/g, '\\$&').replace(/:[a-zA-Z]+/g, '[^/]+')}$`),
    }))
}

function nobodyThere(c: Context, routes: { pattern: RegExp; method: string }[]): HttpRefusal {
  const path = c.req.path
  const allowed = [...new Set(routes.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method))]
  if (allowed.length === 0) return new HttpRefusal(404, 'There is nothing at this address.')
  return new HttpRefusal(405, `This address takes ${allowed.join(' and ')} only.`, {
    allow: allowed.join(', '),
  })
}
