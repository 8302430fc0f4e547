import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { expectRestorable } from '../../activities/foreign.ts'
import { lookForFrozen } from '../../activities/thaw.ts'
import { findBackup, listBackups, readBackup } from '../../catalog/backups.ts'
import { readConnection } from '../../catalog/connections.ts'
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
import type { Actor, BackupRecord, NeededBackup, OperationRecord, RestoreInput } from '../../model/records.ts'
import { accepted } from '../../model/views.ts'
import { boundTo } from '../../storage/bound.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { refuseWithoutConsent, safetyBackupOf, submitAsking } from '../consent.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { copiesToRead } from '../copying.ts'
import { InvalidRequest } from '../problem.ts'
import { assertTargetWithin, assertWithin, limitOf, within } from '../reach.ts'
import { requires } from '../roles.ts'
import { servedAt } from '../served.ts'
import { newOperation, newOperationId, patienceOf, submittedBefore } from '../submit.ts'
import { operationViewOf } from '../views.ts'
import { body, json, problems } from './answers.ts'
import { defaultJobs, neededBy, readCommitted } from './backups.ts'

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

type Asker = Pick<Actor, 'name' | 'user' | 'connections'>

export async function submitRestore(
  context: ApiContext,
  request: RestoreRequestInput,
  actor: Asker,
  requestKey: string | null,
): Promise<OperationRecord> {
  return await submitAsking(context, await newRestore(context, request, actor), request, actor, requestKey)
}

async function newRestore(
  context: ApiContext,
  request: RestoreRequestInput,
  actor: Asker,
): Promise<OperationRecord> {
  assertWithin(actor, request.target.connection)
  const target = await readConnection(context.catalog, request.target.connection)
  refuseWithoutConsent(request, target)
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
  const parents = await neededBy(context, backup)
  const operationId = newOperationId()
  const input: RestoreInput = {
    version: 1,
    operationId,
    backupId: backup.id,
    copies,
    sourceConnection: backup.connection,
    ...(parents.length === 0 ? {} : { parents }),
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
    ...(request.allow ? { allow: request.allow } : {}),
    keepOldSeconds: request.keepOldSeconds ?? 86_400,
    safetyBackup: await safetyBackupOf(context, operationId, request, request.target.database, target),
    approvalId: null,
    before: [],
    ...(await servedAt(context.catalog, target.host, [
      ...copies,
      ...parents.flatMap(needed => needed.copies),
    ])),
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
      : request.overwriteExisting || (await isFrozen(context, backup, copies, parents))
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
async function isFrozen(
  context: ApiContext,
  backup: BackupRecord,
  copies: string[],
  parents: readonly NeededBackup[],
): Promise<boolean> {
  const { id: backupId, connection: sourceConnection } = backup
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
    for (const one of [{ copies, backupId, sourceConnection }, ...parents]) {
      const { manifest } = await readBackup(context.catalog, one.backupId)
      if ((await lookForFrozen(open, one, manifest)) !== null) return true
    }
    return false
  } catch (error) {
    if (late.aborted) return false
    throw error
  } finally {
    for (const destination of opened) await destination.close()
  }
}

/** A backup id, `CONNECTION:latest` or `CONNECTION:previous`. */
export async function resolveBackup(
  context: ApiContext,
  reference: string,
  actor: Pick<Actor, 'connections'>,
): Promise<BackupRecord> {
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
