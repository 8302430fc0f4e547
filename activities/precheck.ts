/**
 * Readiness, before anything is touched: tools, staging, destination, keys, and what the engine itself asks.
 * Every answer is recorded; the first failed one is thrown with its code.
 */
import type { ServerFacts } from '../engines/engine.ts'
import { engineOf } from '../engines/index.ts'
import { type ErrorCode, HoldfastError, isErrorCode } from '../model/errors.ts'
import type { BackupInput, Lost, RestoreInput } from '../model/records.ts'
import type { CheckResult } from '../model/types.ts'
import type { Turn } from './boundary.ts'
import {
  attempt,
  directoryChecks,
  onlyWaits,
  stagedBytes,
  stagingCheck,
  toolChecks,
  writableCheck,
} from './checks.ts'
import type { WorkerContext } from './context.ts'
import { neededEncoder } from './encoder.ts'
import { expectWriter, writerEpoch } from './epoch.ts'
import { standIns } from './places.ts'
import {
  methodOf,
  probeServer,
  restoreStepsOf,
  type StoredBackupPlan,
  type StoredRestorePlan,
  stepContext,
  storedPlan,
} from './plan.ts'
import { stagingNeeds } from './restore.ts'
import { askAs } from './room.ts'
import { runProbe } from './steps.ts'
import { type Frozen, frozenWords, lookForFrozen } from './thaw.ts'

export interface ChecksSummary {
  passed: number
  warnings: string[]
  /** All of them, for the operation's page. */
  checks: CheckResult[]
}

/** And where the backup goes: to whatever of its destinations is ready, or stands in for one that is not. */
export interface Ready extends ChecksSummary {
  to: string[]
  lost: Lost[]
}

export async function precheckBackup(context: WorkerContext, turn: Turn, input: BackupInput): Promise<Ready> {
  const plan = await storedPlan(context, input.operationId, 'backup')
  const { checks: places, to, lost } = await destinationChecks(context, turn, input)
  const checks: CheckResult[] = [
    ...(await toolChecks(context.host, plan.steps, neededEncoder(input.compression))),
    ...(await engineChecks(context, turn, input, plan)),
    await roomCheck(context, input, plan),
    ...places,
    ...(await placesChecks(context, to, plan.facts)),
  ]
  if (input.recipients.length > 0) {
    checks.push(
      await attempt('keys', 'Encryption keys are at hand', async () => {
        await context.catalog.wrapDataKey(Buffer.alloc(32).toString('base64url'), input.recipients)
        return input.recipients.join(', ')
      }),
    )
  }
  // Nothing begins: whoever waits for the room is not to wait for this.
  if (checks.some(({ answer }) => answer === 'fail'))
    await context.catalog.releaseStaging(input.operationId, 'tools')
  return { ...(await settle(context, input.operationId, checks)), to, lost }
}

/** Once it is a backup that will run, the room is its own from here on. */
async function roomCheck(
  context: WorkerContext,
  { operationId, dryRun }: BackupInput,
  plan: StoredBackupPlan,
): Promise<CheckResult> {
  const need = { operationId, purpose: 'tools', bytes: stagedBytes(plan, plan.facts) } as const
  if (need.bytes === 0) return await writableCheck(context.host, 'staging')
  const writtenBytes = await context.host.files.size(context.host.stagingDir(operationId))
  const check = await stagingCheck(
    context.host,
    { ...need, writtenBytes },
    askAs(context, need, dryRun ? 'look' : 'ask'),
  )
  return dryRun ? onlyWaits(check) : check
}

async function placesChecks(
  context: WorkerContext,
  to: readonly string[],
  facts: ServerFacts,
): Promise<CheckResult[]> {
  const checks: CheckResult[] = []
  for (const name of to) {
    // One that cannot be opened has failed its own check.
    const destination = await context.destination(name).catch(() => undefined)
    if (destination)
      checks.push(...(await directoryChecks({ tools: context.host, here: context.here }, destination, facts)))
  }
  return checks
}

/** One that fails only warns where another one is ready. */
async function destinationChecks(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
): Promise<{ checks: CheckResult[]; to: string[]; lost: Lost[] }> {
  const check = (name: string) =>
    attempt(`destination-${name}`, `Destination "${name}" takes and gives back objects`, async () => {
      const destination = await context.destination(name)
      const notes = await destination.check({ signal: turn.signal })
      if (input.dryRun) await expectWriter(context, name)
      else await writerEpoch(context, name)
      return [destination.uri, ...notes].join('. ')
    })
  const checks: CheckResult[] = []
  const to: string[] = []
  const lost: Lost[] = []
  const ask = async (names: readonly string[]) => {
    for (const name of names) {
      const answer = await check(name)
      checks.push(answer)
      if (answer.answer === 'pass') to.push(name)
      else lost.push({ destination: name, code: answer.code ?? 'internal', detail: answer.detail })
    }
  }
  await ask(input.destinations)
  await ask(standIns(input, lost, input.destinations))
  if (to.length === 0) return { checks, to, lost }
  return {
    checks: checks.map(one => (one.answer === 'fail' ? { ...one, answer: 'warn' as const } : one)),
    to,
    lost: lost.filter(({ destination }) => input.destinations.includes(destination)),
  }
}

export async function precheckRestore(
  context: WorkerContext,
  turn: Turn,
  input: RestoreInput,
): Promise<ChecksSummary> {
  const plan = await storedPlan(context, input.operationId, 'restore')
  const connection = await context.catalog.connection(input.targetConnection)
  const engine = engineOf(input.targetEngine)
  const method = methodOf(engine, plan.manifest.method as 'logical' | 'physical')
  const steps = stepContext(context, turn, input.operationId, engine, plan.token)
  const probe = method.targetChecks(connection.settings, plan.target, plan.manifest)
  const checks: CheckResult[] = [
    ...(await toolChecks(context.host, restoreStepsOf(plan))),
    ...(await restoreStagingChecks(context, input, plan)),
    ...probe.read(await runProbe(steps, 'target', probe.commands)),
    ...(await frozenCheck(context, input, plan)),
  ]
  return await settle(context, input.operationId, checks)
}

/** Said where it is so; otherwise there is nothing to say. With what the backup is put together with. */
async function frozenCheck(
  context: WorkerContext,
  input: RestoreInput,
  { manifest, target }: StoredRestorePlan,
): Promise<CheckResult[]> {
  const frozen: Frozen[] = []
  for (const from of [input, ...(input.parents ?? [])]) {
    const of = from === input ? manifest : target.parents?.find(({ backupId }) => backupId === from.backupId)
    const found = of && (await lookForFrozen(context.destination, from, of))
    if (found) frozen.push(found)
  }
  if (frozen.length === 0) return []
  const all = {
    objects: frozen.reduce((sum, { objects }) => sum + objects, 0),
    hours: Math.max(...frozen.map(({ hours }) => hours)),
  }
  return [
    {
      id: 'frozen',
      title: 'The artifacts can be read at once',
      answer: 'warn',
      code: 'destination.archived',
      detail: `${frozenWords(all)}; the restore waits for it`,
    },
  ]
}

/**
 * From the plan's facts, which are seconds old. Where they fail, the server is asked anew: the operation may have been
 * parked for this, and the cause mended.
 */
async function engineChecks(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  plan: StoredBackupPlan,
): Promise<CheckResult[]> {
  const engine = engineOf(input.engine)
  const method = methodOf(engine, input.method)
  const connection = await context.catalog.connection(input.connection)
  const answered = method.checks(connection.settings, plan.request, plan.facts)
  if (answered.every(check => check.answer !== 'fail')) return answered
  const steps = stepContext(context, turn, input.operationId, engine, plan.token)
  const facts = await probeServer(steps, engine, connection, 'probe', method.name)
  return method.checks(connection.settings, plan.request, facts)
}

/** Asked for once more, and promised, when it is unpacked: an approval and a backup may come before that. */
async function restoreStagingChecks(
  context: WorkerContext,
  { operationId }: RestoreInput,
  plan: StoredRestorePlan,
): Promise<CheckResult[]> {
  const needs = stagingNeeds(context, operationId, plan)
  if (needs.length === 0) return [await writableCheck(context.host, 'staging')]
  const checks: CheckResult[] = []
  for (const { host, need } of needs) {
    const id = need.purpose === 'download' ? 'staging-of-worker' : 'staging'
    checks.push(onlyWaits(await stagingCheck(host, need, askAs(context, need, 'look'), id)))
  }
  return checks
}

async function settle(
  context: WorkerContext,
  operationId: string,
  checks: CheckResult[],
): Promise<ChecksSummary> {
  await context.catalog.updateOperation(operationId, { checks })
  const failed = checks.find(check => check.answer === 'fail')
  if (failed) {
    const code: ErrorCode = isErrorCode(failed.code) ? failed.code : 'internal'
    throw new HoldfastError(code, `Check "${failed.title}" failed: ${failed.detail}`, {
      ...(failed.hint ? { hint: failed.hint } : {}),
      context: { check: failed.id },
    })
  }
  return {
    passed: checks.filter(check => check.answer === 'pass').length,
    warnings: checks.filter(check => check.answer === 'warn').map(check => check.detail),
    checks,
  }
}
