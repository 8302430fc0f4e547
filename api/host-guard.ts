/**
 * What the token of one host opens: the catalog as the worker that lives there may see it. Everything is of an operation that
 * was accepted for that host, or of a connection there; what decides, signs or closes is left to the workers of Holdfast's own.
 * The table in docs/hosts.md says the same in words; test/api/host-token.test.ts walks it.
 */
import type { Context } from 'hono'
import { interruptedSwaps } from '../catalog/approvals.ts'
import { listAttempts } from '../catalog/attempts.ts'
import { audit } from '../catalog/audit.ts'
import { findBackup } from '../catalog/backups.ts'
import { findConnection } from '../catalog/connections.ts'
import { findHost, hasWorker } from '../catalog/hosts.ts'
import { installationKeys } from '../catalog/installation.ts'
import { listLogStreams } from '../catalog/log-streams.ts'
import { findOperation, isClosed, openOperations } from '../catalog/operations.ts'
import { probeSecrets } from '../catalog/probes.ts'
import type { WorkerCatalog } from '../catalog/worker.ts'
import { HoldfastError } from '../model/errors.ts'
import { hostQueue } from '../model/ids.ts'
import type { LogStreamRecord } from '../model/log-stream.ts'
import { associatedDataFor, canonical } from '../model/manifest.ts'
import type {
  BackupInput,
  EnablePitrInput,
  NeededBackup,
  OperationRecord,
  OperationUpdate,
  RestoreInput,
} from '../model/records.ts'
import type { Json } from '../model/types.ts'
import { backupPrefix } from '../storage/backups.ts'
import { opensBeginning } from '../storage/reader.ts'
import { wrappedFor } from '../storage/wrap.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { withDestination } from './routes/destinations.ts'

/** An operation whose workflow sends its steps to this host. */
type Ours<Input = BackupInput | RestoreInput | EnablePitrInput> = Omit<OperationRecord, 'input'> & {
  input: Input
}

const refused = (host: string): HoldfastError =>
  new HoldfastError('request.forbidden', `The token of host ${host} does not open this.`)

/** Every method of the catalog, for the worker of this host. */
export function guarded(context: ApiContext, all: WorkerCatalog, host: string): WorkerCatalog {
  const scope = scopeOf(context, host)
  const never = async (): Promise<never> => {
    throw refused(host)
  }
  return {
    async ownWorker(name) {
      if (name !== host) throw refused(host)
      return await scope.worker()
    },
    probeSecrets: id => probeSecrets(context.catalog, host, id),
    async connection(name) {
      await scope.connection(name)
      return await all.connection(name)
    },
    async connectionSecrets(name) {
      await scope.connection(name)
      return await all.connectionSecrets(name)
    },
    async hostOf(operationId) {
      await scope.operation(operationId)
      return host
    },
    host: never,
    async destination(name) {
      await scope.destination(name)
      return await all.destination(name)
    },

    async storePlan(plan) {
      await scope.open(plan.operationId)
      return await all.storePlan(plan)
    },
    async plan(operationId) {
      await scope.operation(operationId)
      return await all.plan(operationId)
    },
    async recordAttempt(attempt) {
      const { input } = await scope.open(attempt.operationId)
      const prefix = backupPrefix(attempt.connection, attempt.backupId)
      const fits =
        'toolFormat' in input &&
        attempt.backupId === input.backupId &&
        attempt.connection === input.connection &&
        attempt.destinations.every(name => placesOf(input).includes(name)) &&
        attempt.artifacts.every(({ key }) => key.startsWith(prefix))
      if (!fits) throw refused(host)
      await all.recordAttempt(attempt)
    },
    async attempts(operationId) {
      await scope.operation(operationId)
      return await all.attempts(operationId)
    },

    writer: () => all.writer(),
    trustedInstallations: () => all.trustedInstallations(),
    async rememberedEpoch(name) {
      await scope.destination(name)
      return await all.rememberedEpoch(name)
    },
    rememberEpoch: never,

    async wrapDataKey(dataKey, recipients) {
      const known = [
        ...(await scope.openOnes()).flatMap(({ input }) => ('recipients' in input ? input.recipients : [])),
        ...(await scope.streams()).flatMap(stream => stream.recipients),
      ]
      if (!recipients.every(name => known.includes(name))) throw refused(host)
      return await all.wrapDataKey(dataKey, recipients)
    },
    async unwrapDataKey(jwe) {
      const open = await scope.openOnes()
      if (await isOfOurAttempt(context, open, jwe)) return await all.unwrapDataKey(jwe)
      const read = open.flatMap(({ input }) => [...('copies' in input ? [input] : []), ...neededOf(input)])
      if (read.length === 0) throw refused(host)
      const dataKey = await all.unwrapDataKey(jwe)
      for (const backup of read) {
        if (await opensBackupOf(context, backup, Buffer.from(dataKey, 'base64url'))) return dataKey
      }
      throw refused(host)
    },
    planScrub: never,
    recordPassedOver: never,
    dueMoves: never,
    mayMove: never,
    recordTier: never,
    markDeleted: never,
    planSweep: never,
    standings: never,
    claimLeftovers: never,
    unclaim: never,
    recentlyEnded: never,
    statesOf: never,
    noteSwept: never,
    noteUnswept: never,
    beginRotation: never,
    rewrapDataKeys: never,
    leftByRotation: never,
    openedAt: never,
    recordOpeners: never,
    signManifest: never,
    recordBackup: never,
    async foreign(backupId) {
      const reads = (await scope.openOnes()).some(
        ({ input }) => 'copies' in input && input.backupId === backupId,
      )
      if (!reads) throw refused(host)
      return await all.foreign(backupId)
    },
    recordForeignReading: never,
    recordVerification: never,

    wantApproval: never,
    weighApproval: never,
    expireApproval: never,
    withdrawApproval: never,
    useApproval: never,
    async beginDestructive(operationId, step, runId) {
      await scope.open(operationId)
      return await all.beginDestructive(operationId, step, runId)
    },
    async finishDestructive(operationId, step) {
      await scope.unended(operationId)
      await all.finishDestructive(operationId, step)
    },
    async destructiveSteps(operationId) {
      await scope.operation(operationId)
      return await all.destructiveSteps(operationId)
    },
    async beginRollBack(operationId) {
      await scope.unended(operationId)
      await all.beginRollBack(operationId)
    },
    async recordKept(kept) {
      const { connection } = await scope.unended(kept.operationId)
      if (kept.connection !== connection) throw refused(host)
      await all.recordKept(kept)
    },
    async kept(operationId) {
      await scope.operation(operationId)
      return await all.kept(operationId)
    },
    async endKept(operationId, state) {
      await scope.operation(operationId)
      await all.endKept(operationId, state)
    },
    openPart: never,
    restoreDump: never,

    async noteExamined(operationId, found) {
      await scope.open(operationId)
      await all.noteExamined(operationId, found)
    },
    async noteReplayed(operationId, replayed) {
      await scope.open(operationId)
      await all.noteReplayed(operationId, replayed)
    },
    async noteTornDown(operationId) {
      await scope.operation(operationId)
      await all.noteTornDown(operationId)
    },
    writeDrillReport: never,

    async updateOperation(operationId, update) {
      await scope.operation(operationId)
      const told: (keyof OperationUpdate)[] = ['checks', 'commands']
      if (!Object.keys(update).every(field => (told as string[]).includes(field))) throw refused(host)
      return await all.updateOperation(operationId, update)
    },
    async pauseWanted(operationId) {
      await scope.operation(operationId)
      return await all.pauseWanted(operationId)
    },
    async claimStaging(claim) {
      await scope.open(claim.operationId)
      // By a name that no other machine's can have, whatever is said: nobody else's room is promised away.
      return await all.claimStaging({ ...claim, fileSystem: `${host}/${claim.fileSystem}` })
    },
    async releaseStaging(operationId, purpose) {
      await scope.operation(operationId)
      await all.releaseStaging(operationId, purpose)
    },
    async bandwidthShare(transfer) {
      const { input } = await scope.open(transfer.operationId)
      if (transfer.host !== host || !destinationsOf(input).includes(transfer.destination)) throw refused(host)
      return await all.bandwidthShare(transfer)
    },
    async hooks(connection) {
      await scope.connection(connection)
      return await all.hooks(connection)
    },
    async hookRun(operationId, hook) {
      await scope.operation(operationId)
      return await all.hookRun(operationId, hook)
    },
    async recordHookRun(operationId, run) {
      await scope.open(operationId)
      await all.recordHookRun(operationId, run)
    },
    async appendLog(operationId, entry) {
      await scope.operation(operationId)
      await all.appendLog(operationId, entry)
    },
    async closedOperations(ids) {
      const closed = await all.closedOperations(ids)
      const ours = await Promise.all(closed.map(async id => (await scope.find(id)) !== undefined))
      return closed.filter((_id, index) => ours[index])
    },
    async logStream(connection) {
      await scope.connection(connection)
      return await all.logStream(connection)
    },
    async noteLogStream(connection, state) {
      await scope.connection(connection)
      return await all.noteLogStream(connection, state)
    },
    async endLogStream(connection, slotEnd) {
      await scope.connection(connection)
      await all.endLogStream(connection, slotEnd)
    },
    async signLogHeader(header) {
      await scope.connection(header.connection)
      return await all.signLogHeader(header)
    },
    makeWay: never,
    startDue: never,
  }
}

/** What is of this host. Throws `request.forbidden`, also for what is not there: it tells nobody what is. */
function scopeOf({ catalog }: ApiContext, host: string) {
  const worker = async (): Promise<string> => {
    const found = await findHost(catalog, host)
    if (!found || !hasWorker(found)) throw refused(host)
    return found.settings.worker
  }
  /** By the queue it was accepted for: another host that was given the name since is another one. */
  const isOurs = (operation: OperationRecord, queue: string): operation is OperationRecord & Ours =>
    'hostWorker' in operation.input && operation.input.hostWorker?.queue === queue
  const find = async (id: string): Promise<Ours | undefined> => {
    const operation = await findOperation(catalog, id)
    return operation && isOurs(operation, hostQueue(await worker())) ? operation : undefined
  }
  const operation = async (id: string): Promise<Ours> => {
    const found = await find(id)
    if (!found) throw refused(host)
    return found
  }
  const openOnes = async (): Promise<Ours[]> => {
    const queue = hostQueue(await worker())
    return (await openOperations(catalog)).filter(one => isOurs(one, queue))
  }
  /** Of connections there. */
  const streams = async (): Promise<LogStreamRecord[]> => {
    await worker()
    const found = await listLogStreams(catalog)
    const hosts = await Promise.all(found.map(one => findConnection(catalog, one.connection)))
    return found.filter((one, index) => one.stoppedAt === null && hosts[index]?.host === host)
  }
  return {
    worker,
    find,
    operation,
    openOnes,
    async open(id: string): Promise<Ours> {
      const found = await operation(id)
      if (isClosed(found.state)) throw refused(host)
      return found
    },
    /** An open one, or a closed one whose swap has to be ended. */
    async unended(id: string): Promise<Ours> {
      const found = await operation(id)
      if (isClosed(found.state) && !(await interruptedSwaps(catalog)).includes(id)) throw refused(host)
      return found
    },
    async connection(name: string): Promise<void> {
      await worker()
      if ((await findConnection(catalog, name))?.host !== host) throw refused(host)
    },
    streams,
    async destination(name: string): Promise<void> {
      if ((await openOnes()).some(({ input }) => destinationsOf(input).includes(name))) return
      if (!(await streams()).some(stream => stream.destinations.includes(name))) throw refused(host)
    },
  }
}

const placesOf = ({ destinations, failover }: BackupInput): string[] => [
  ...destinations,
  ...Object.values(failover),
]

/** Those that its steps on the host read or write. */
function destinationsOf(input: Ours['input']): string[] {
  const needed = neededOf(input).flatMap(({ copies }) => copies)
  if ('copies' in input) return [...input.copies, ...needed]
  return 'toolFormat' in input ? [...placesOf(input), ...needed] : []
}

/** What an incremental backup is made against, or put together with. */
function neededOf(input: Ours['input']): readonly NeededBackup[] {
  if ('copies' in input) return input.parents ?? []
  return 'toolFormat' in input && input.parent ? [input.parent] : []
}

/**
 * The key of an upload that is to go on, as its attempt has it: wrapped for this installation alone, as none is that lies in a
 * destination. So nobody can have put another backup's there.
 */
async function isOfOurAttempt(
  { catalog }: ApiContext,
  open: readonly Ours[],
  jwe: Record<string, Json>,
): Promise<boolean> {
  const { wrapping } = await installationKeys(catalog)
  if (wrappedFor(jwe).some(kid => kid !== wrapping.kid)) return false
  const wanted = canonical(jwe)
  for (const { id } of open) {
    const artifacts = (await listAttempts(catalog, { operation: id })).flatMap(attempt => attempt.artifacts)
    if (artifacts.some(({ encryption }) => encryption?.own && canonical(encryption.own) === wanted))
      return true
  }
  return false
}

/**
 * Whether it is the key of this backup, which one of their operations reads: it opens what one of its artifacts begins with. Where a wrapped key lies
 * says nothing, since whoever may write to a destination may put it there; what was sealed names its backup.
 */
async function opensBackupOf(
  context: ApiContext,
  { backupId, sourceConnection, copies }: NeededBackup,
  dataKey: Uint8Array,
): Promise<boolean> {
  const backup = await findBackup(context.catalog, backupId)
  if (!backup) return false
  const { installationId, artifacts } = backup.manifest
  const failures: HoldfastError[] = []
  for (const copy of copies) {
    try {
      return await withDestination(context, copy, async destination => {
        for (const { name, object, storedBytes, encryption } of artifacts) {
          if (encryption === null) continue
          const reading = {
            destination,
            key: `${backupPrefix(sourceConnection, backupId)}${object}`,
            storedBytes,
            associatedData: associatedDataFor(installationId, backupId, name),
          }
          if (await opensBeginning(reading, dataKey)) return true
        }
        return false
      })
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      failures.push(error)
    }
  }
  throw failures[0] ?? new HoldfastError('backup.not-found', `There is no copy of backup ${backupId}.`)
}

/** What the token of a host was refused is on record: it may be in other hands. */
export async function enterRefusal(
  { catalog, log }: ApiContext,
  c: Context<ApiEnv>,
  method: string,
  error: unknown,
): Promise<void> {
  const host = c.get('workerHost')
  if (host === null || !(error instanceof HoldfastError) || error.code !== 'request.forbidden') return
  log.warn('the token of a host was refused what is not of that host', { host, method })
  await audit(catalog, {
    at: new Date().toISOString(),
    actor: { name: `host:${host}`, address: c.get('address') },
    action: `POST /internal/v1/${method}`,
    object: host,
    outcome: 'refused',
    detail: {},
  })
}
