import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { listBackups } from '../../catalog/backups.ts'
import { readConnection } from '../../catalog/connections.ts'
import { readDestination } from '../../catalog/destinations.ts'
import { engineOf } from '../../engines/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import { backupIdPattern, dryRunWorkflowId, serverLock, slugPattern } from '../../model/ids.ts'
import type { BackupRecord, OperationRecord, RestoreInput } from '../../model/records.ts'
import { accepted, type RestoreRequestInput, restoreInput } from '../../model/schemas.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { InvalidRequest } from '../problem.ts'
import { requires } from '../roles.ts'
import { newOperation, newOperationId, patienceOf, submit, submittedBefore } from '../submit.ts'
import { operationViewOf } from '../views.ts'
import { body, json, problems } from './answers.ts'
import { defaultJobs, readCommitted } from './backups.ts'

const start = createRoute({
  method: 'post',
  path: '/v1/restores',
  tags: ['restores'],
  ...requires('operator'),
  summary: 'Restore a backup beside, under a new name',
  request: { body: body(restoreInput) },
  responses: { 202: json(accepted, 'Accepted: it goes on whatever happens to this process'), ...problems },
})

export function restoreRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  app.openapi(start, async c => {
    const requestKey = c.get('requestKey')
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(context, await newRestore(context, c.req.valid('json')), requestKey))
    return c.json({ operation: operationViewOf(operation, context.temporal) }, 202)
  })
}

async function newRestore(context: ApiContext, request: RestoreRequestInput): Promise<OperationRecord> {
  const target = await readConnection(context.catalog, request.target.connection)
  const backup = await resolveBackup(context, request.backup)
  if (backup.engine !== target.engine || backup.method !== target.method) {
    const titles = [backup, target].map(one => `${engineOf(one.engine).title} (${one.method})`)
    throw new HoldfastError(
      'restore.mismatch',
      `Backup ${backup.id} is of ${titles[0]}; connection ${target.name} is ${titles[1]}.`,
    )
  }
  await readDestination(context.catalog, backup.destination)
  const input: RestoreInput = {
    version: 1,
    operationId: newOperationId(),
    backupId: backup.id,
    destination: backup.destination,
    sourceConnection: backup.connection,
    targetConnection: target.name,
    targetEngine: target.engine,
    targetDatabase: request.target.database,
    serverIdentity: target.serverIdentity,
    jobs: request.jobs ?? defaultJobs(),
    noOwner: request.noOwner ?? false,
    dryRun: request.dryRun ?? false,
    preempt: request.preempt ?? false,
    ...patienceOf(context, request),
  }
  return {
    ...newOperation(),
    id: input.operationId,
    kind: 'restore',
    connection: target.name,
    engine: target.engine,
    backupId: backup.id,
    destination: backup.destination,
    targetDatabase: request.target.database,
    workflowId: input.dryRun ? dryRunWorkflowId(input.operationId) : serverLock(target.serverIdentity),
    input,
    warnings: [],
    createdAt: new Date().toISOString(),
  }
}

/** A backup id, `CONNECTION:latest` or `CONNECTION:previous`. */
async function resolveBackup(context: ApiContext, reference: string): Promise<BackupRecord> {
  if (backupIdPattern.test(reference)) return await readCommitted(context, reference)
  const [connection = '', which, ...more] = reference.split(':')
  if (!slugPattern.test(connection) || (which !== 'latest' && which !== 'previous') || more.length > 0) {
    throw new InvalidRequest([
      { path: 'backup', message: 'use a backup id, CONNECTION:latest or CONNECTION:previous' },
    ])
  }
  const found = await listBackups(context.catalog, { connection, state: 'committed' }, undefined, 2)
  const chosen = found[which === 'latest' ? 0 : 1]
  if (chosen) return chosen
  const count = found.length === 1 ? 'one backup' : 'no backup'
  throw new HoldfastError('backup.not-found', `There is no ${reference}: ${connection} has ${count}.`)
}
