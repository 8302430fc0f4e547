/** What workers may ask, answered from the catalog and the keys of this process. */
import { HoldfastError } from '../model/errors.ts'
import { type Keyring, keyFilesOf, type OpeningKey, type Recipient, recipientOf } from '../storage/keys.ts'
import { signManifest } from '../storage/manifest.ts'
import { unwrapDataKey, wrapDataKey, wrappedFor } from '../storage/wrap.ts'
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
import { recordBackup, recordVerification } from './backups.ts'
import { connectionSecrets, findConnection, readConnection } from './connections.ts'
import { destinationSecrets, readDestination } from './destinations.ts'
import { rememberEpoch, rememberedEpoch } from './epochs.ts'
import { findHookRun, listHooks, recordHookRun } from './hooks.ts'
import { hostSecrets, readHost } from './hosts.ts'
import { installationKeys, writerIdentity } from './installation.ts'
import { endKept, findKept, recordKept } from './kept.ts'
import { keyring } from './keys.ts'
import { appendLog } from './log.ts'
import type { Catalog } from './open.ts'
import { openedKeys } from './opened-keys.ts'
import {
  closedOperations,
  findOperation,
  openSafetyBackup,
  readOperation,
  updateOperation,
} from './operations.ts'
import { readPlan, storePlan } from './plans.ts'
import { trustedInstallations } from './trust.ts'
import type { WorkerCatalog } from './worker.ts'

/** All but what needs Temporal, too: see api/internal.ts. */
export function workerCatalog(
  catalog: Catalog,
  keysDirectory: string,
): Omit<WorkerCatalog, 'startDue' | 'makeWay'> {
  return {
    async connection(name) {
      const {
        address: _address,
        requestKey: _key,
        twoPerson: _policy,
        ...record
      } = await readConnection(catalog, name)
      return record
    },
    async connectionSecrets(name) {
      await readConnection(catalog, name)
      return await connectionSecrets(catalog, name)
    },
    async destination(name) {
      const { readOnly: _readOnly, requestKey: _key, ...record } = await readDestination(catalog, name)
      return { record, secrets: await destinationSecrets(catalog, name) }
    },
    async hostOf(operationId) {
      const operation = await findOperation(catalog, operationId)
      if (!operation) return 'local'
      const { input } = operation
      const connection = 'targetConnection' in input ? input.targetConnection : operation.connection
      return (connection && (await findConnection(catalog, connection))?.host) || 'local'
    },
    async host(name) {
      const { requestKey: _key, ...record } = await readHost(catalog, name)
      return { record, secrets: await hostSecrets(catalog, name) }
    },
    storePlan: plan => storePlan(catalog, plan),
    plan: operationId => readPlan(catalog, operationId),
    recordAttempt: attempt => recordAttempt(catalog, attempt),
    attempts: operationId => listAttempts(catalog, { operation: operationId }),
    writer: () => writerIdentity(catalog),
    rememberedEpoch: destination => rememberedEpoch(catalog, destination),
    rememberEpoch: (destination, epoch) => rememberEpoch(catalog, destination, epoch),

    async wrapDataKey(dataKey, recipients) {
      const bytes = dataKeyBytes(dataKey)
      const ring = await keyring(catalog, keysDirectory)
      const own = await installationKeys(catalog)
      const chosen = recipients.map(name => recipientNamed(ring, name))
      return {
        jwe: await wrapDataKey(bytes, chosen),
        own: await wrapDataKey(bytes, [recipientOf(own.wrapping)]),
      }
    },
    async unwrapDataKey(jwe) {
      const ring = await keyring(catalog, keysDirectory)
      const own = await installationKeys(catalog)
      const keys: OpeningKey[] = [own.wrapping, ...ring.keys, ...(await openedKeys(catalog))]
      const names = new Set(wrappedFor(jwe))
      const locked = ring.locked.filter(key => names.has(key.kid))
      if (locked.length > 0 && !keys.some(key => names.has(key.kid))) throw isLockedNow(locked)
      return Buffer.from(await unwrapDataKey(jwe, keys)).toString('base64url')
    },
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

    async recordBackup(backup) {
      await recordBackup(catalog, backup)
    },
    recordVerification: (backupId, verified) => recordVerification(catalog, backupId, verified),
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
    openSafetyBackup: (restoreId, runId) => openSafetyBackup(catalog, restoreId, runId),
    updateOperation: (operationId, update) => updateOperation(catalog, operationId, update),
    pauseWanted: async operationId => (await readOperation(catalog, operationId)).pauseWanted,
    hooks: connection => listHooks(catalog, connection),
    hookRun: (operationId, hook) => findHookRun(catalog, operationId, hook),
    recordHookRun: (operationId, run) => recordHookRun(catalog, operationId, run),
    appendLog: (operationId, entry) => appendLog(catalog, operationId, entry),
    closedOperations: operationIds => closedOperations(catalog, operationIds),
  }
}

/** Throws `key.missing` for a name that is no key here. */
function recipientNamed(ring: Keyring, name: string): Recipient {
  const key = keyFilesOf(ring).find(candidate => candidate.name === name)
  if (key) return recipientOf(key)
  const recipient = ring.recipients.find(candidate => candidate.name === name)
  if (recipient) return recipient
  throw new HoldfastError('key.missing', `Encrypting for key "${name}": there is no key of that name here.`)
}

function isLockedNow(keys: readonly { name: string }[]): HoldfastError {
  const [{ name }] = keys as [{ name: string }]
  const names = keys.map(key => `"${key.name}"`).join(', ')
  return new HoldfastError(
    'key.locked',
    `Opening a data key: it was wrapped for ${names}, which a passphrase locks.`,
    { hint: `Open it for a while: holdfast keys unlock ${name}` },
  )
}

function dataKeyBytes(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64url')
  if (bytes.length !== 32) throw new HoldfastError('request.invalid', 'A data key must be 32 bytes.')
  return bytes
}
