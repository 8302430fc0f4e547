/** The routes, and what stands before them. */
import { OpenAPIHono } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { withAudit, withBegunAudit } from './audited.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { internalRoutes } from './internal.ts'
import {
  withActor,
  withAddress,
  withBodyLimit,
  withHeadersAndLog,
  withIdempotency,
  withJson,
  withWorkerToken,
} from './middleware.ts'
import { answerError, fieldsOf, HttpRefusal, InvalidRequest } from './problem.ts'
import { neededRoles, withRole } from './roles.ts'
import { backupRoutes } from './routes/backups.ts'
import { connectionRoutes } from './routes/connections.ts'
import { destinationRoutes } from './routes/destinations.ts'
import { healthRoutes } from './routes/health.ts'
import { keyRoutes } from './routes/keys.ts'
import { maintenanceRoutes } from './routes/maintenance.ts'
import { operationRoutes } from './routes/operations.ts'
import { restoreRoutes } from './routes/restores.ts'
import { version } from './version.ts'

const mebibyte = 1024 * 1024

export function createApp(context: ApiContext): OpenAPIHono<ApiEnv> {
  const app = new OpenAPIHono<ApiEnv>({
    defaultHook: result => {
      if (!result.success) throw new InvalidRequest(fieldsOf(result.error))
    },
  })
  app.use(withHeadersAndLog(context), withAddress)
  app.use(
    '/v1/*',
    withAudit(context),
    withActor(context),
    withRole(() => needed),
    withBodyLimit(mebibyte),
    withJson,
    withIdempotency(context),
    withBegunAudit(context),
  )
  // Manifests and plans of databases with many tables are larger than what people send.
  app.use('/internal/*', withWorkerToken(context), withBodyLimit(32 * mebibyte))

  healthRoutes(app, context)
  connectionRoutes(app, context)
  destinationRoutes(app, context)
  backupRoutes(app, context)
  restoreRoutes(app, context)
  operationRoutes(app, context)
  keyRoutes(app, context)
  maintenanceRoutes(app, context)
  const needed = neededRoles(app)

  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', { type: 'http', scheme: 'bearer' })
  app.doc31('/openapi.json', {
    openapi: '3.1.0',
    info: {
      title: 'Holdfast',
      version,
      description: 'Durable database backup and restore. Errors are problem+json with stable codes.',
    },
    security: [{ bearer: [] }],
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
