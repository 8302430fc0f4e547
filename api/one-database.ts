/** A recovery that is for one database: what is dumped from its copy, and the restore that is asked for then. */
import { randomBytes } from 'node:crypto'
import { readConnection, type StoredConnection } from '../catalog/connections.ts'
import { readOperation } from '../catalog/operations.ts'
import { engineOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import type { PitrRequestInput } from '../model/inputs.ts'
import type { Actor, BackupRecord, ConnectionRecord, OneDatabase } from '../model/records.ts'
import type { ApiContext } from './context.ts'
import { InvalidRequest } from './problem.ts'
import { assertTargetWithin } from './reach.ts'
import { newBackup } from './routes/backups.ts'
import { submitRestore } from './routes/restores.ts'
import { submittedBefore } from './submit.ts'

/** Under /tmp: a socket's path is short. */
export const newSocket = (): string => `/tmp/holdfast-copy-${readable(randomBytes(8)).toLowerCase()}`

/** Refuses before anything is touched what would be refused at the end. */
export async function oneDatabase(
  context: ApiContext,
  { operationId, request, actor }: { operationId: string; request: PitrRequestInput; actor: Actor },
  copy: { base: BackupRecord; target: StoredConnection; socket: string; destination: string | undefined },
): Promise<OneDatabase | undefined> {
  const { only } = request
  if (only === undefined) return undefined
  refuseOdd(request)
  const into = await readConnection(context.catalog, only.into.connection)
  await assertTargetWithin(context.catalog, actor, into, { database: only.into.database, preempt: false })
  if (into.engine !== copy.target.engine || into.method !== 'logical') {
    throw new HoldfastError(
      'restore.mismatch',
      `Connection ${into.name} is ${engineOf(into.engine).title} (${into.method}); one database is restored by a logical one.`,
      { hint: 'holdfast connection add NAME URL --method logical' },
    )
  }
  const { recovery } = engineOf(copy.target.engine).methods.physical ?? {}
  if (!recovery) throw new HoldfastError('internal', `${copy.target.engine} recovers nothing.`)
  const { settings, serverIdentity } = recovery.served(copy.base.manifest, copy.socket, only.database)
  const through: ConnectionRecord = {
    name: `${request.connection.slice(0, 48)}-at-${randomBytes(5).toString('hex')}`,
    engine: copy.target.engine,
    method: 'logical',
    settings,
    secretFields: [],
    host: copy.target.host,
    serverIdentity,
    serverVersion: copy.base.manifest.server.version,
    createdAt: new Date().toISOString(),
  }
  const destination = only.destination ?? copy.destination
  const { input: dump } = await newBackup(
    context,
    {
      connection: through.name,
      ...(destination === undefined ? {} : { destinations: [destination] }),
      labels: { 'recovered-from': request.connection },
    },
    undefined,
    through,
  )
  if (dump.hostWorker) {
    throw new InvalidRequest([
      {
        path: 'only',
        message: 'not on a host with a worker of its own: leave the copy running, and back it up',
      },
    ])
  }
  return {
    dump: { ...dump, partOf: operationId },
    into: only.into,
    overwriteExisting: only.overwriteExisting ?? false,
    keepOldSeconds: only.keepOldSeconds ?? null,
    reason: request.reason ?? null,
    // What it makes on the way belongs to who asked for it.
    by: {
      name: actor.name,
      user: actor.user,
      connections: actor.connections && [...actor.connections, through.name],
    },
  }
}

function refuseOdd({ only, reason, port, start, action }: PitrRequestInput): void {
  const problems: { path: string; message: string }[] = []
  if (port !== undefined || start || (action ?? 'promote') !== 'promote') {
    problems.push({ path: 'only', message: 'the copy is removed: no port, no start, no other action' })
  }
  if (only?.overwriteExisting && !reason?.trim()) {
    problems.push({ path: 'reason', message: 'say why something is to be replaced' })
  }
  if (problems.length > 0) throw new InvalidRequest(problems)
}

/** Answers the id of the operation. Asked again, it is the same one. */
export async function restoreDump(context: ApiContext, recoveryId: string): Promise<string> {
  const { input } = await readOperation(context.catalog, recoveryId)
  const only = 'only' in input ? input.only : undefined
  if (!only) throw new HoldfastError('internal', `${recoveryId} is for no single database.`)
  const key = `recovery/${recoveryId}`
  const { id } =
    (await submittedBefore(context, key)) ??
    (await submitRestore(
      context,
      {
        backup: only.dump.backupId,
        target: only.into,
        overwriteExisting: only.overwriteExisting,
        ...(only.keepOldSeconds === null ? {} : { keepOldSeconds: only.keepOldSeconds }),
        ...(only.reason === null ? {} : { reason: only.reason }),
        unattended: 'unattended' in input && input.unattended,
      },
      only.by,
      key,
    ))
  return id
}
