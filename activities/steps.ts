/**
 * Carries out the steps of a plan on a host. Knows no Temporal: `holdfast recover` uses it too.
 */

import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command, CommandResult, Engine, SecretRef, Stage, Step } from '../engines/engine.ts'
import type { Host, JobId, RunningStream, SecretValues } from '../hosts/host.ts'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import { type Packing, unpackerOf, unpackingProgram } from '../storage/unpack.ts'

/** What a step needs around it. */
export interface StepContext {
  host: Host
  engine: Pick<Engine, 'title' | 'explain'>
  operation: string
  /** Stays the same for every run of this plan: detached jobs are found again by it. */
  token: string
  signal: AbortSignal
  fence: number
  /** undefined: the connection stores no such secret. */
  secret(ref: SecretRef): Promise<string | undefined>
  /** Told what a tool printed on standard error, also when all went well. */
  heard?(title: string, text: string): Promise<void>
  /** Called before each program is started: throws if this run of the step was superseded. */
  assertLease(): void
}

const randomToken = () => readable(crypto.getRandomValues(new Uint8Array(8)))

/** Each run of an attached step is a job of its own. */
const freshJob = (context: StepContext, step: string): JobId => ({
  operation: context.operation,
  step,
  token: randomToken(),
})

const detachedJob = (context: StepContext, step: string): JobId => ({
  operation: context.operation,
  step,
  token: context.token,
})

/**
 * Values of every secret the command names, by environment variable. One that is not stored is empty, not left out: what
 * the worker itself was started with is no answer for this connection.
 */
async function secretsOf(context: StepContext, command: Command): Promise<SecretValues> {
  const values: SecretValues = {}
  for (const stage of command.stages) {
    for (const [name, ref] of Object.entries(stage.secretEnv ?? {})) {
      values[name] = (await context.secret(ref)) ?? ''
    }
  }
  return values
}

/** Throws what a failed result means; returns it when every stage exited 0. */
export function expectSuccess(
  context: Pick<StepContext, 'engine'>,
  step: Pick<Step, 'title' | 'writesTo'>,
  command: Command,
  result: CommandResult,
): CommandResult {
  if (result.exits.length > 0 && result.exits.every(code => code === 0)) return result
  const asked = { title: step.title, ...(step.writesTo ? { writesTo: step.writesTo } : {}) }
  const explained = context.engine.explain(result, asked)
  if (explained) throw explained
  // SIGPIPE of an earlier stage is the echo of a later one's failure: the first other failure is the cause.
  const failed = result.exits.findIndex(code => code !== 0 && code !== 141)
  const index = failed === -1 ? result.exits.findIndex(code => code !== 0) : failed
  const exit = result.exits[index] ?? -1
  const program = command.stages[index]?.argv[0] ?? command.stages[0].argv[0]
  const tail = result.stderrTail.trim()
  const last = tail ? ` Its last lines: ${tail.slice(-1500)}` : ''
  const context_ = { exitCode: exit, program }
  if (exit === 127) {
    throw new HoldfastError(
      'host.tool-missing',
      `${step.title}: "${program}" is not installed on this host.`,
      {
        context: context_,
      },
    )
  }
  if (/No space left on device/.test(tail)) {
    const code = step.writesTo === 'target' ? 'restore.target-full' : 'staging.full'
    throw new HoldfastError(code, `${step.title}: the file system is full.${last}`, { context: context_ })
  }
  if (exit === 128 + 9 || exit === 128 + 15) {
    throw new HoldfastError('tool.interrupted', `${step.title}: ${program} was ended by a signal.${last}`, {
      context: context_,
    })
  }
  throw new HoldfastError('tool.failed', `${step.title}: ${program} exited with ${exit}.${last}`, {
    context: context_,
  })
}

/** The same for a step of the plan: what it said goes to the operation's log first. */
export async function succeeded(
  context: StepContext,
  step: Pick<Step, 'title' | 'writesTo'>,
  command: Command,
  result: CommandResult,
): Promise<void> {
  await context.heard?.(step.title, result.stderrTail)
  expectSuccess(context, step, command, result)
}

/** Questions and small acts are answered within this; proofs may take as long as they take. */
const shortSeconds = 120

/** A command whose output is wanted. Never throws for a non-zero exit. */
export async function runCommand(
  context: StepContext,
  name: string,
  command: Command,
  timeoutSeconds: number | 'no limit' = shortSeconds,
): Promise<CommandResult> {
  context.assertLease()
  return await context.host.run(freshJob(context, name), command, {
    signal: context.signal,
    secrets: await secretsOf(context, command),
    ...(timeoutSeconds === 'no limit' ? {} : { timeoutSeconds }),
  })
}

/** Runs the commands of a probe, which only ask, side by side; returns what they printed. None of them outlives it. */
export async function runProbe(
  context: StepContext,
  name: string,
  commands: Record<string, Command>,
  timeoutSeconds?: number | 'no limit',
): Promise<Record<string, CommandResult>> {
  const asked = Object.entries(commands).map(
    async ([id, command]) =>
      [id, await runCommand(context, `${name}-${id}`, command, timeoutSeconds)] as const,
  )
  const answers = await Promise.allSettled(asked)
  const failed = answers.find(answer => answer.status === 'rejected')
  if (failed) throw failed.reason
  return Object.fromEntries(await Promise.all(asked))
}

/** True when the step's own check says that its effect is there already. */
export async function isDone(context: StepContext, step: Step): Promise<boolean> {
  if (!step.done) return false
  const result = await runCommand(context, `${step.id}-done`, step.done)
  return result.exits.every(code => code === 0)
}

/** The step's pipe with the compressor as its last program. */
export const pipeOf = (step: Pick<Step, 'run'>, compressor: Stage | undefined): Command => {
  const [first, ...rest] = step.run.stages
  return compressor ? { ...step.run, stages: [first, ...rest, compressor] } : step.run
}

/** Starts a step whose output is streamed through the compressor. */
export async function startStream(
  context: StepContext,
  step: Pick<Step, 'id' | 'run'>,
  compressor: Stage | undefined,
): Promise<RunningStream> {
  context.assertLease()
  return await context.host.stream(freshJob(context, step.id), pipeOf(step, compressor), {
    signal: context.signal,
    secrets: await secretsOf(context, step.run),
  })
}

/** An attached step that neither streams out nor is fed. */
async function runAttached(context: StepContext, step: Step): Promise<void> {
  context.assertLease()
  const running = await context.host.stream(freshJob(context, step.id), step.run, {
    signal: context.signal,
    secrets: await secretsOf(context, step.run),
  })
  running.stdout.resume()
  await succeeded(context, step, step.run, await running.result)
}

/**
 * A detached step: started once, re-attached by every later run. One that vanished without an exit code throws
 * `host.job-lost`: what it wrote is worth nothing, and the caller begins again from empty staging.
 */
export async function runDetached(
  context: StepContext,
  step: Step,
  onPoll: () => Promise<void>,
): Promise<void> {
  const job = detachedJob(context, step.id)
  const lost = () =>
    new HoldfastError(
      'host.job-lost',
      `${step.title}: the tool vanished without an exit code; it is run again.`,
    )
  // Before starting: a job that died with its machine must not be continued over its own remains.
  if ((await context.host.jobs.status(job)).state === 'lost') throw lost()
  context.assertLease()
  await context.host.jobs.start(job, step.run, {
    ...(step.output.to === 'staging' ? { stdoutFile: step.output.file } : {}),
    secrets: await secretsOf(context, step.run),
    fence: context.fence,
  })
  const status = await follow(context, job, onPoll)
  if (!status.result) throw lost()
  await succeeded(context, step, step.run, status.result)
}

/** What a detached step that has ended said on standard error. */
export async function saidBy(context: StepContext, step: Pick<Step, 'id'>): Promise<string> {
  const { result } = await context.host.jobs.status(detachedJob(context, step.id))
  return result?.stderrTail ?? ''
}

async function follow(context: StepContext, job: JobId, onPoll: () => Promise<void>) {
  for (let waitMs = 20; ; waitMs = Math.min(waitMs * 2, 500)) {
    const status = await context.host.jobs.status(job)
    if (status.state !== 'running') return status
    await onPoll()
    await sleep(waitMs, undefined, { signal: context.signal })
  }
}

/**
 * Feeds an artifact to a step. `compressed` ends only after the whole artifact has proven itself; "complete" is said
 * to the program after that, never before.
 */
async function runFed(
  context: StepContext,
  step: Step,
  { compressed, packing }: OpenedArtifact,
): Promise<void> {
  context.assertLease()
  const program = unpackingProgram(packing)
  const native = program !== undefined && (await context.host.tool(program[0])) !== undefined
  const command: Command = native ? { stages: [{ argv: program }, ...step.run.stages] } : step.run
  const feed = await context.host.feed(freshJob(context, step.id), command, {
    signal: context.signal,
    secrets: await secretsOf(context, step.run),
  })
  try {
    if (native) await pipeline(compressed, feed.stdin, { signal: context.signal })
    else await pipeline(compressed, unpackerOf(packing), feed.stdin, { signal: context.signal })
    context.assertLease()
    await feed.complete()
  } catch (error) {
    compressed.destroy()
    // The program may have ended first: then what it said is the cause, not our broken pipe.
    const early = isBrokenPipe(error) ? await Promise.race([feed.result, sleep(5000, undefined)]) : undefined
    await feed.stop()
    if (early) expectSuccess(context, step, command, early)
    throw error
  }
  await succeeded(context, step, command, await feed.result)
}

const isBrokenPipe = (error: unknown): boolean =>
  error instanceof Error &&
  'code' in error &&
  (error.code === 'EPIPE' || error.code === 'ERR_STREAM_PREMATURE_CLOSE' || error.code === 'ECONNRESET')

/** The compressed bytes of an artifact, authenticated, and what unpacks them. */
export interface OpenedArtifact {
  compressed: Readable
  packing: Packing
}

/** One step of a restore, whatever its shape. `open` opens the named artifact. */
export async function runStep(
  context: StepContext,
  step: Step,
  open: (artifact: string, of?: string) => Promise<OpenedArtifact>,
  onPoll: () => Promise<void> = async () => {},
): Promise<void> {
  if (await isDone(context, step)) return
  if (step.feeds) return await runFed(context, step, await open(step.feeds.artifact, step.feeds.of))
  if (step.resume === 'attach') return await runDetached(context, step, onPoll)
  return await runAttached(context, step)
}

/** The command as a person would type it, for records: quoted where needed, secrets left out, input not shown. */
export function showCommand(command: Command): string {
  return command.stages
    .map(stage =>
      stage.argv
        .map(word => (/^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`))
        .join(' '),
    )
    .join(' | ')
}
