/**
 * Making plans: probe first, plan from the facts, store with a digest. The stored plan is what every later step reads;
 * a step that runs again never plans again.
 */

import { createHash } from 'node:crypto'
import { resolveSecret } from '../catalog/secret-references.ts'
import type {
  ArchivingPlan,
  ArtifactSpec,
  BackupPlan,
  BackupRequest,
  Engine,
  ExistingTarget,
  Method,
  RestorePlan,
  RestoreTarget,
  ServerFacts,
  Step,
} from '../engines/engine.ts'
import { engineOf } from '../engines/index.ts'
import { isDrill } from '../model/drill-report.ts'
import { HoldfastError } from '../model/errors.ts'
import { unsignedWords } from '../model/foreign.ts'
import { readable } from '../model/ids.ts'
import { canonical, type Manifest } from '../model/manifest.ts'
import type { BackupInput, ConnectionRecord, Image, RestoreInput } from '../model/records.ts'
import type { Json, MethodName } from '../model/types.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { type HookSummary, type PlannedHook, planHooks, summarizeHooks } from './hooks.ts'
import { logTool } from './log.ts'
import { neededManifest } from './needed.ts'
import { runProbe, type StepContext, showCommand } from './steps.ts'

export interface StoredBackupPlan extends BackupPlan {
  kind: 'backup'
  version: 1
  token: string
  startedAt: string
  request: BackupRequest
  facts: ServerFacts
  hooks: PlannedHook[]
}

export interface StoredRestorePlan extends RestorePlan {
  kind: 'restore'
  version: 1
  token: string
  target: RestoreTarget
  targetFacts: ServerFacts
  manifest: Manifest
  /** In words, that nobody signed the backup; null: its manifest is signed, and was checked. */
  unsigned: string | null
  hooks: PlannedHook[]
}

export interface StoredArchivingPlan extends ArchivingPlan {
  kind: 'enablePitr'
  version: 1
  token: string
  /** What is run, as a dry run shows it. */
  steps: Step[]
}

interface StoredPlans {
  backup: StoredBackupPlan
  restore: StoredRestorePlan
  enablePitr: StoredArchivingPlan
}

/** What a workflow learns of a plan: enough to tell the story, nothing large. */
export interface PlanSummary {
  digest: string
  /** Streamed: the tool's output goes straight to the destination. Staged: it lands in staging first. */
  shape: 'streamed' | 'staged'
  sizeBytes: number
  title: string
  warnings: string[]
  hooks: HookSummary[]
}

export const stepContext = (
  context: WorkerContext,
  turn: Pick<Turn, 'signal' | 'fence' | 'assertLease'>,
  operation: string,
  engine: Engine,
  token: string,
): StepContext => ({
  host: context.host,
  engine,
  operation,
  token,
  signal: turn.signal,
  fence: turn.fence,
  assertLease: turn.assertLease,
  secret: async ref => {
    const stored = (await context.catalog.connectionSecrets(ref.connection))[ref.field]
    return stored === undefined ? undefined : await resolveSecret(ref.field, stored)
  },
  heard: (title, text) => logTool(context, operation, title, text),
})

export const methodOf = (engine: Engine, method: MethodName): Method => {
  const found = engine.methods[method]
  if (!found) throw new HoldfastError('request.invalid', `${engine.title} has no ${method} method.`)
  return found
}

export const shapeOf = (artifacts: readonly ArtifactSpec[]): PlanSummary['shape'] =>
  artifacts.some(artifact => 'step' in artifact.from) ? 'streamed' : 'staged'

export async function probeServer(
  steps: StepContext,
  engine: Engine,
  connection: ConnectionRecord,
  ask: 'probe' | 'probeTarget',
  method: MethodName,
  image?: Image,
): Promise<ServerFacts> {
  const { name, settings } = connection
  const probe =
    ask === 'probe' ? engine.probe(name, settings, method) : engine.probeTarget(name, settings, method, image)
  const facts = probe.read(await runProbe(steps, 'probe', probe.commands))
  if (facts.identity === '') return { ...facts, identity: connection.serverIdentity }
  if (facts.identity !== connection.serverIdentity) {
    throw new HoldfastError(
      'database.changed',
      `Connection "${connection.name}" was made for server ${connection.serverIdentity}; the server there now says it is ${facts.identity}.`,
    )
  }
  return facts
}

export async function store<Plan extends StoredPlans[keyof StoredPlans]>(
  context: WorkerContext,
  operationId: string,
  plan: Plan,
): Promise<{ plan: Plan; digest: string }> {
  const text = canonical(plan)
  const digest = createHash('sha256').update(text).digest('hex')
  const stored = await context.catalog.storePlan({ operationId, digest, plan: JSON.parse(text) as Json })
  const steps = plan.kind === 'restore' ? restoreStepsOf(plan) : plan.steps
  await context.catalog.updateOperation(operationId, { commands: steps.map(step => showCommand(step.run)) })
  return { plan: stored.plan as unknown as Plan, digest: stored.digest }
}

export async function storedPlan<Kind extends keyof StoredPlans>(
  context: WorkerContext,
  operationId: string,
  kind: Kind,
): Promise<StoredPlans[Kind]> {
  const stored = await context.catalog.plan(operationId)
  const plan = stored?.plan as unknown as StoredPlans[keyof StoredPlans] | undefined
  if (plan?.kind !== kind)
    throw new HoldfastError('internal', `Operation ${operationId} has no stored ${kind} plan.`)
  return plan as StoredPlans[Kind]
}

export const newToken = () => readable(crypto.getRandomValues(new Uint8Array(12))).toLowerCase()

export async function planBackup(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
): Promise<PlanSummary> {
  const known = await context.catalog.plan(input.operationId)
  if (known) return summarize(await storedPlan(context, input.operationId, 'backup'), known.digest)
  const engine = engineOf(input.engine)
  const method = methodOf(engine, input.method)
  const connection = await context.catalog.connection(input.connection)
  const token = newToken()
  const startedAt = new Date().toISOString()
  const facts = await probeServer(
    stepContext(context, turn, input.operationId, engine, token),
    engine,
    connection,
    'probe',
    method.name,
  )
  const { parent } = input
  const request: BackupRequest = {
    ...(parent ? { parent: await neededManifest(context, turn, input.operationId, parent) } : {}),
    connection: input.connection,
    type: input.type,
    toolFormat: input.toolFormat,
    jobs: input.jobs,
  }
  const planned = method.planBackup(connection.settings, request, facts)
  const { plan, digest } = await store<StoredBackupPlan>(context, input.operationId, {
    kind: 'backup',
    version: 1,
    token,
    startedAt,
    request,
    facts,
    hooks: await planHooks(context, 'backup', engine, connection, null),
    ...planned,
  })
  return summarize(plan, digest)
}

const summarize = (plan: StoredBackupPlan, digest: string): PlanSummary => ({
  digest,
  shape: shapeOf(plan.artifacts),
  sizeBytes: plan.facts.sizeBytes,
  title: plan.steps.map(step => step.title).join(', '),
  warnings: [],
  hooks: summarizeHooks(plan.hooks),
})

/** What a workflow learns of a restore's plan: the runs of steps, in order, each restarting as one. */
export interface RestoreSummary {
  digest: string
  /** Something of it lies in staging between two steps. */
  staged: boolean
  load: {
    title: string
    steps: string[]
    /** Only brings what the backup holds to the host of the tools. */
    fetches: boolean
  }[]
  /** Give the restored database its name, each recorded by itself. */
  finish: string[]
  /** Something is there under that name: the plan replaces it. */
  swap: { prepare: string[]; kept: string } | null
  database: string
  hooks: HookSummary[]
}

/** The stored plan, as it was approved: its text is hashed again, whatever its row says. */
export async function approvedPlan(
  context: WorkerContext,
  operationId: string,
): Promise<{ digest: string; plan: StoredRestorePlan }> {
  const plan = await storedPlan(context, operationId, 'restore')
  return { digest: createHash('sha256').update(canonical(plan)).digest('hex'), plan }
}

export async function planRestore(
  context: WorkerContext,
  turn: Turn,
  input: RestoreInput,
  manifest: Manifest,
  parents: readonly Manifest[],
): Promise<RestoreSummary> {
  const known = await context.catalog.plan(input.operationId)
  if (known) return summarizeRestore(await storedPlan(context, input.operationId, 'restore'), known.digest)
  const engine = engineOf(input.targetEngine)
  const connection = await context.catalog.connection(input.targetConnection)
  if (manifest.engine !== connection.engine) {
    throw new HoldfastError(
      'restore.mismatch',
      `Backup ${manifest.backupId} is of ${manifest.engine}; connection "${connection.name}" is ${connection.engine}.`,
    )
  }
  const method = methodOf(engine, manifest.method as MethodName)
  const token = newToken()
  const rehearsed = isDrill(input)
  const image = rehearsed ? input.drill.container : undefined
  const steps = stepContext(context, turn, input.operationId, engine, token)
  const targetFacts = await probeServer(steps, engine, connection, 'probeTarget', method.name, image)
  const replaces = input.overwriteExisting
    ? await existingTarget(steps, method, connection, input)
    : undefined
  const target: RestoreTarget = {
    connection: input.targetConnection,
    database: input.targetDatabase,
    token,
    jobs: input.jobs,
    noOwner: input.noOwner,
    ...(replaces ? { replaces } : {}),
    ...(input.allow ? { allow: input.allow } : {}),
    ...(parents.length > 0 ? { parents } : {}),
    ...(input.recovery ? { recovery: input.recovery } : {}),
  }
  if (input.recovery && !method.recovery) {
    throw new HoldfastError('restore.mismatch', `${engine.title} has no recovery of a ${method.name} backup.`)
  }
  const planned = method.planRestore(connection.settings, target, manifest, targetFacts)
  const { plan, digest } = await store<StoredRestorePlan>(context, input.operationId, {
    kind: 'restore',
    version: 1,
    token,
    target,
    targetFacts,
    manifest,
    unsigned: unsignedWords(manifest),
    // A rehearsal starts nothing of the operator's, and its copy never gets a name.
    hooks: rehearsed ? [] : await planHooks(context, 'restore', engine, connection, target.database),
    ...planned,
    ...(rehearsed ? { finish: [] } : {}),
  })
  return summarizeRestore(plan, digest)
}

async function existingTarget(
  steps: StepContext,
  method: Method,
  connection: ConnectionRecord,
  { targetDatabase, allow }: RestoreInput,
): Promise<ExistingTarget | undefined> {
  const probe = method.existing(connection.settings, connection.name, targetDatabase, allow)
  return probe.read(await runProbe(steps, 'existing', probe.commands))
}

/** Every step of a restore that may be run by its id. */
export const restoreStepsOf = (plan: RestorePlan): Step[] => [
  ...plan.steps,
  ...(plan.replay ? [plan.replay] : []),
  ...(plan.serve ? [plan.serve] : []),
  ...plan.finish,
  ...(plan.swap ? [...plan.swap.prepare, plan.swap.exchange, plan.swap.open] : []),
]

const summarizeRestore = (plan: StoredRestorePlan, digest: string): RestoreSummary => ({
  digest,
  staged: plan.steps.some(step => step.writesTo === 'staging'),
  load: runsOf(plan.steps),
  finish: plan.finish.map(step => step.id),
  swap: plan.swap ? { prepare: plan.swap.prepare.map(step => step.id), kept: plan.swap.kept.name } : null,
  database: plan.target.database,
  hooks: summarizeHooks(plan.hooks),
})

/** Consecutive steps of one group make one run; every other step is a run of its own. */
function runsOf(steps: RestorePlan['steps']): RestoreSummary['load'] {
  const runs: { title: string; steps: string[]; fetches: boolean; group: string | undefined }[] = []
  for (const step of steps) {
    const last = runs.at(-1)
    if (last && step.group !== undefined && last.group === step.group) {
      last.steps.push(step.id)
      last.title = step.title
      last.fetches &&= step.writesTo === 'staging'
    } else {
      const fetches = step.writesTo === 'staging'
      runs.push({ title: step.title, steps: [step.id], fetches, group: step.group })
    }
  }
  return runs.map(({ title, steps: ids, fetches }) => ({ title, steps: ids, fetches }))
}
