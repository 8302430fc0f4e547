/**
 * What replaces: each step is written down before it begins and when it has ended, and one that has ended is never run
 * again, whatever Temporal remembers. The way back is open until the new database was handed over.
 */
import { engineOf } from '../engines/index.ts'
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { RestoreInput } from '../model/records.ts'
import type { MethodName } from '../model/types.ts'
import type { Turn } from './boundary.ts'
import { cleanHost } from './cleanup.ts'
import type { WorkerContext } from './context.ts'
import { approvedPlan, methodOf, type StoredRestorePlan, stepContext, storedPlan } from './plan.ts'
import { expectSuccess, isDone, runCommand, runStep, type StepContext } from './steps.ts'

/** Uses the approval up for this run. From then on, and only then, the stored plan may be carried out. */
export async function useApproval(context: WorkerContext, turn: Turn, input: RestoreInput): Promise<void> {
  const { digest } = await approvedPlan(context, input.operationId)
  await context.catalog.useApproval(input.operationId, {
    approvalId: input.approvalId ?? 'none',
    runId: turn.runId,
    planDigest: digest,
  })
}

const noArtifacts = async (): Promise<never> => {
  throw new HoldfastError('internal', 'A swap reads no artifact.')
}

async function swapContext(context: WorkerContext, turn: Turn, input: RestoreInput) {
  const plan = await storedPlan(context, input.operationId, 'restore')
  const { swap } = plan
  if (!swap) throw new HoldfastError('internal', `The plan of ${input.operationId} replaces nothing.`)
  const steps = stepContext(context, turn, input.operationId, engineOf(input.targetEngine), plan.token)
  await context.host.files.ensureDirectory(context.host.stagingDir(input.operationId))
  return { plan, swap, steps }
}

export async function swapStep(
  context: WorkerContext,
  turn: Turn,
  input: RestoreInput,
  which: 'exchange' | 'open',
): Promise<void> {
  const { swap, steps } = await swapContext(context, turn, input)
  const begun = await context.catalog.beginDestructive(input.operationId, which, turn.runId)
  if (begun === 'finished') return
  turn.assertLease()
  // A run of before may live on: its programs end first.
  await context.host.stopOperation(input.operationId)
  turn.progress({ note: swap[which].title })
  await runStep(steps, swap[which], noArtifacts)
  await context.catalog.finishDestructive(input.operationId, which)
}

/** Notes what the swap has kept, for whoever wants to look, to go back, and for its removal. */
export async function recordKept(context: WorkerContext, turn: Turn, input: RestoreInput): Promise<void> {
  const { plan, swap, steps } = await swapContext(context, turn, input)
  const identity = await keptIdentity(steps, plan)
  if (identity === undefined) return
  const { name, look, goBack } = swap.kept
  await context.catalog.recordKept({
    operationId: input.operationId,
    state: 'kept',
    connection: input.targetConnection,
    name,
    identity,
    look,
    goBack,
    keepUntil: new Date(Date.now() + input.keepOldSeconds * 1000).toISOString(),
    endedAt: null,
  })
}

async function keptIdentity(steps: StepContext, plan: StoredRestorePlan): Promise<string | undefined> {
  if (!plan.swap) return undefined
  const result = await runCommand(steps, 'identify-kept', plan.swap.kept.identify)
  const identity = result.stdout.trim()
  if (result.exits.every(exit => exit === 0)) return identity === '' ? undefined : identity
  // A server that does not answer is not a copy that is gone.
  const problem = steps.engine.explain(result, { title: 'look for what was kept' })
  if (problem && problem.code !== 'database.missing') throw passing(problem)
  return undefined
}

/** What an outage hinders is tried again for as long as the step may. */
function passing(error: unknown): unknown {
  if (hasCode(error, 'database.unreachable')) {
    return new HoldfastError('host.unreachable', error.message, { hint: error.hint })
  }
  return error
}

/**
 * Takes back what a restore has made so far: the swap, unless it was handed over, then what carries the plan's token.
 * Answers true when it turns out that it was handed over: then the restore is finished.
 */
export async function undoRestore(context: WorkerContext, turn: Turn, input: RestoreInput): Promise<boolean> {
  await context.host.stopOperation(input.operationId)
  if (await context.catalog.plan(input.operationId)) {
    const plan = await storedPlan(context, input.operationId, 'restore')
    const steps = stepContext(context, turn, input.operationId, engineOf(input.targetEngine), plan.token)
    if (plan.swap && (await bringBack(context, turn, input)) === 'handed over') {
      await recordKept(context, turn, input)
      await cleanHost(context, input.operationId)
      return true
    }
    for (const [index, command] of plan.undo.entries()) {
      const result = await runCommand(steps, `undo-${index}`, command)
      try {
        expectSuccess(steps, { title: 'remove the unfinished restore' }, command, result)
      } catch (error) {
        throw passing(error)
      }
    }
  }
  await cleanHost(context, input.operationId)
  return false
}

async function bringBack(
  context: WorkerContext,
  turn: Turn,
  input: RestoreInput,
): Promise<'handed over' | 'the old one'> {
  const { swap, steps } = await swapContext(context, turn, input)
  const known = await context.catalog.destructiveSteps(input.operationId)
  if (known.open === 'finished') return 'handed over'
  if (known.exchange === undefined) return 'the old one'
  if (known.open === 'started' && known['roll-back'] === undefined && (await isDone(steps, swap.open))) {
    await context.catalog.finishDestructive(input.operationId, 'open')
    return 'handed over'
  }
  await context.catalog.beginRollBack(input.operationId)
  turn.assertLease()
  try {
    await runStep(steps, swap.rollBack, noArtifacts)
  } catch (error) {
    throw passing(error)
  }
  await context.catalog.finishDestructive(input.operationId, 'roll-back')
  // Where the old content was copied aside, the copy stays for the grace period.
  await recordKept(context, turn, input)
  return 'the old one'
}

/** Seconds until what was kept may go; null when it is settled. */
export async function keptFor(
  context: WorkerContext,
  _turn: Turn,
  operationId: string,
): Promise<number | null> {
  const kept = await context.catalog.kept(operationId)
  if (kept?.state !== 'kept') return null
  return Math.max(0, Math.ceil((Date.parse(kept.keepUntil) - Date.now()) / 1000))
}

/** Removes it if it is who it was; what somebody renamed, took back or adopted is theirs. */
export async function dropKept(context: WorkerContext, turn: Turn, operationId: string): Promise<void> {
  const kept = await context.catalog.kept(operationId)
  if (kept?.state !== 'kept') return
  const plan = await storedPlan(context, operationId, 'restore')
  const connection = await context.catalog.connection(kept.connection)
  const engine = engineOf(connection.engine)
  const steps = stepContext(context, turn, operationId, engine, plan.token)
  const same = async () => (await keptIdentity(steps, plan)) === kept.identity
  // Whoever finds it noted has nothing left to do.
  const ended = async (state: 'dropped' | 'gone') => {
    await cleanHost(context, operationId)
    await context.catalog.endKept(operationId, state)
  }
  if (!(await same())) return await ended('gone')
  const method = methodOf(engine, plan.manifest.method as MethodName)
  const command = method.dropKept(connection.settings, kept.connection, kept)
  turn.assertLease()
  const result = await runCommand(steps, 'drop-kept', command, 'no limit')
  try {
    expectSuccess(steps, { title: `remove ${kept.name}` }, command, result)
  } catch (error) {
    throw passing(error)
  }
  if (await same()) {
    throw new HoldfastError('database.busy', `${kept.name} is still there after it was removed.`)
  }
  await ended('dropped')
}
