import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { expectRestorable } from '../../activities/foreign.ts'
import { lookForFrozen } from '../../activities/thaw.ts'
import { insertApproval } from '../../catalog/approvals.ts'
import { findBackup, listBackups } from '../../catalog/backups.ts'
import { listConnections, readConnection, type StoredConnection } from '../../catalog/connections.ts'
import { destinationSecrets, readDestination } from '../../catalog/destinations.ts'
import { engineOf } from '../../engines/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import {
  backupIdPattern,
  dryRunWorkflowId,
  requestWorkflowId,
  serverLock,
  slugPattern,
} from '../../model/ids.ts'
import { type RestoreRequestInput, restoreInput } from '../../model/inputs.ts'
import type { Actor, BackupInput, BackupRecord, OperationRecord, RestoreInput } from '../../model/records.ts'
import { accepted } from '../../model/views.ts'
import { boundTo } from '../../storage/bound.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { copiesToRead } from '../copying.ts'
import { InvalidRequest } from '../problem.ts'
import { assertTargetWithin, assertWithin, limitOf, within } from '../reach.ts'
import { requires } from '../roles.ts'
import { servedAt } from '../served.ts'
import { newOperation, newOperationId, patienceOf, submit, submittedBefore } from '../submit.ts'
import { operationViewOf } from '../views.ts'
import { body, json, problems } from './answers.ts'
import { defaultJobs, neededBy, newBackup, readCommitted } from './backups.ts'

const start = createRoute({
  method: 'post',
  path: '/v1/restores',
  tags: ['restores'],
  ...requires('operator', 'checked'),
  summary: 'Restore a backup beside, under a new name; or over what is there, once that is approved',
  request: { body: body(restoreInput) },
  responses: { 202: json(accepted, 'Accepted: it goes on whatever happens to this process'), ...problems },
})

export function restoreRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  app.openapi(start, async c => {
    const requestKey = c.get('requestKey')
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submitRestore(context, c.req.valid('json'), c.get('actor'), requestKey))
    return c.json({ operation: operationViewOf(operation, context.temporal) }, 202)
  })
}

function refuseWithoutConsent(request: RestoreRequestInput): void {
  const problems: { path: string; message: string }[] = []
  if (request.overwriteExisting && !request.dryRun && !request.reason?.trim()) {
    problems.push({ path: 'reason', message: 'say why something is to be replaced' })
  }
  if (!request.overwriteExisting) {
    for (const path of ['safetyBackup', 'keepOldSeconds'] as const) {
      if (request[path] !== undefined) problems.push({ path, message: 'only with overwriteExisting' })
    }
  }
  if (problems.length > 0) throw new InvalidRequest(problems)
}

/** What may replace something begins by asking for consent: the request for it is stored with the operation. */
async function submitRestore(
  context: ApiContext,
  request: RestoreRequestInput,
  actor: Actor,
  requestKey: string | null,
): Promise<OperationRecord> {
  const operation = await newRestore(context, request, actor)
  // Nothing is done by a dry run: nobody has to consent.
  if (!request.overwriteExisting || request.dryRun) return await submit(context, operation, requestKey)
  const expiresAt = new Date(Date.now() + context.settings.approvalSeconds * 1000).toISOString()
  return await submit(context, operation, requestKey, tx =>
    insertApproval(tx, operation.id, {
      requestedBy: actor.name,
      requestedUser: actor.user,
      reason: request.reason ?? null,
      expiresAt,
    }),
  )
}

/** Of the database that is to be replaced: through a connection that means that very database. */
async function safetyBackupOf(
  context: ApiContext,
  restoreId: string,
  request: RestoreRequestInput,
  target: StoredConnection,
): Promise<BackupInput | null> {
  if (!request.safetyBackup) return null
  const engine = engineOf(target.engine)
  const all = [target, ...(await listConnections(context.catalog))]
  const connection = all.find(
    one =>
      one.serverIdentity === target.serverIdentity &&
      // It is made by the same workers.
      one.host === target.host &&
      engine.databaseOf(one.settings) === request.target.database,
  )
  if (!connection) {
    throw new HoldfastError(
      'restore.safety-backup',
      `There is no connection of ${request.target.database} on the server of ${target.name}: nothing could back it up first.`,
    )
  }
  const { input } = await newBackup(context, {
    connection: connection.name,
    destinations: [request.safetyBackup.destination],
    labels: { 'safety-of': restoreId },
  })
  return { ...(input as BackupInput), partOf: restoreId }
}

async function newRestore(
  context: ApiContext,
  request: RestoreRequestInput,
  actor: Actor,
): Promise<OperationRecord> {
  refuseWithoutConsent(request)
  assertWithin(actor, request.target.connection)
  const target = await readConnection(context.catalog, request.target.connection)
  await assertTargetWithin(context.catalog, actor, target, {
    database: request.target.database,
    preempt: request.preempt ?? false,
  })
  const backup = await resolveBackup(context, request.backup, actor)
  if (backup.foreign) expectRestorable(backup.id, backup.foreign)
  // A file of another program's making belongs to no method: its format tells how it is loaded.
  if (backup.engine !== target.engine || (!backup.foreign && backup.method !== target.method)) {
    const titles = [backup, target].map(one => `${engineOf(one.engine).title} (${one.method})`)
    throw new HoldfastError(
      'restore.mismatch',
      `Backup ${backup.id} is of ${titles[0]}; connection ${target.name} is ${titles[1]}.`,
    )
  }
  const copies = copiesToRead(backup, request.from)
  const operationId = newOperationId()
  const input: RestoreInput = {
    version: 1,
    operationId,
    backupId: backup.id,
    copies,
    sourceConnection: backup.connection,
    ...(backup.manifest.parent === null ? {} : { parents: await neededBy(context, backup) }),
    targetConnection: target.name,
    targetEngine: target.engine,
    targetDatabase: request.target.database,
    serverIdentity: target.serverIdentity,
    jobs: request.jobs ?? defaultJobs(),
    noOwner: request.noOwner ?? false,
    ...(request.bandwidth === undefined ? {} : { bandwidth: request.bandwidth }),
    dryRun: request.dryRun ?? false,
    preempt: request.preempt ?? false,
    ...patienceOf(context, request),
    overwriteExisting: request.overwriteExisting ?? false,
    keepOldSeconds: request.keepOldSeconds ?? 86_400,
    safetyBackup: await safetyBackupOf(context, operationId, request, target),
    approvalId: null,
    before: [],
    ...(await servedAt(context.catalog, target.host, copies)),
  }
  return {
    ...newOperation(),
    id: input.operationId,
    kind: 'restore',
    connection: target.name,
    engine: target.engine,
    backupId: backup.id,
    destination: copies[0],
    targetDatabase: request.target.database,
    workflowId: input.dryRun
      ? dryRunWorkflowId(input.operationId)
      : request.overwriteExisting || (await isFrozen(context, backup, copies))
        ? requestWorkflowId(operationId)
        : serverLock(target.serverIdentity),
    input,
    warnings: [],
    createdAt: new Date().toISOString(),
  }
}

const lookSeconds = 5

/**
 * Bringing a backup back from an archive takes hours: until then the restore must not hold the server. A store that does not
 * tell in time keeps nobody; the restore then finds out under its lock.
 */
async function isFrozen(context: ApiContext, backup: BackupRecord, copies: string[]): Promise<boolean> {
  const { id: backupId, connection: sourceConnection, manifest } = backup
  const late = AbortSignal.timeout(lookSeconds * 1000)
  const opened: Destination[] = []
  const open = async (name: string) => {
    const record = await readDestination(context.catalog, name)
    const secrets = await destinationSecrets(context.catalog, name)
    const destination = await openDestination(record, secrets, { shellOn: context.shellOn })
    opened.push(destination)
    return boundTo(late, destination)
  }
  try {
    return (await lookForFrozen(open, { copies, backupId, sourceConnection }, manifest)) !== null
  } catch (error) {
    if (late.aborted) return false
    throw error
  } finally {
    for (const destination of opened) await destination.close()
  }
}

/** A backup id, `CONNECTION:latest` or `CONNECTION:previous`. */
async function resolveBackup(context: ApiContext, reference: string, actor: Actor): Promise<BackupRecord> {
  if (backupIdPattern.test(reference)) {
    const backup = await findBackup(context.catalog, reference)
    if (backup && !within(actor, backup.connection)) throw notThere(`There is no backup ${reference}.`)
    return await readCommitted(context, reference)
  }
  const [connection = '', which, ...more] = reference.split(':')
  if (!slugPattern.test(connection) || (which !== 'latest' && which !== 'previous') || more.length > 0) {
    throw new InvalidRequest([
      { path: 'backup', message: 'use a backup id, CONNECTION:latest or CONNECTION:previous' },
    ])
  }
  const filter = { connection, ...limitOf(actor), committed: true } as const
  const found = await listBackups(context.catalog, filter, undefined, 2)
  const chosen = found[which === 'latest' ? 0 : 1]
  if (chosen) return chosen
  const count = found.length === 1 ? 'one backup' : 'no backup'
  throw notThere(`There is no ${reference}: ${connection} has ${count}.`)
}

const notThere = (text: string) => new HoldfastError('backup.not-found', text)
