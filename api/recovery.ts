/** Accepting a recovery: whether its target can be reached, and from which base backup, is settled before anything is touched. */

import { readConnection, type StoredConnection } from '../catalog/connections.ts'
import { listDestinations } from '../catalog/destinations.ts'
import { listRestorePoints } from '../catalog/restore-points.ts'
import { engineOf } from '../engines/index.ts'
import { baseOf, endedByServer, systemIdentifierOf } from '../model/base-backups.ts'
import { HoldfastError } from '../model/errors.ts'
import { dryRunWorkflowId, pitrWorkflowId, requestWorkflowId } from '../model/ids.ts'
import type { PitrRequestInput } from '../model/inputs.ts'
import type {
  Actor,
  BackupRecord,
  OperationRecord,
  PitrInput,
  RecoveryOrder,
  RecoveryTarget,
} from '../model/records.ts'
import { endsBefore, type Question, type Reachable, reach } from '../model/recovery-reach.ts'
import { instantOf } from '../model/recovery-time.ts'
import type { RestorePointView } from '../model/recovery-views.ts'
import { recoveryWindows } from '../model/recovery-window.ts'
import { formatLsn, parseLsn, segmentAt } from '../model/wal.ts'
import type { Destination } from '../storage/destination.ts'
import { streamKey } from '../storage/wal/layout.ts'
import { archivedAtOf, listLog } from '../storage/wal/listing.ts'
import { refuseWithoutConsent, safetyBackupOf } from './consent.ts'
import type { ApiContext } from './context.ts'
import { copiesToRead } from './copying.ts'
import { newSocket, oneDatabase } from './one-database.ts'
import { InvalidRequest } from './problem.ts'
import { assertTargetWithin, assertWithin } from './reach.ts'
import { basesOf, patienceMs, withinPatience } from './recovery-windows.ts'
import { defaultJobs, neededBy } from './routes/backups.ts'
import { servedAt } from './served.ts'
import { newOperation, newOperationId, patienceOf } from './submit.ts'

const usualWalConfig = '/etc/holdfast/wal.json'

/** Throws `pitr.*`, `wal.*`, `restore.*`, `destination.*`. */
export async function newRecovery(
  context: ApiContext,
  request: PitrRequestInput,
  actor: Actor,
): Promise<OperationRecord> {
  assertWithin(actor, request.connection)
  const source = await readConnection(context.catalog, request.connection)
  const { directory } = request.target
  const to = request.target.connection ?? source.name
  assertWithin(actor, to)
  if (request.only) assertWithin(actor, request.only.into.connection)
  const target = await readConnection(context.catalog, to)
  await assertTargetWithin(context.catalog, actor, target, { database: directory, preempt: false })
  refuseWithoutConsent(request, target)
  if (request.overwriteExisting) refuseInPlace(request)
  if (request.to.kind === 'latest' && (request.action ?? 'promote') !== 'promote') {
    throw new InvalidRequest([
      {
        path: 'action',
        message: 'at the end of the log PostgreSQL does nothing but promote; name a place before it',
      },
    ])
  }
  if (request.start && (request.port === undefined || request.action === 'shutdown')) {
    const message =
      request.port === undefined ? 'needs a port of its own' : 'does not go with the action shutdown'
    throw new InvalidRequest([{ path: 'start', message }])
  }
  const { backup, recovery } = await recoveryFrom(context, source, target, request)
  const copies = copiesToRead(backup, undefined)
  const parents = await neededBy(context, backup)
  const operationId = newOperationId()
  const socket = newSocket()
  const asked = { operationId, request, actor }
  const only = await oneDatabase(context, asked, { base: backup, target, socket, destination: copies[0] })
  const input: PitrInput = {
    version: 1,
    operationId,
    backupId: backup.id,
    copies,
    sourceConnection: backup.connection,
    ...(parents.length === 0 ? {} : { parents }),
    targetConnection: target.name,
    targetEngine: target.engine,
    targetDatabase: directory,
    serverIdentity: target.serverIdentity,
    jobs: defaultJobs(),
    noOwner: false,
    ...(request.bandwidth === undefined ? {} : { bandwidth: request.bandwidth }),
    dryRun: request.dryRun ?? false,
    preempt: false,
    ...patienceOf(context, request),
    overwriteExisting: request.overwriteExisting ?? false,
    ...(request.allow ? { allow: request.allow } : {}),
    keepOldSeconds: request.keepOldSeconds ?? 86_400,
    safetyBackup: await safetyBackupOf(context, operationId, request, directory, target),
    approvalId: null,
    before: [],
    ...(await servedAt(context.catalog, target.host, [
      ...copies,
      ...parents.flatMap(needed => needed.copies),
    ])),
    recovery: { ...recovery, socket: only ? socket : null },
    ...(only ? { only } : {}),
  }
  return {
    ...newOperation(),
    id: operationId,
    kind: 'pitr',
    connection: target.name,
    engine: target.engine,
    backupId: backup.id,
    destination: copies[0],
    targetDatabase: directory,
    workflowId: input.dryRun
      ? dryRunWorkflowId(operationId)
      : input.overwriteExisting
        ? requestWorkflowId(operationId)
        : pitrWorkflowId(operationId),
    input,
    warnings: [],
    createdAt: new Date().toISOString(),
  }
}

type Asked = Pick<PitrRequestInput, 'to' | 'timeline' | 'base' | 'action' | 'walConfig' | 'port' | 'start'>

/** From which base backup, and over which log. Throws `pitr.*`, `wal.*`, `restore.mismatch`. */
export async function recoveryFrom(
  context: ApiContext,
  source: StoredConnection,
  target: StoredConnection,
  request: Asked,
): Promise<{ backup: BackupRecord; recovery: RecoveryOrder }> {
  expectRecoverable(source, target)
  const point = await restorePointOf(context, source, request)
  const { destination, reached, backup, segmentBytes } = await reachableIn(context, source, request, point)
  const { base, timeline } = reached
  return {
    backup,
    recovery: {
      target: targetOf(request, point),
      timeline,
      action: request.action ?? 'promote',
      walConfig: request.walConfig ?? usualWalConfig,
      port: request.port ?? null,
      leaveRunning: request.start ?? false,
      socket: null,
      start: formatLsn(base.start),
      stop: formatLsn(base.stop),
      end: request.to.kind === 'lsn' ? request.to.lsn : (point?.lsn ?? formatLsn(base.reach)),
      segmentBytes,
      archive: destination,
      firstFile: segmentAt(base.timeline, base.start, segmentBytes),
    },
  }
}

/** What takes the place of a server is one: promoted, and configured as that one was. */
function refuseInPlace({ action, port, start, only }: PitrRequestInput): void {
  const problems = [
    ...((action ?? 'promote') === 'promote' ? [] : ['action']),
    ...(port === undefined ? [] : ['port']),
    ...(start ? ['start'] : []),
    ...(only ? ['only'] : []),
  ].map(path => ({ path, message: 'not with overwriteExisting' }))
  if (problems.length > 0) throw new InvalidRequest(problems)
}

/** Inclusive unless told otherwise, as with PostgreSQL; times in UTC. */
function targetOf({ to }: Asked, point: RestorePointView | undefined): RecoveryTarget {
  switch (to.kind) {
    case 'name':
      return { kind: 'name', name: point?.serverName ?? to.name, lsn: point?.lsn ?? null }
    case 'time':
      return { ...to, time: instantOf(to.time) ?? to.time, inclusive: to.inclusive ?? true }
    case 'lsn':
    case 'xid':
      return { ...to, inclusive: to.inclusive ?? true }
    default:
      return to
  }
}

/** undefined: the target is no name, or nobody but the server knows it. */
async function restorePointOf(
  { catalog }: ApiContext,
  { name, serverIdentity }: StoredConnection,
  { to }: Asked,
): Promise<RestorePointView | undefined> {
  if (to.kind !== 'name') return undefined
  const points = await listRestorePoints(catalog, name)
  const server = systemIdentifierOf(serverIdentity)
  return points.find(one => one.name === to.name && one.systemIdentifier === server)
}

function expectRecoverable(source: StoredConnection, target: StoredConnection): void {
  for (const { name, engine, method } of [source, target]) {
    if (engineOf(engine).methods[method]?.recovery) continue
    throw new HoldfastError(
      'restore.mismatch',
      `Connection ${name} is ${engineOf(engine).title} (${method}); a recovery needs physical backups.`,
      { hint: 'holdfast connection add NAME URL --method physical' },
    )
  }
}

interface Found {
  destination: string
  reached: Reachable
  backup: BackupRecord
  segmentBytes: number
}

/** In the first archive that reaches it. Where none does: why the first of them does not. */
async function reachableIn(
  context: ApiContext,
  source: StoredConnection,
  request: Asked,
  point: RestorePointView | undefined,
): Promise<Found> {
  const systemIdentifier = systemIdentifierOf(source.serverIdentity)
  if (systemIdentifier === undefined) {
    throw new HoldfastError(
      'wal.not-postgresql',
      `Connection ${source.name} is no PostgreSQL server whose system identifier is known.`,
    )
  }
  const stream = { connection: source.name, systemIdentifier }
  const backups = await basesOf(context, source.name, systemIdentifier)
  const troubles: HoldfastError[] = []
  for (const one of await listDestinations(context.catalog)) {
    try {
      const found = await withinPatience(patienceMs, context, one, destination =>
        reachableAt(destination, stream, backups, request, point),
      )
      if (found) return { destination: one.name, ...found }
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      troubles.push(error)
    }
  }
  // What the log does not reach says more than a destination that has nothing to do with it.
  const [trouble] = [...troubles.filter(({ code }) => code.startsWith('pitr.')), ...troubles]
  throw (
    trouble ??
    new HoldfastError('wal.no-archive', `No destination has an archive of the log of ${source.name}.`)
  )
}

/** undefined: it has no archive of this server. */
async function reachableAt(
  destination: Destination,
  stream: { connection: string; systemIdentifier: string },
  backups: readonly BackupRecord[],
  request: Asked,
  point: RestorePointView | undefined,
): Promise<Omit<Found, 'destination'> | undefined> {
  if ((await destination.stat(streamKey(stream))) === undefined) return undefined
  const log = await listLog(destination, stream)
  const windows = recoveryWindows(
    log,
    backups.flatMap(({ manifest }) => baseOf(manifest) ?? []),
  )
  const target = targetOf(request, point)
  const question: Question = {
    log,
    windows,
    target,
    timeline: request.timeline ?? point?.timeline ?? 'latest',
    base: request.base,
    point: point && { timeline: point.timeline, lsn: parseLsn(point.lsn) ?? 0n },
    endedAt: new Map(backups.map(({ id, manifest }) => [id, endedByServer(manifest)])),
  }
  const answer = reach(question)
  if ('refused' in answer) {
    const code = answer.refused === 'base' ? 'pitr.base-wanted' : 'pitr.unreachable'
    throw new HoldfastError(code, answer.why)
  }
  const { reached } = answer
  if (target.kind === 'time') {
    const { lastSegment } = reached
    const archivedAt =
      lastSegment === undefined ? undefined : await archivedAtOf(destination, stream, lastSegment)
    const why = endsBefore(windows, target.time, reached, archivedAt)
    if (why !== undefined) throw new HoldfastError('pitr.unreachable', why)
  }
  const backup = backups.find(({ id }) => id === reached.base.backupId)
  if (!backup) throw new HoldfastError('internal', `Backup ${reached.base.backupId} is in no list.`)
  return { reached, backup, segmentBytes: log.segmentBytes }
}
