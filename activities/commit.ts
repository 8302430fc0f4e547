/** The commit: key sidecar, then the signed manifest, put if absent. After it the backup exists; before it, it does not. */

import { engineOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { Manifest } from '../model/manifest.ts'
import type { BackupFacts, BackupInput, Lost } from '../model/records.ts'
import { backupPrefix, commitManifest, committedAtOf, putKeySidecar, settled } from '../storage/backups.ts'
import { committedAttempt, committedPlaces, type Made } from './attempt.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { writerEpoch } from './epoch.ts'
import { atEach, placesOf } from './places.ts'
import { methodOf, storedPlan } from './plan.ts'
import { showCommand } from './steps.ts'
import { expectStored } from './transfer.ts'

export interface Committed {
  attemptId: string
  storedBytes: number
  toolBytes: number
  /** Where it could not be. */
  lost: Lost[]
}

const summary = (manifest: Pick<Manifest, 'attemptId' | 'artifacts'>): Omit<Committed, 'lost'> => ({
  attemptId: manifest.attemptId,
  storedBytes: manifest.artifacts.reduce((sum, artifact) => sum + artifact.storedBytes, 0),
  toolBytes: manifest.artifacts.reduce((sum, artifact) => sum + artifact.toolBytes, 0),
})

/** Looks at every artifact in the stores: there, and of the length that was sent. Answers where all of it is. */
export async function verifyArtifacts(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  made: Made,
): Promise<{ destinations: string[]; lost: Lost[] }> {
  const committed = await committedAttempt(context, turn, input)
  if (committed) return { destinations: made.destinations, lost: [] }
  const { done, lost } = await atEach(turn, made.destinations, async name => {
    const destination = await context.destination(name)
    for (const artifact of made.artifacts) {
      turn.signal.throwIfAborted()
      await expectStored(
        destination,
        `${backupPrefix(input.connection, input.backupId)}${artifact.object}`,
        artifact.storedBytes,
      )
    }
  })
  return { destinations: [...done.keys()], lost }
}

/**
 * The same keys and the same manifest wherever the artifacts are, one destination after the other. What an earlier run has
 * committed anywhere is what is committed everywhere else, or nowhere.
 */
export async function commitBackup(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  made: Made,
): Promise<Committed> {
  const [winner] = (await committedPlaces(context, turn, input)).values()
  if (winner && winner.attemptId !== made.attemptId) return { ...summary(winner), lost: [] }
  const attempt = (await context.catalog.attempts(input.operationId)).find(
    one => one.attemptId === made.attemptId,
  )
  if (!attempt) throw new HoldfastError('internal', `Attempt ${made.attemptId} is not recorded.`)
  const epochs = await atEach(turn, made.destinations, name => writerEpoch(context, name))
  const [first] = epochs.done.values()
  const signed =
    winner ?? (await context.catalog.signManifest(await manifestOf(context, input, made, first?.epoch ?? 1)))
  const keys = attempt.artifacts.flatMap(({ name, encryption }) =>
    encryption ? [{ name, jwe: encryption.jwe }] : [],
  )
  const { done, lost } = await atEach(turn, [...epochs.done.keys()], async name => {
    const destination = await context.destination(name)
    if (keys.length > 0) {
      turn.assertLease()
      await putKeySidecar(destination, input.connection, {
        format: 'holdfast-keys/1',
        backupId: input.backupId,
        attemptId: made.attemptId,
        artifacts: keys,
      })
    }
    turn.assertLease()
    return await commitManifest(destination, signed)
  })
  const [committed] = done.values()
  return { ...summary(committed ?? signed), lost: [...epochs.lost, ...lost] }
}

async function manifestOf(
  context: WorkerContext,
  input: BackupInput,
  made: Made,
  epoch: number,
): Promise<Manifest> {
  const plan = await storedPlan(context, input.operationId, 'backup')
  const { parent } = plan.request
  const { installationId } = await context.catalog.writer()
  return {
    format: 'holdfast-manifest/1',
    backupId: input.backupId,
    installationId,
    epoch,
    attemptId: made.attemptId,
    connection: input.connection,
    engine: input.engine,
    method: input.method,
    toolFormat: input.toolFormat,
    type: input.type,
    consistency: methodOf(engineOf(input.engine), input.method).consistency,
    server: { identity: plan.facts.identity, version: plan.facts.version, database: plan.facts.database },
    facts: {
      ...plan.facts.facts,
      ...made.facts,
      ...(parent ? { parent: { attemptId: parent.attemptId } } : {}),
    },
    tools: plan.facts.tools,
    commands: plan.steps.map(step => showCommand(step.run)),
    artifacts: made.artifacts,
    parent: parent?.backupId ?? null,
    startedAt: plan.startedAt,
    endedAt: made.endedAt,
    labels: input.labels,
  }
}

export interface Recorded {
  /** Where it is. */
  destinations: string[]
  /** Where it was asked to be and is not: it is copied there by itself until then. */
  missing: { destination: string; trouble: string; wantedUntil: string }[]
}

/**
 * The catalog's rows follow the manifests, never the other way round. Where it was asked to be and no manifest is seen, it is
 * missing: a copying finds out what is there, and brings it.
 */
export async function recordBackup(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  lost: readonly Lost[],
): Promise<Recorded> {
  const { done, lost: away } = await atEach(turn, placesOf(input), async name => {
    const destination = await context.destination(name)
    const state = await settled(destination, input.connection, input.backupId)
    if (state.state !== 'committed') return undefined
    const { signature: _signature, ...manifest } = state.signed
    return { manifest, committedAt: await committedAtOf(destination, input.connection, input.backupId) }
  })
  const found = [...done].flatMap(([destination, there]) => (there ? [{ destination, ...there }] : []))
  const [first] = found
  if (!first) {
    throw new HoldfastError('manifest.missing', `Backup ${input.backupId} is not committed anywhere.`)
  }
  const copies = found.filter(({ manifest }) => manifest.attemptId === first.manifest.attemptId)
  const wantedUntil = new Date(Date.now() + input.parkSeconds * 1000).toISOString()
  const missing = input.destinations
    .filter(name => !copies.some(({ destination }) => destination === name))
    .map(destination => ({
      destination,
      trouble:
        [...lost, ...away].findLast(one => one.destination === destination)?.detail ??
        'It was not written there.',
      wantedUntil,
    }))
  await context.catalog.recordBackup(backupFacts(first.manifest, input.operationId), [
    ...copies.map(({ destination, committedAt }) => ({ destination, committedAt })),
    ...missing.map(one => ({ ...one, committedAt: null })),
  ])
  return { destinations: copies.map(({ destination }) => destination), missing }
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
