/** The commit: key sidecar, then the signed manifest, put if absent. After it the backup exists; before it, it does not. */

import { engineOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { Manifest } from '../model/manifest.ts'
import type { BackupFacts, BackupInput } from '../model/records.ts'
import { backupPrefix, commitManifest, committedAtOf, putKeySidecar, settled } from '../storage/backups.ts'
import { committedAttempt, type Made } from './attempt.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { writerEpoch } from './epoch.ts'
import { methodOf, storedPlan } from './plan.ts'
import { showCommand } from './steps.ts'
import { expectStored } from './transfer.ts'

export interface Committed {
  attemptId: string
  storedBytes: number
  toolBytes: number
}

const summary = (manifest: Pick<Manifest, 'attemptId' | 'artifacts'>): Committed => ({
  attemptId: manifest.attemptId,
  storedBytes: manifest.artifacts.reduce((sum, artifact) => sum + artifact.storedBytes, 0),
  toolBytes: manifest.artifacts.reduce((sum, artifact) => sum + artifact.toolBytes, 0),
})

/** Looks at every artifact in the store: there, and of the length that was sent. */
export async function verifyArtifacts(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  made: Made,
): Promise<void> {
  if (await committedAttempt(context, input)) return
  const destination = await context.destination(input.destination)
  for (const artifact of made.artifacts) {
    turn.signal.throwIfAborted()
    await expectStored(
      destination,
      `${backupPrefix(input.connection, input.backupId)}${artifact.object}`,
      artifact.storedBytes,
    )
  }
}

export async function commitBackup(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  made: Made,
): Promise<Committed> {
  const done = await committedAttempt(context, input)
  if (done) return summary(done)
  const plan = await storedPlan(context, input.operationId, 'backup')
  const destination = await context.destination(input.destination)
  const { writer, epoch } = await writerEpoch(context, input.destination)
  const attempt = (await context.catalog.attempts(input.operationId)).find(
    one => one.attemptId === made.attemptId,
  )
  if (!attempt) throw new HoldfastError('internal', `Attempt ${made.attemptId} is not recorded.`)
  const keys = attempt.artifacts.flatMap(({ name, encryption }) =>
    encryption ? [{ name, jwe: encryption.jwe }] : [],
  )
  if (keys.length > 0) {
    turn.assertLease()
    await putKeySidecar(destination, input.connection, {
      format: 'holdfast-keys/1',
      backupId: input.backupId,
      attemptId: made.attemptId,
      artifacts: keys,
    })
  }
  const manifest: Manifest = {
    format: 'holdfast-manifest/1',
    backupId: input.backupId,
    installationId: writer.installationId,
    epoch,
    attemptId: made.attemptId,
    connection: input.connection,
    engine: input.engine,
    method: input.method,
    toolFormat: input.toolFormat,
    type: input.type,
    consistency: methodOf(engineOf(input.engine), input.method).consistency,
    server: { identity: plan.facts.identity, version: plan.facts.version, database: plan.facts.database },
    facts: plan.facts.facts,
    tools: plan.facts.tools,
    commands: plan.steps.map(step => showCommand(step.run)),
    artifacts: made.artifacts,
    parent: null,
    startedAt: plan.startedAt,
    endedAt: made.endedAt,
    labels: input.labels,
  }
  const signed = await context.catalog.signManifest(manifest)
  turn.assertLease()
  return summary(await commitManifest(destination, signed))
}

async function committedManifest(context: WorkerContext, input: BackupInput): Promise<Manifest> {
  const destination = await context.destination(input.destination)
  const state = await settled(destination, input.connection, input.backupId)
  if (state.state !== 'committed') {
    throw new HoldfastError(
      'manifest.missing',
      `Backup ${input.backupId} is not committed in ${destination.uri}.`,
    )
  }
  const { signature: _signature, ...manifest } = state.signed
  return manifest
}

/** The catalog's row follows the manifest, never the other way round. */
export async function recordBackup(context: WorkerContext, _turn: Turn, input: BackupInput): Promise<void> {
  const manifest = await committedManifest(context, input)
  const destination = await context.destination(input.destination)
  const committedAt = await committedAtOf(destination, input.connection, input.backupId)
  await context.catalog.recordBackup(backupFacts(manifest, input.operationId), [
    { destination: input.destination, committedAt },
  ])
}

export const backupFacts = (manifest: Manifest, operationId: string | null): BackupFacts => ({
  id: manifest.backupId,
  connection: manifest.connection,
  engine: manifest.engine as BackupFacts['engine'],
  method: manifest.method as BackupFacts['method'],
  type: manifest.type as BackupFacts['type'],
  operationId,
  serverIdentity: manifest.server.identity,
  database: manifest.server.database,
  encrypted: manifest.artifacts.some(artifact => artifact.encryption !== null),
  toolBytes: summary(manifest).toolBytes,
  storedBytes: summary(manifest).storedBytes,
  startedAt: manifest.startedAt,
  endedAt: manifest.endedAt,
  labels: manifest.labels,
  manifest,
})
