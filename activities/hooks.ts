/** Hooks: what the operator runs around a backup or a restore. Planned with it, run on the host of its tools. */

import { setTimeout as sleep } from 'node:timers/promises'
import { resolveSecrets } from '../catalog/secret-references.ts'
import type { Command, CommandResult, Engine } from '../engines/engine.ts'
import type { JobId } from '../hosts/host.ts'
import { HoldfastError } from '../model/errors.ts'
import type { Hook, HookRun } from '../model/records.ts'
import type { Json } from '../model/types.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { logOf } from './log.ts'
import type { StoredBackupPlan, StoredRestorePlan } from './plan.ts'

/** A hook as part of a stored plan: everything is said but how the operation went. */
export interface PlannedHook extends Pick<Hook, 'name' | 'at' | 'when' | 'onFailure' | 'timeoutSeconds'> {
  connection: string
  run: Command
}

/** What a workflow knows of a hook. */
export type HookSummary = Pick<Hook, 'name' | 'at' | 'when'>

export type HookOutcome = 'succeeded' | 'failed' | 'cancelled'

export async function planHooks(
  context: WorkerContext,
  of: Hook['of'],
  engine: Engine,
  connection: { name: string; settings: Json },
  restoredDatabase: string | null,
): Promise<PlannedHook[]> {
  const hooks = await context.catalog.hooks(connection.name)
  const commandOf = ({ at, run, secretEnv }: Hook): Command => {
    if ('sql' in run) {
      const place =
        restoredDatabase === null ? 'own' : at === 'before' ? 'server' : { database: restoredDatabase }
      return engine.statement(connection.name, connection.settings, run.sql, place)
    }
    const secrets = Object.entries(secretEnv).map(
      ([variable, field]) => [variable, { connection: connection.name, field }] as const,
    )
    const [program = '', ...words] = run.argv
    return {
      stages: [
        {
          argv: [program, ...words],
          ...(secrets.length > 0 ? { secretEnv: Object.fromEntries(secrets) } : {}),
        },
      ],
    }
  }
  return hooks
    .filter(hook => hook.of === of)
    .map(hook => ({
      name: hook.name,
      at: hook.at,
      when: hook.when,
      onFailure: hook.onFailure,
      timeoutSeconds: hook.timeoutSeconds,
      connection: connection.name,
      run: commandOf(hook),
    }))
}

export const summarizeHooks = (hooks: readonly PlannedHook[]): HookSummary[] =>
  hooks.map(({ name, at, when }) => ({ name, at, when }))

/**
 * Runs a hook, or finds it again: it is a detached job, so a killed worker's successor waits for the same process. One that
 * has ended is recorded and not run again; one whose machine died halfway is. Returns a warning where its failure only
 * warns; throws `hook.failed` otherwise.
 */
export async function runHook(
  context: WorkerContext,
  turn: Turn,
  operationId: string,
  name: string,
  outcome: HookOutcome | null,
): Promise<{ warning: string | null }> {
  const stored = await context.catalog.plan(operationId)
  const plan = stored?.plan as unknown as StoredBackupPlan | StoredRestorePlan | undefined
  const hook = plan?.hooks.find(one => one.name === name)
  if (!plan || !hook) throw new HoldfastError('internal', `The stored plan has no hook "${name}".`)
  turn.progress({ note: name })
  const known = await context.catalog.hookRun(operationId, name)
  const run: HookRun =
    known?.endedAt != null
      ? known
      : await carryOut(context, turn, operationId, plan.token, hook, outcome, known)
  if (run.ok) return { warning: null }
  const said = `Hook "${name}" (${hook.at}) ${run.detail}`
  if (hook.onFailure === 'fail') throw new HoldfastError('hook.failed', said)
  return { warning: said }
}

async function carryOut(
  context: WorkerContext,
  turn: Turn,
  operationId: string,
  token: string,
  hook: PlannedHook,
  outcome: HookOutcome | null,
  known: HookRun | undefined,
): Promise<HookRun> {
  const begun = known ?? {
    name: hook.name,
    startedAt: new Date().toISOString(),
    endedAt: null,
    ok: null,
    detail: '',
  }
  turn.assertLease()
  if (!known) await context.catalog.recordHookRun(operationId, begun)
  const job = await jobOf(context, operationId, token, hook.name)
  const output = `hooks/${job.step}-${job.token}.out`
  const secrets = await resolveSecrets(await context.catalog.connectionSecrets(hook.connection))
  turn.assertLease()
  await context.host.files.ensureDirectory(context.host.stagingDir(operationId))
  await context.host.jobs.start(job, commandFor(operationId, hook, outcome), {
    stdoutFile: output,
    secrets: Object.fromEntries(
      hook.run.stages.flatMap(stage =>
        Object.entries(stage.secretEnv ?? {}).map(([name, { field }]) => [name, secrets[field] ?? '']),
      ),
    ),
    fence: turn.fence,
  })
  const result = await followUntil(
    context,
    turn,
    job,
    Date.parse(begun.startedAt) + hook.timeoutSeconds * 1000,
  )
  const printed = await tailOf(context, `${context.host.stagingDir(operationId)}/${output}`)
  const text = [printed, result === 'late' ? '' : result.stderrTail]
    .filter(part => part.trim() !== '')
    .join('\n')
  await logOf(context, operationId, secrets)(`hook ${hook.name}`, text, `hook-${hook.name}-${job.token}`)
  const exit = result === 'late' ? undefined : result.exits.find(code => code !== 0)
  const ended: HookRun = {
    ...begun,
    endedAt: new Date().toISOString(),
    ok: result !== 'late' && exit === undefined,
    detail:
      result === 'late'
        ? `did not end within ${hook.timeoutSeconds} seconds and was stopped.`
        : exit === undefined
          ? ''
          : `exited with ${exit}; what it printed is in the operation's log.`,
  }
  turn.assertLease()
  await context.catalog.recordHookRun(operationId, ended)
  return ended
}

/** A job whose machine died is followed by another one, under another name. */
async function jobOf(context: WorkerContext, operation: string, token: string, name: string): Promise<JobId> {
  for (let count = 1; ; count += 1) {
    const job = { operation, step: `hook-${name}`, token: `${token}-${count}` }
    if ((await context.host.jobs.status(job)).state !== 'lost') return job
  }
}

/** The program is told what it is run for. */
function commandFor(operationId: string, hook: PlannedHook, outcome: HookOutcome | null): Command {
  const [first, ...rest] = hook.run.stages
  const env = {
    ...first.env,
    HOLDFAST_OPERATION: operationId,
    HOLDFAST_CONNECTION: hook.connection,
    ...(outcome === null ? {} : { HOLDFAST_OUTCOME: outcome }),
  }
  return { ...hook.run, stages: [{ ...first, env }, ...rest] }
}

/** Its time runs from its first start, also while no worker lives. A cancelled hook is stopped here and now. */
async function followUntil(
  context: WorkerContext,
  turn: Turn,
  job: JobId,
  deadline: number,
): Promise<CommandResult | 'late'> {
  try {
    for (let waitMs = 20; ; waitMs = Math.min(waitMs * 2, 500)) {
      const status = await context.host.jobs.status(job)
      if (status.result) return status.result
      if (status.state === 'lost') {
        throw new HoldfastError('host.job-lost', `Hook ${job.step}: it vanished without an exit code.`)
      }
      if (Date.now() > deadline) {
        await context.host.jobs.stop(job, turn.fence)
        return 'late'
      }
      await sleep(waitMs, undefined, { signal: turn.signal })
    }
  } catch (error) {
    if (turn.signal.reason instanceof Error && turn.signal.reason.message === 'CANCELLED') {
      await context.host.jobs.stop(job, turn.fence)
    }
    throw error
  }
}

const tailBytes = 65_536

async function tailOf(context: WorkerContext, path: string): Promise<string> {
  const stat = await context.host.files.stat(path)
  if (!stat) return ''
  const offset = Math.max(0, stat.bytes - tailBytes)
  const chunks: Buffer[] = []
  const length = stat.bytes - offset
  if (length === 0) return ''
  for await (const chunk of context.host.files.read(path, { offset, length })) {
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString('utf8')
}
