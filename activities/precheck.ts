/**
 * Readiness, before anything is touched: tools, staging, destination, keys, and what the engine itself asks.
 * Every answer is recorded; the first failed one is thrown with its code.
 */
import type { Command, Step } from '../engines/engine.ts'
import { engineOf } from '../engines/index.ts'
import { type ErrorCode, HoldfastError, isErrorCode } from '../model/errors.ts'
import type { BackupInput, Lost, RestoreInput } from '../model/records.ts'
import type { CheckResult } from '../model/types.ts'
import { hostOfDestination } from '../storage/index.ts'
import type { Turn } from './boundary.ts'
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
import { runProbe } from './steps.ts'
import { frozenWords, lookForFrozen } from './thaw.ts'

export interface ChecksSummary {
  passed: number
  warnings: string[]
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
    ...(await toolChecks(context, plan.steps, neededEncoder(input.compression))),
    ...(await engineChecks(context, turn, input, plan)),
    await stagingCheck(
      context,
      plan.artifacts.some(artifact => !('step' in artifact.from)) ? plan.facts.sizeBytes : 0,
    ),
    ...places,
    ...(await apartChecks(context, to)),
  ]
  if (input.recipients.length > 0) {
    checks.push(
      await attempt('keys', 'Encryption keys are at hand', async () => {
        await context.catalog.wrapDataKey(Buffer.alloc(32).toString('base64url'), input.recipients)
        return input.recipients.join(', ')
      }),
    )
  }
  return { ...(await settle(context, input.operationId, checks)), to, lost }
}

async function apartChecks(context: WorkerContext, to: readonly string[]): Promise<CheckResult[]> {
  const checks: CheckResult[] = []
  for (const name of to) checks.push(...(await apartCheck(context, name)))
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
    ...(await toolChecks(context, restoreStepsOf(plan))),
    ...(await restoreStagingChecks(context, plan)),
    ...probe.read(await runProbe(steps, 'target', probe.commands)),
    ...(await frozenCheck(context, input, plan)),
  ]
  return await settle(context, input.operationId, checks)
}

/** Said where it is so; otherwise there is nothing to say. */
async function frozenCheck(
  context: WorkerContext,
  input: RestoreInput,
  { manifest }: StoredRestorePlan,
): Promise<CheckResult[]> {
  const frozen = await lookForFrozen(context.destination, input, manifest)
  if (frozen === null) return []
  const title = 'The artifacts can be read at once'
  return [
    {
      id: 'frozen',
      title,
      answer: 'warn',
      code: 'destination.archived',
      detail: `${frozenWords(frozen)}; the restore waits for it`,
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
  const facts = await probeServer(steps, engine, connection, 'probe')
  return method.checks(connection.settings, plan.request, facts)
}

async function toolChecks(
  context: WorkerContext,
  steps: readonly Step[],
  encoder?: string,
): Promise<CheckResult[]> {
  const programs = new Set<string>(encoder === undefined ? [] : [encoder])
  const note = (command: Command) => {
    for (const stage of command.stages) programs.add(stage.argv[0])
  }
  for (const step of steps) note(step.run)
  const checks: CheckResult[] = []
  for (const program of programs) {
    const found = await context.host.tool(program)
    checks.push(
      found
        ? { id: `tool-${program}`, title: `${program} is installed`, answer: 'pass', detail: found.version }
        : {
            id: `tool-${program}`,
            title: `${program} is installed`,
            answer: 'fail',
            code: 'host.tool-missing',
            detail: `"${program}" was not found on host "${context.host.name}".`,
          },
    )
  }
  return checks
}

/** What takes that machine would take its backups, too. */
async function apartCheck(context: WorkerContext, name: string): Promise<CheckResult[]> {
  // One that cannot be opened has failed its own check.
  const destination = await context.destination(name).catch(() => undefined)
  const on = destination && hostOfDestination(destination)
  if (destination === undefined || on === 'local' || on !== context.host.name) return []
  return [
    {
      id: 'destination-apart',
      title: 'The destination is on another machine than the database',
      answer: 'warn',
      detail: `${destination.uri} is on host ${on}, where the tools of this connection run.`,
      hint: 'Keep another copy elsewhere: what takes that machine takes these backups, too.',
    },
  ]
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`

async function stagingCheck(
  context: Pick<WorkerContext, 'host'>,
  neededBytes: number,
  id = 'staging',
): Promise<CheckResult> {
  return await attempt(id, 'Staging can be written and has room', async () => {
    const root = context.host.stagingRoot
    await context.host.files.ensureDirectory(root)
    const probe = `${root}/.precheck-${crypto.randomUUID()}`
    await context.host.files.write(probe, 'holdfast')
    await context.host.files.remove(probe)
    const free = await context.host.files.freeBytes(root)
    if (free < neededBytes) {
      throw new HoldfastError(
        'staging.full',
        `Staging has ${gigabytes(free)} free; the staged copy needs about ${gigabytes(neededBytes)}.`,
      )
    }
    return `${gigabytes(free)} free`
  })
}

/** What is unpacked in staging is kept on this machine as it was downloaded, too, until it is unpacked. */
async function restoreStagingChecks(
  context: WorkerContext,
  { steps, manifest }: StoredRestorePlan,
): Promise<CheckResult[]> {
  const staged = steps.flatMap(step =>
    step.writesTo === 'staging' && step.feeds ? [step.feeds.artifact] : [],
  )
  const entries = manifest.artifacts.filter(artifact => staged.includes(artifact.name))
  const unpackedBytes = entries.reduce((sum, entry) => sum + entry.toolBytes, 0)
  const downloadedBytes = entries.reduce((sum, entry) => sum + entry.storedBytes, 0)
  if (context.host === context.here) return [await stagingCheck(context, unpackedBytes + downloadedBytes)]
  const onHost = await stagingCheck(context, unpackedBytes)
  if (downloadedBytes === 0) return [onHost]
  return [onHost, await stagingCheck({ host: context.here }, downloadedBytes, 'staging-of-worker')]
}

/** Runs a check that throws when it fails. */
async function attempt(id: string, title: string, check: () => Promise<string>): Promise<CheckResult> {
  try {
    return { id, title, answer: 'pass', detail: await check() }
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    return { id, title, answer: 'fail', detail: error.message, hint: error.hint, code: error.code }
  }
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
  }
}
