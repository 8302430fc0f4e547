/** What workers may ask, answered from the catalog and the keys of this process. */
import { systemIdentifierOf } from '../model/base-backups.ts'
import { HoldfastError } from '../model/errors.ts'
import type { BackupFacts, ConnectionRecord } from '../model/records.ts'
import { signManifest } from '../storage/manifest.ts'
import { openersOf } from '../storage/sidecars.ts'
import { signatureOf } from '../storage/wal/header.ts'
import {
  beginDestructive,
  beginRollBack,
  destructiveSteps,
  expireApproval,
  finishDestructive,
  useApproval,
  wantApproval,
  weighApproval,
  withdrawApproval,
} from './approvals.ts'
import { listAttempts, recordAttempt } from './attempts.ts'
import { recordBackup } from './backups.ts'
import { bandwidthShare } from './bandwidth.ts'
import { connectionSecrets, findConnection, readConnection } from './connections.ts'
import { markDeleted, recordVerification } from './copies.ts'
import { rewrapFor, unwrapHere, wrapForNames } from './data-keys.ts'
import { destinationSecrets, readDestination } from './destinations.ts'
import { writeDrillReport } from './drill-reports.ts'
import { noteExamined, noteReplayed, noteTornDown } from './drills.ts'
import { rememberEpoch, rememberedEpoch } from './epochs.ts'
import { readForeign, recordForeignReading } from './foreign.ts'
import { findHookRun, listHooks, recordHookRun } from './hooks.ts'
import { hostSecrets, readSshHost } from './hosts.ts'
import { installationKeys, writerIdentity } from './installation.ts'
import { endKept, findKept, recordKept } from './kept.ts'
import { appendLog } from './log.ts'
import { endLogStream, findLogStream, noteLogStream } from './log-streams.ts'
import type { Catalog } from './open.ts'
import { openedAt, recordOpeners } from './openers.ts'
import {
  closedOperations,
  findOperation,
  openOperations,
  openPart,
  readOperation,
  updateOperation,
} from './operations.ts'
import { readPlan, storePlan } from './plans.ts'
import { beginRotation, leftByRotation, rotationOf } from './rotations.ts'
import { planScrub, recordPassedOver } from './scrub.ts'
import { claimStaging, releaseStaging } from './staging.ts'
import {
  claimLeftovers,
  noteSwept,
  noteUnswept,
  recentlyEnded,
  standings,
  statesOf,
  unclaim,
} from './sweeps.ts'
import { dueMoves, mayMove, recordTier } from './tiers.ts'
import { trustedInstallations } from './trust.ts'
import type { WorkerCatalog } from './worker.ts'

/** All but what needs Temporal, too: see api/internal.ts. */
export function workerCatalog(
  catalog: Catalog,
  keysDirectory: string,
): Omit<WorkerCatalog, 'startDue' | 'makeWay' | 'planSweep' | 'restoreDump'> {
  return {
    async connection(name) {
      const there = await throughOf(catalog, name)
      if (there) return there
      const {
        address: _address,
        requestKey: _key,
        twoPerson: _policy,
        canary: _canary,
        ...record
      } = await readConnection(catalog, name)
      return record
    },
    async connectionSecrets(name) {
      if (await throughOf(catalog, name)) return {}
      await readConnection(catalog, name)
      return await connectionSecrets(catalog, name)
    },
    async destination(name) {
      const {
        readOnly: _readOnly,
        encryptTo: _default,
        failover: _failover,
        offSite: _offSite,
        foreignOnly: _foreignOnly,
        requestKey: _key,
        ...record
      } = await readDestination(catalog, name)
      return { record, secrets: await destinationSecrets(catalog, name) }
    },
    // Of the worker of a host alone: see api/host-guard.ts.
    ownWorker: forHostsOnly,
    probeSecrets: forHostsOnly,
    async hostOf(operationId) {
      const operation = await findOperation(catalog, operationId)
      if (!operation) return 'local'
      const { input } = operation
      if ('through' in input && input.through) return input.through.host
      const connection = 'targetConnection' in input ? input.targetConnection : operation.connection
      return (connection && (await findConnection(catalog, connection))?.host) || 'local'
    },
    async host(name) {
      const { requestKey: _key, ...record } = await readSshHost(catalog, name)
      return { record, secrets: await hostSecrets(catalog, name) }
    },
    storePlan: plan => storePlan(catalog, plan),
    plan: operationId => readPlan(catalog, operationId),
    recordAttempt: attempt => recordAttempt(catalog, attempt),
    attempts: operationId => listAttempts(catalog, { operation: operationId }),
    writer: () => writerIdentity(catalog),
    rememberedEpoch: destination => rememberedEpoch(catalog, destination),
    rememberEpoch: (destination, epoch) => rememberEpoch(catalog, destination, epoch),

    wrapDataKey: (dataKey, recipients) =>
      wrapForNames(catalog, keysDirectory, dataKeyBytes(dataKey), recipients),
    unwrapDataKey: async jwe =>
      Buffer.from(await unwrapHere(catalog, keysDirectory, jwe)).toString('base64url'),
    planScrub: async operationId => {
      const { input } = await readOperation(catalog, operationId)
      if (!('budgetBytes' in input)) throw new HoldfastError('internal', `${operationId} is no scrub.`)
      return await planScrub(catalog, input)
    },
    recordPassedOver: (backupId, destination) => recordPassedOver(catalog, backupId, destination),
    dueMoves: async operationId => {
      const { input } = await readOperation(catalog, operationId)
      if (!('asOf' in input)) throw new HoldfastError('internal', `${operationId} is no tiering.`)
      return await dueMoves(catalog, input.destination, input.asOf)
    },
    mayMove: (destination, backupId) => mayMove(catalog, destination, backupId),
    recordTier: (backupId, destination, tier) => recordTier(catalog, backupId, destination, tier),
    standings: (operationId, destination, backupIds) =>
      standings(catalog, operationId, destination, backupIds),
    claimLeftovers: (operationId, destination, backupId) =>
      claimLeftovers(catalog, operationId, destination, backupId),
    unclaim: operationId => unclaim(catalog, operationId),
    recentlyEnded: destination => recentlyEnded(catalog, destination),
    statesOf: operationIds => statesOf(catalog, operationIds),
    noteSwept: (operationId, place, items) => noteSwept(catalog, operationId, place, items),
    noteUnswept: (operationId, place, error) => noteUnswept(catalog, operationId, place, error),
    beginRotation: operationId => beginRotation(catalog, keysDirectory, operationId),
    async rewrapDataKeys(operationId, artifacts) {
      const rotation = await rotationOf(catalog, operationId)
      const rewrapped = []
      for (const { name, wrapped } of artifacts) {
        rewrapped.push({ name, jwe: await rewrapFor(catalog, keysDirectory, rotation, wrapped) })
      }
      return rewrapped
    },
    leftByRotation: operationId => leftByRotation(catalog, operationId),
    openedAt: (destination, kid) => openedAt(catalog.db, destination, kid),
    recordOpeners: (place, kids) => recordOpeners(catalog.db, place, kids),
    markDeleted: (backupId, destination) => markDeleted(catalog, backupId, destination),
    async signManifest(manifest) {
      const own = await installationKeys(catalog)
      if (manifest.installationId !== own.installationId) {
        throw new HoldfastError(
          'request.forbidden',
          `The manifest of backup ${manifest.backupId} names another installation; it is not signed.`,
        )
      }
      // Signed is only what was begun here: a worker token alone must not be enough to forge a backup.
      const attempts = await listAttempts(catalog, { backup: manifest.backupId })
      if (!attempts.some(attempt => attempt.attemptId === manifest.attemptId)) {
        throw new HoldfastError(
          'request.forbidden',
          `Attempt ${manifest.attemptId} of backup ${manifest.backupId} is not recorded; its manifest is not signed.`,
        )
      }
      return await signManifest(manifest, own.signingKey)
    },
    trustedInstallations: () => trustedInstallations(catalog, keysDirectory),

    async recordBackup(backup, copies) {
      await recordBackup(catalog, backup, copies)
      for (const { destination, committedAt } of copies) {
        if (committedAt !== null) await recordOwnOpeners(catalog, backup, destination)
      }
    },
    foreign: backupId => readForeign(catalog, backupId),
    recordForeignReading: (backupId, reading) => recordForeignReading(catalog, backupId, reading),
    recordVerification: (backupId, destination, verified) =>
      recordVerification(catalog, backupId, destination, verified),
    wantApproval: (operationId, wanted) => wantApproval(catalog, operationId, wanted),
    weighApproval: (operationId, approvalId) => weighApproval(catalog, operationId, approvalId),
    expireApproval: operationId => expireApproval(catalog, operationId),
    withdrawApproval: operationId => withdrawApproval(catalog, operationId),
    useApproval: (operationId, use) => useApproval(catalog, operationId, use),
    beginDestructive: (operationId, step, runId) => beginDestructive(catalog, operationId, step, runId),
    finishDestructive: (operationId, step) => finishDestructive(catalog, operationId, step),
    destructiveSteps: operationId => destructiveSteps(catalog, operationId),
    beginRollBack: operationId => beginRollBack(catalog, operationId),
    recordKept: kept => recordKept(catalog, kept),
    kept: async operationId => (await findKept(catalog, operationId)) ?? null,
    endKept: (operationId, state) => endKept(catalog, operationId, state),
    openPart: (restoreId, runId) => openPart(catalog, restoreId, runId),
    noteReplayed: (operationId, replayed) => noteReplayed(catalog, operationId, replayed),
    noteExamined: (operationId, found) => noteExamined(catalog, operationId, found),
    noteTornDown: operationId => noteTornDown(catalog, operationId),
    writeDrillReport: operationId => writeDrillReport(catalog, operationId),
    updateOperation: (operationId, update) => updateOperation(catalog, operationId, update),
    pauseWanted: async operationId => (await readOperation(catalog, operationId)).pauseWanted,
    claimStaging: claim => claimStaging(catalog, claim),
    releaseStaging: (operationId, purpose) => releaseStaging(catalog.db, operationId, purpose),
    bandwidthShare: transfer => bandwidthShare(catalog, transfer, new Date()),
    hooks: async connection =>
      (await throughOf(catalog, connection)) ? [] : await listHooks(catalog, connection),
    hookRun: (operationId, hook) => findHookRun(catalog, operationId, hook),
    recordHookRun: (operationId, run) => recordHookRun(catalog, operationId, run),
    appendLog: (operationId, entry) => appendLog(catalog, operationId, entry),
    closedOperations: operationIds => closedOperations(catalog, operationIds),
    logStream: async connection => (await findLogStream(catalog, connection)) ?? null,
    noteLogStream: (connection, state) => noteLogStream(catalog, connection, state),
    endLogStream: (connection, slotEnd) => endLogStream(catalog, connection, slotEnd),
    async signLogHeader(header) {
      const own = await installationKeys(catalog)
      const { serverIdentity } = await readConnection(catalog, header.connection)
      const ours =
        header.archiver === own.installationId &&
        header.systemIdentifier === systemIdentifierOf(serverIdentity) &&
        (await findLogStream(catalog, header.connection)) !== undefined
      // Signed is only what was asked for here: a worker token alone must not be enough to forge a log.
      if (!ours) {
        throw new HoldfastError(
          'request.forbidden',
          `The log of ${header.connection} is not streamed from here as ${header.name} says; it is not signed.`,
        )
      }
      return await signatureOf(header, own.signingKey)
    },
  }
}

/** A server that is there for one operation, by the name that its backup has for it. */
async function throughOf(catalog: Catalog, name: string): Promise<ConnectionRecord | undefined> {
  if (await findConnection(catalog, name)) return undefined
  const open = await openOperations(catalog)
  return open
    .flatMap(({ input }) => ('through' in input && input.through) || [])
    .find(one => one.name === name)
}

/** Whom it was encrypted for, as its attempt has it. */
async function recordOwnOpeners(
  catalog: Catalog,
  { id: backupId, connection, manifest }: BackupFacts,
  destination: string,
): Promise<void> {
  const attempt = (await listAttempts(catalog, { backup: backupId })).find(
    one => one.attemptId === manifest.attemptId,
  )
  if (!attempt) return
  const artifacts = attempt.artifacts.flatMap(({ name, encryption }) =>
    encryption ? [{ name, jwe: encryption.jwe }] : [],
  )
  const sidecar = {
    format: 'holdfast-keys/1' as const,
    backupId,
    attemptId: attempt.attemptId,
    artifacts,
  }
  await recordOpeners(catalog.db, { destination, connection, backupId }, openersOf(manifest, [sidecar]))
}

async function forHostsOnly(): Promise<never> {
  throw new HoldfastError(
    'request.forbidden',
    'This is for a worker that lives on its host and has its token.',
    {
      hint: 'On the machine of the API: `holdfast host token HOST`.',
    },
  )
}

function dataKeyBytes(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64url')
  if (bytes.length !== 32) throw new HoldfastError('request.invalid', 'A data key must be 32 bytes.')
  return bytes
}
