/** Accepting that a server is made to archive its log. */
import type { StoredConnection } from '../catalog/connections.ts'
import { listDestinations } from '../catalog/destinations.ts'
import { hostWorkerOf } from '../catalog/hosts.ts'
import { engineOf } from '../engines/index.ts'
import type { EnablePitrRequest } from '../model/archiving-views.ts'
import { systemIdentifierOf } from '../model/base-backups.ts'
import { HoldfastError } from '../model/errors.ts'
import { dryRunWorkflowId, enablePitrWorkflowId } from '../model/ids.ts'
import type { EnablePitrInput, OperationRecord } from '../model/records.ts'
import type { ApiContext } from './context.ts'
import { newOperation, newOperationId, patienceOf } from './submit.ts'

/** A server is restarted when it suits, which takes longer than mending what went wrong. */
const restartSeconds = 7 * 86_400
/** A week of it stays well below what Temporal keeps of one workflow. */
const lookSeconds = 900

/** Throws `wal.not-postgresql`. */
export async function newEnabling(
  context: ApiContext,
  connection: StoredConnection,
  request: EnablePitrRequest,
): Promise<OperationRecord> {
  const { name, engine, serverIdentity } = connection
  if (engineOf(engine).archiving === undefined || systemIdentifierOf(serverIdentity) === undefined) {
    throw new HoldfastError(
      'wal.not-postgresql',
      `Connection ${name} is no PostgreSQL server whose system identifier is known.`,
    )
  }
  const operationId = newOperationId()
  const hostWorker = await hostWorkerOf(context.catalog, connection.host)
  const dryRun = request.dryRun ?? false
  const patience = patienceOf(context, request)
  const input: EnablePitrInput = {
    version: 1,
    operationId,
    connection: name,
    engine,
    serverIdentity,
    program: request.program ?? 'holdfast',
    config: request.config ?? null,
    timeoutSeconds: request.archiveTimeoutSeconds ?? null,
    replace: request.replace ?? false,
    places: (await listDestinations(context.catalog)).map(one => one.name),
    dryRun,
    ...patience,
    parkSeconds: Math.max(patience.parkSeconds, restartSeconds),
    parkRetrySeconds: Math.min(patience.parkRetrySeconds, lookSeconds),
    ...(hostWorker ? { hostWorker } : {}),
  }
  return {
    ...newOperation(),
    id: operationId,
    kind: 'enablePitr',
    connection: name,
    engine,
    backupId: null,
    destination: null,
    targetDatabase: null,
    workflowId: dryRun ? dryRunWorkflowId(operationId) : enablePitrWorkflowId(serverIdentity),
    input,
    warnings: [],
    createdAt: new Date().toISOString(),
  }
}
