/** Accepting what may replace something: it begins by asking, and somebody has to approve. */
import { insertApproval } from '../catalog/approvals.ts'
import { listConnections, type StoredConnection } from '../catalog/connections.ts'
import { engineOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { Actor, BackupInput, OperationRecord } from '../model/records.ts'
import type { Allowance } from '../model/types.ts'
import type { ApiContext } from './context.ts'
import { InvalidRequest } from './problem.ts'
import { newBackup } from './routes/backups.ts'
import { submit } from './submit.ts'

/** What such requests have in common. */
export interface Replacing {
  overwriteExisting?: boolean | undefined
  reason?: string | undefined
  dryRun?: boolean | undefined
  safetyBackup?: { destination: string } | undefined
  keepOldSeconds?: number | undefined
  allow?: Allowance[] | undefined
}

export function refuseWithoutConsent(request: Replacing, target: StoredConnection): void {
  const problems: { path: string; message: string }[] = []
  if (request.overwriteExisting && !request.dryRun && !request.reason?.trim()) {
    problems.push({ path: 'reason', message: 'say why something is to be replaced' })
  }
  if (!request.overwriteExisting) {
    for (const path of ['safetyBackup', 'keepOldSeconds', 'allow'] as const) {
      if (request[path] !== undefined) problems.push({ path, message: 'only with overwriteExisting' })
    }
  }
  if (request.allow && engineOf(target.engine).methods[target.method]?.swap !== 'directory') {
    problems.push({ path: 'allow', message: 'only where a data directory is replaced' })
  }
  if (problems.length > 0) throw new InvalidRequest(problems)
}

/** What may replace something begins by asking for consent: the request for it is stored with the operation. */
export async function submitAsking(
  context: ApiContext,
  operation: OperationRecord,
  request: Replacing,
  actor: Pick<Actor, 'name' | 'user'>,
  requestKey: string | null,
): Promise<OperationRecord> {
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
export async function safetyBackupOf(
  context: ApiContext,
  restoreId: string,
  request: Replacing,
  database: string,
  target: StoredConnection,
): Promise<BackupInput | null> {
  if (!request.safetyBackup) return null
  const engine = engineOf(target.engine)
  // What restores a directory backs up the whole server that is in it.
  const isWhole = engine.methods[target.method]?.directoryUrl !== undefined
  const all = [target, ...(await listConnections(context.catalog))]
  const connection = all.find(
    one =>
      one.serverIdentity === target.serverIdentity &&
      // It is made by the same workers.
      one.host === target.host &&
      (isWhole ? one.method === target.method : engine.databaseOf(one.settings) === database),
  )
  if (!connection) {
    throw new HoldfastError(
      'restore.safety-backup',
      `There is no connection of ${database} on the server of ${target.name}: nothing could back it up first.`,
    )
  }
  // What is about to be replaced is not written to.
  const { canary: _, ...input } = (
    await newBackup(context, {
      connection: connection.name,
      destinations: [request.safetyBackup.destination],
      labels: { 'safety-of': restoreId },
    })
  ).input as BackupInput
  return { ...input, partOf: restoreId }
}
