/** Restores beside: fetch, feed, prove, and only then the final name. */
import { engineOf } from '../engines/index.ts'
import type { Host } from '../hosts/host.ts'
import { errorClass, HoldfastError, isErrorCode } from '../model/errors.ts'
import { isForeignId, unsignedWords } from '../model/foreign.ts'
import type { Manifest } from '../model/manifest.ts'
import type { RestoreInput } from '../model/records.ts'
import type { MethodName } from '../model/types.ts'
import { artifactKey } from '../storage/backups.ts'
import { hashArtifact, openArtifact } from '../storage/reader.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { fromCopies, loadCopy } from './copies.ts'
import { expectRestorable } from './foreign.ts'
import { dataKeyOf, neededManifest, openNeeded } from './needed.ts'
import {
  methodOf,
  planRestore,
  type RestoreSummary,
  restoreStepsOf,
  type StoredRestorePlan,
  stepContext,
  storedPlan,
} from './plan.ts'
import { type Need, placedTrouble, withRoom } from './room.ts'
import { spoolAt } from './spool.ts'
import { type OpenedArtifact, runProbe, runStep } from './steps.ts'
import { type Frozen, lookForFrozen } from './thaw.ts'

/** Reads the manifest (signature and all), makes sure that its key is at hand, and plans. */
export async function planRestoreFrom(
  context: WorkerContext,
  turn: Turn,
  input: RestoreInput,
): Promise<RestoreSummary & { warnings: string[]; frozen: Frozen | null }> {
  const { backupId } = input
  if (isForeignId(backupId)) expectRestorable(backupId, await context.catalog.foreign(backupId))
  const { result, warnings } = await fromCopies(context, turn, input, async name => {
    const { manifest, keys } = await loadCopy(context, turn, input, name)
    for (const artifact of manifest.artifacts) {
      // What it takes to open a key may lie in an archive: asked again when it was brought back.
      await dataKeyOf(context, manifest, keys, artifact.name).catch(unlessArchived)
    }
    return manifest
  })
  const parents: Manifest[] = []
  let frozen = await lookForFrozen(context.destination, input, result)
  for (const needed of input.parents ?? []) {
    const parent = await neededManifest(context, turn, input.operationId, needed)
    parents.push(parent)
    frozen ??= await lookForFrozen(context.destination, needed, parent)
  }
  const unsigned = unsignedWords(result) ?? []
  return {
    ...(await planRestore(context, turn, input, result, parents)),
    warnings: warnings.concat(unsigned),
    frozen,
  }
}

const unlessArchived = (error: unknown): void => {
  if (!(error instanceof HoldfastError) || error.code !== 'destination.archived') throw error
}

/** Runs steps that restart together, in order. */
export async function runRestoreSteps(
  context: WorkerContext,
  turn: Turn,
  input: RestoreInput,
  ids: readonly string[],
): Promise<{ bytes: number; warnings: string[] }> {
  const plan = await storedPlan(context, input.operationId, 'restore')
  // Asked again by a Temporal that was put back to an earlier time: the copy is in its place, and is not made twice.
  if (plan.swap && (await isExchanged(context, input))) return { bytes: 0, warnings: [] }
  const stages = restoreStepsOf(plan).some(step => ids.includes(step.id) && step.writesTo === 'staging')
  const needs = stages ? stagingNeeds(context, input.operationId, plan) : []
  const run = () =>
    fromCopies(context, turn, input, from => runStepsFrom(context, turn, input, plan, ids, from))
  const { result, warnings } = await needs.reduce(
    (inner, { host, need }) =>
      () =>
        withRoom(context, turn, host, need, inner),
    run,
  )()
  return { bytes: result, warnings }
}

/**
 * What unpacking will take: what is unpacked on the host of the tools, and until then on this machine what was
 * downloaded.
 */
export function stagingNeeds(
  { host, here }: Pick<WorkerContext, 'host' | 'here'>,
  operationId: string,
  { steps, manifest }: StoredRestorePlan,
): { host: Host; need: Need }[] {
  const staged = steps.flatMap(step =>
    step.writesTo === 'staging' && step.feeds ? [step.feeds.artifact] : [],
  )
  const entries = manifest.artifacts.filter(artifact => staged.includes(artifact.name))
  const unpacked = entries.reduce((sum, entry) => sum + entry.toolBytes, 0)
  const downloaded = entries.reduce((sum, entry) => sum + entry.storedBytes, 0)
  const needs =
    host === here
      ? [{ host, need: { operationId, purpose: 'tools' as const, bytes: unpacked + downloaded } }]
      : [
          { host, need: { operationId, purpose: 'tools' as const, bytes: unpacked } },
          { host: here, need: { operationId, purpose: 'download' as const, bytes: downloaded } },
        ]
  return needs.filter(({ need }) => need.bytes > 0)
}

/** Everything of one copy: bytes of two are never mixed. Returns how many were read. */
async function runStepsFrom(
  context: WorkerContext,
  turn: Turn,
  input: RestoreInput,
  plan: StoredRestorePlan,
  ids: readonly string[],
  from: string,
): Promise<number> {
  const engine = engineOf(input.targetEngine)
  const steps = stepContext(context, turn, input.operationId, engine, plan.token)
  const destination = await context.destination(from)
  await context.host.files.ensureDirectory(context.host.stagingDir(input.operationId))
  // An earlier run of this step may live on (a suspended worker): its programs end before ours begin.
  turn.assertLease()
  await stopAttached(context, input.operationId, restoreStepsOf(plan), ids)
  let total = 0
  const readingOf = (name: string) => {
    const entry = plan.manifest.artifacts.find(artifact => artifact.name === name)
    if (!entry)
      throw new HoldfastError('manifest.invalid', `Backup ${input.backupId} has no artifact "${name}".`)
    return {
      destination,
      key: artifactKey(input.sourceConnection, input.backupId, entry),
      entry,
      signal: turn.signal,
      onProgress: (bytes: number) => turn.progress({ bytes, totalBytes: entry.storedBytes }),
    }
  }
  const open = async (name: string, kept?: string): Promise<OpenedArtifact> => {
    const reading = readingOf(name)
    total += reading.entry.storedBytes
    const { manifest, keys } = await loadCopy(context, turn, input, from)
    expectSame(plan.manifest, manifest, from)
    const compressed = openArtifact({
      ...reading,
      dataKey: await dataKeyOf(context, plan.manifest, keys, name),
      ...(kept === undefined ? {} : { spool: spoolAt(kept) }),
    })
    return { compressed, packing: reading.entry.compression }
  }
  for (const id of ids) {
    const step = restoreStepsOf(plan).find(one => one.id === id)
    if (!step) throw new HoldfastError('internal', `The stored plan has no step "${id}".`)
    turn.assertLease()
    turn.progress({ note: step.title })
    try {
      if (step.feeds && step.writesTo === 'staging') {
        // Unpacked from the beginning by every run, but not downloaded again.
        const kept = await keptDownload(context, input.operationId, plan.manifest, step.feeds.artifact)
        try {
          await runStep(steps, step, name => open(name, kept))
        } catch (error) {
          // Bytes of a damaged copy: the next one's may do.
          if (isDamage(error)) await context.here.files.remove(kept)
          const isOurs = error instanceof HoldfastError && error.context.path === kept
          throw isOurs ? await placedTrouble(context.here, error) : error
        }
        await context.here.files.remove(kept)
      } else {
        await runStep(steps, step, async (name, of) => {
          if (of === undefined) return await open(name)
          const needed = input.parents?.find(({ backupId }) => backupId === of)
          const planned = plan.target.parents?.find(({ backupId }) => backupId === of)
          if (!needed || !planned) throw new HoldfastError('internal', `The plan does not know backup ${of}.`)
          return await openNeeded(context, turn, input.operationId, needed, planned, name)
        })
      }
    } catch (error) {
      // Nobody had authenticated the bytes of a plain artifact: before the tool is blamed, they are read whole.
      const reading = step.feeds?.of === undefined && step.feeds && readingOf(step.feeds.artifact)
      if (reading && reading.entry.encryption === null && mayBeTheBytes(error)) await hashArtifact(reading)
      throw error
    }
  }
  return total
}

/** The plan was made of one copy; another one is read in its place only where it is one of the same attempt. */
function expectSame(planned: Manifest, there: Manifest, destination: string): void {
  // A foreign one has no attempt: it is the file that was read, by its hash.
  const [one, other] = [planned, there].map(({ artifacts }) => artifacts.map(entry => entry.storedSha256))
  const isSame = isForeignId(planned.backupId)
    ? `${one}` === `${other}`
    : there.attemptId === planned.attemptId
  if (isSame) return
  throw new HoldfastError(
    'manifest.invalid',
    `Backup ${planned.backupId} at ${destination} is not the one that was planned for: it is of attempt ${there.attemptId}.`,
  )
}

/** Path of the file on this machine that keeps what was downloaded of an artifact; its directory is there. */
async function keptDownload(
  { here }: WorkerContext,
  operationId: string,
  manifest: Manifest,
  name: string,
): Promise<string> {
  const directory = here.stagingDir(operationId)
  await here.files.ensureDirectory(directory)
  return `${directory}/.download-${manifest.artifacts.findIndex(artifact => artifact.name === name)}`
}

const isDamage = (error: unknown): boolean =>
  error instanceof HoldfastError && error.code.startsWith('artifact.')

const mayBeTheBytes = (error: unknown): boolean =>
  error instanceof HoldfastError &&
  error.code !== 'artifact.corrupted' &&
  ['permanent', 'needs-operator'].includes(errorClass(error.code))

/** Attached steps of an earlier run are stopped; a detached one is left to be re-attached. */
async function stopAttached(
  context: WorkerContext,
  operationId: string,
  all: readonly { id: string; resume: 'restart' | 'attach' }[],
  ids: readonly string[],
): Promise<void> {
  if (all.every(step => !ids.includes(step.id) || step.resume === 'restart')) {
    await context.host.stopOperation(operationId)
  }
}

/** Compares the restored database with the manifest: under its temporary name, or in the place of the old one. */
export async function proveRestore(
  context: WorkerContext,
  turn: Turn,
  input: RestoreInput,
  place: 'temporary' | 'swapped',
): Promise<{ passed: number }> {
  const plan = await storedPlan(context, input.operationId, 'restore')
  if (place === 'temporary' && plan.swap && (await isExchanged(context, input))) return { passed: 0 }
  const engine = engineOf(input.targetEngine)
  const connection = await context.catalog.connection(input.targetConnection)
  const method = methodOf(engine, plan.manifest.method as MethodName)
  const steps = stepContext(context, turn, input.operationId, engine, plan.token)
  const probe = method.proofs(connection.settings, plan.target, plan.manifest, place, plan.targetFacts)
  // One of before may live on, and two servers cannot have one data directory.
  turn.assertLease()
  await context.host.stopOperation(input.operationId)
  const checks = probe.read(await runProbe(steps, `prove-${place}`, probe.commands, 'no limit'))
  await context.catalog.updateOperation(input.operationId, { checks })
  const failed = checks.find(check => check.answer === 'fail')
  if (failed) {
    throw new HoldfastError(
      isErrorCode(failed.code) ? failed.code : 'restore.proof-failed',
      `${failed.title}: ${failed.detail}`,
    )
  }
  return { passed: checks.filter(check => check.answer === 'pass').length }
}

const isExchanged = async (context: WorkerContext, input: RestoreInput): Promise<boolean> =>
  (await context.catalog.destructiveSteps(input.operationId)).exchange === 'finished'
