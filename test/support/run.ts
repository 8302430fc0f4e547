/** A small executor of plans for tests of the engines: pipes of programs in a staging directory. No retries. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type {
  BackupPlan,
  Command,
  CommandResult,
  Engine,
  Method,
  Probe,
  RestorePlan,
  RestoreTarget,
  ServerFacts,
  Step,
} from '../../engines/engine.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { Manifest } from '../../model/manifest.ts'

export interface Place {
  /** Working directory of the commands; also keeps the artifacts. */
  staging: string
  secrets: Record<string, string>
}

/** Of a restore's target. The socket of a copy is named by it, in a directory that all suites share. */
export const newToken = (): string => randomBytes(8).toString('hex')

export interface RunInput {
  feed?: Readable
  output?: Writable
  onSpawn?: (children: ChildProcess[]) => void
}

export async function runCommand(place: Place, command: Command, io: RunInput = {}): Promise<CommandResult> {
  await mkdir(place.staging, { recursive: true })
  const children = command.stages.map(stage => {
    const [program, ...args] = stage.argv
    const env: NodeJS.ProcessEnv = {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      LANG: process.env.LANG,
      ...stage.env,
    }
    for (const [name, ref] of Object.entries(stage.secretEnv ?? {})) {
      const value = place.secrets[ref.field]
      if (value !== undefined) env[name] = value
    }
    return spawn(program, args, { cwd: place.staging, env, stdio: 'pipe' })
  })
  io.onSpawn?.(children)
  let stderrTail = ''
  let stdout = ''
  const exits = children.map(
    (child, i) =>
      new Promise<number>(resolve => {
        child.stderr?.on('data', chunk => {
          stderrTail = (stderrTail + chunk).slice(-8192)
        })
        child.once('error', error => {
          stderrTail += `${command.stages[i]?.argv[0]}: not found (${error.message})\n`
          resolve(127)
        })
        child.once('close', (code, signal) =>
          resolve(signal === null ? (code ?? 1) : 128 + signalNumber(signal)),
        )
      }),
  )
  const ignore = () => undefined
  const flows: Promise<unknown>[] = []
  for (const [i, child] of children.entries()) {
    const next = children[i + 1]
    if (next) flows.push(pipeline(child.stdout as Readable, next.stdin as Writable).catch(ignore))
    else if (io.output) flows.push(pipeline(child.stdout as Readable, io.output))
    else child.stdout?.on('data', chunk => (stdout += chunk))
  }
  const first = children[0]?.stdin as Writable
  first.on('error', ignore)
  if (io.feed) flows.push(pipeline(io.feed, first).catch(ignore))
  else first.end(command.input ?? '')
  const ended = await Promise.all(exits)
  await Promise.all(flows)
  return { exits: ended, stdout, stderrTail }
}

const signalNumber = (signal: NodeJS.Signals): number =>
  ({ SIGKILL: 9, SIGTERM: 15, SIGPIPE: 13, SIGINT: 2 })[signal as 'SIGKILL'] ?? 1

/** Throws as the product does: the engine's explanation, else `tool.failed`. */
export function expectOk(
  engine: Engine,
  step: Pick<Step, 'title' | 'writesTo'>,
  result: CommandResult,
): CommandResult {
  if (result.exits.every(exit => exit === 0)) return result
  throw (
    engine.explain(result, step) ??
    new HoldfastError('tool.failed', `${step.title}: exits ${result.exits}: ${result.stderrTail}`)
  )
}

export async function ask<Answer>(place: Place, probe: Probe<Answer>): Promise<Answer> {
  const outputs: Record<string, CommandResult> = {}
  for (const [name, command] of Object.entries(probe.commands))
    outputs[name] = await runCommand(place, command)
  return probe.read(outputs)
}

/** A backup without Holdfast's storage: artifacts as plain files in staging. */
export interface PlainBackup {
  manifest: Manifest
  plan: BackupPlan
  facts: ServerFacts
  /** Path of the tool's bytes by artifact name. */
  files: Record<string, string>
}

let made = 0

export async function backUp(
  engine: Engine,
  method: Method,
  settings: unknown,
  place: Place,
  options: { toolFormat?: string; jobs?: number; connection?: string; parent?: PlainBackup } = {},
): Promise<PlainBackup> {
  const connection = options.connection ?? 'source'
  const facts = await ask(place, engine.probe(connection, settings, method.name))
  const toolFormat = options.toolFormat ?? method.toolFormats[0] ?? ''
  const { parent } = options
  const request = {
    ...{ connection, toolFormat, jobs: options.jobs ?? 2 },
    ...(parent ? { type: 'incremental' as const, parent: parent.manifest } : { type: 'full' as const }),
  }
  const plan = method.planBackup(settings, request, facts)
  const files: Record<string, string> = {}
  const said: Record<string, string> = {}
  for (const step of plan.steps) {
    const file = step.output.to === 'artifact' ? step.output.artifact : undefined
    const path = file === undefined ? undefined : join(place.staging, `artifact-${file}`)
    const output = path === undefined ? {} : { output: createWriteStream(path) }
    const fed = step.feeds && { feed: createReadStream(parent?.files[step.feeds.artifact] ?? '') }
    said[step.id] = expectOk(
      engine,
      step,
      await runCommand(place, step.run, { ...output, ...fed }),
    ).stderrTail
    if (file !== undefined && path !== undefined) files[file] = path
  }
  for (const artifact of plan.artifacts) {
    if ('file' in artifact.from) files[artifact.name] = join(place.staging, artifact.from.file)
    if ('directory' in artifact.from)
      files[artifact.name] = await tarOf(place, artifact.name, artifact.from.directory)
    await checkEnds(files[artifact.name] ?? '', artifact)
  }
  const manifest = manifestOf(engine, method, toolFormat, plan, facts, connection)
  manifest.facts = { ...manifest.facts, ...method.collect?.(said) }
  if (parent) {
    made += 1
    Object.assign(manifest, { backupId: `20261121T031400Z-incremental-9f3k${made}`, type: 'incremental' })
    Object.assign(manifest, { attemptId: `test${made}`, parent: parent.manifest.backupId })
    manifest.facts.parent = { attemptId: parent.manifest.attemptId }
  }
  return { manifest, plan, facts, files }
}

async function tarOf(place: Place, name: string, directory: string): Promise<string> {
  const path = join(place.staging, `artifact-${name}`)
  const argv = [
    'tar',
    '-c',
    '--sort=name',
    '-f',
    path,
    '-C',
    directory,
    '--transform',
    's,^\\./,,',
    '.',
  ] as const
  const result = await runCommand(place, { stages: [{ argv }] })
  if (result.exits[0] !== 0) throw new Error(`tar: ${result.stderrTail}`)
  return path
}

async function checkEnds(
  path: string,
  artifact: { header?: string; trailer?: string; name: string },
): Promise<void> {
  const bytes = await readFile(path)
  const header = artifact.header ?? ''
  if (bytes.subarray(0, Buffer.byteLength(header)).toString() !== header) {
    throw new HoldfastError('backup.incomplete', `${artifact.name} does not begin with "${header}".`)
  }
  if (
    !bytes
      .subarray(-200)
      .toString()
      .trimEnd()
      .endsWith(artifact.trailer ?? '')
  ) {
    throw new HoldfastError('backup.incomplete', `${artifact.name} does not end with "${artifact.trailer}".`)
  }
}

function manifestOf(
  engine: Engine,
  method: Method,
  toolFormat: string,
  plan: BackupPlan,
  facts: ServerFacts,
  connection: string,
): Manifest {
  return {
    format: 'holdfast-manifest/1',
    backupId: '20261121T031400Z-full-9f3kq2',
    installationId: 'test',
    epoch: 1,
    attemptId: 'test',
    connection,
    engine: engine.name,
    method: method.name,
    toolFormat,
    type: 'full',
    consistency: method.consistency,
    server: { identity: facts.identity, version: facts.version, database: facts.database },
    // As it comes back from storage.
    facts: JSON.parse(JSON.stringify(facts.facts)),
    tools: facts.tools,
    commands: [],
    artifacts: plan.artifacts.map(artifact => ({
      name: artifact.name,
      object: `test/${artifact.name}.zst`,
      format: artifact.format,
      storedBytes: 0,
      storedSha256: '0'.repeat(64),
      toolBytes: 0,
      compressedBytes: 0,
      compression: { codec: 'zstd', level: 3, encoder: 'none', frameBytes: 0, frames: 0 },
      encryption: null,
    })),
    parent: null,
    startedAt: '2026-11-21T03:14:00Z',
    endedAt: '2026-11-21T03:14:01Z',
    labels: {},
  }
}

export interface RestoreOptions {
  target: RestoreTarget
  /** What an incremental one needs, oldest first. */
  parents?: readonly PlainBackup[]
  /** Instead of the backup's own bytes. */
  feed?: (artifact: string) => Readable
  onSpawn?: (step: Step, children: ChildProcess[]) => void
}

/** Checks, loads, proves, finishes; on any error runs the plan's undo and throws the first one. */
export async function restore(
  engine: Engine,
  method: Method,
  settings: unknown,
  place: Place,
  backup: PlainBackup,
  options: RestoreOptions,
): Promise<RestorePlan> {
  const target = options.parents
    ? { ...options.target, parents: options.parents.map(({ manifest }) => manifest) }
    : options.target
  const targetFacts = await ask(place, engine.probeTarget(target.connection, settings, method.name))
  const plan = method.planRestore(settings, target, backup.manifest, targetFacts)
  const pass = (
    checks: Awaited<ReturnType<Probe<{ answer: string; detail: string; code?: string }[]>['read']>>,
  ) => {
    const failed = checks.find(check => check.answer === 'fail')
    if (failed) throw new HoldfastError((failed.code ?? 'internal') as HoldfastError['code'], failed.detail)
  }
  pass(await ask(place, method.targetChecks(settings, target, backup.manifest)))
  try {
    await runSteps(engine, place, backup, plan.steps, options)
    pass(await ask(place, method.proofs(settings, target, backup.manifest, 'temporary', targetFacts)))
    await runSteps(engine, place, backup, plan.finish, options)
    return plan
  } catch (error) {
    for (const command of plan.undo) expectOk(engine, { title: 'undo' }, await runCommand(place, command))
    throw error
  }
}

export async function runSteps(
  engine: Engine,
  place: Place,
  backup: PlainBackup,
  steps: readonly Step[],
  options: Partial<RestoreOptions> = {},
): Promise<void> {
  for (const step of steps) {
    if (step.done && (await runCommand(place, step.done)).exits.every(exit => exit === 0)) continue
    const name = step.feeds?.artifact
    const of = options.parents?.find(({ manifest }) => manifest.backupId === step.feeds?.of) ?? backup
    const feed =
      name === undefined ? undefined : (options.feed?.(name) ?? createReadStream(of.files[name] ?? ''))
    const result = await runCommand(place, step.run, {
      ...(feed === undefined ? {} : { feed }),
      onSpawn: children => options.onSpawn?.(step, children),
    })
    expectOk(engine, step, result)
  }
}
