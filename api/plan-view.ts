/** A stored plan as people read it: commands without secrets, what it destroys, how large, how long it took before. */
import {
  restoreStepsOf,
  type StoredArchivingPlan,
  type StoredBackupPlan,
  type StoredRestorePlan,
} from '../activities/plan.ts'
import { showCommand } from '../activities/steps.ts'
import { listBackups } from '../catalog/backups.ts'
import { listOperations } from '../catalog/operations.ts'
import type { Step } from '../engines/engine.ts'
import type { OperationRecord, StoredPlan } from '../model/records.ts'
import type { PlanView } from '../model/views.ts'
import type { ApiContext } from './context.ts'

export async function planViewOf(
  context: ApiContext,
  operation: OperationRecord,
  stored: StoredPlan,
): Promise<PlanView> {
  const plan = stored.plan as unknown as StoredBackupPlan | StoredRestorePlan | StoredArchivingPlan
  const { digest } = stored
  if (plan.kind === 'enablePitr') return enablingView(operation.id, digest, plan)
  const steps = plan.kind === 'restore' ? restoreStepsOf(plan) : plan.steps
  return {
    operation: operation.id,
    kind: plan.kind,
    digest,
    destroys: plan.kind === 'restore' ? plan.destroys : [],
    unsigned: plan.kind === 'restore' ? plan.unsigned : null,
    preempts: 'preempt' in operation.input && operation.input.preempt,
    steps: steps.map(stepView),
    hooks: plan.hooks.map(({ connection: _connection, run, ...hook }) => ({
      ...hook,
      command: showCommand(run),
      input: run.input ?? null,
    })),
    ...(plan.kind === 'restore'
      ? await restoreEstimate(context, operation, plan)
      : await backupEstimate(context, operation, plan)),
  }
}

const enablingView = (
  operation: string,
  digest: string,
  { kind, destroys, steps }: StoredArchivingPlan,
): PlanView => ({
  operation,
  kind,
  digest,
  destroys,
  unsigned: null,
  preempts: false,
  steps: steps.map(stepView),
  hooks: [],
  sizeBytes: 0,
  expected: null,
})

const stepView = (step: Step) => ({
  id: step.id,
  title: step.title,
  command: showCommand(step.run),
  input: step.run.input ?? null,
})

/** As the last backup of the same connection went; the first one knows its size only. */
async function backupEstimate(
  { catalog }: ApiContext,
  { connection }: OperationRecord,
  plan: StoredBackupPlan,
) {
  const [last] =
    connection === null ? [] : await listBackups(catalog, { connection, committed: true }, undefined, 1)
  return {
    sizeBytes: plan.facts.sizeBytes,
    expected: last
      ? {
          storedBytes: last.storedBytes,
          seconds: secondsBetween(last.startedAt, last.endedAt),
          from: `backup ${last.id}`,
        }
      : null,
  }
}

/** Sizes are the manifest's; the time is of the last restore into the same server. */
async function restoreEstimate(
  { catalog }: ApiContext,
  { connection }: OperationRecord,
  { manifest }: StoredRestorePlan,
) {
  const sum = (field: 'toolBytes' | 'storedBytes') =>
    manifest.artifacts.reduce((total, artifact) => total + artifact[field], 0)
  const filter = {
    ...(connection === null ? {} : { connection }),
    kind: 'restore',
    state: 'succeeded',
  } as const
  const restores = await listOperations(catalog, filter, undefined, 20)
  const last = restores.find(one => 'targetDatabase' in one.input && !one.input.dryRun)
  return {
    sizeBytes: sum('toolBytes'),
    expected: {
      storedBytes: sum('storedBytes'),
      seconds: last?.endedAt ? secondsBetween(last.createdAt, last.endedAt) : null,
      from: last ? `restore ${last.id}` : `backup ${manifest.backupId}`,
    },
  }
}

const secondsBetween = (from: string, to: string): number =>
  Math.ceil((Date.parse(to) - Date.parse(from)) / 1000)
