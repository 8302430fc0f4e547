/** Prepares a job's directory, starts its wrapper and listens to its reports. */
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, open, writeFile } from 'node:fs/promises'
import { dirname, isAbsolute } from 'node:path'
import { createInterface } from 'node:readline'
import type { Command } from '../engines/engine.ts'
import { HoldfastError } from '../model/errors.ts'
import { errno, fileError } from './files.ts'
import type { JobId, SecretValues } from './host.ts'
import { dataDirectory, jobDirectory, type Place, startShell, whenGone } from './place.ts'
import { jobScript, secretLines } from './script.ts'

/** Bytes of standard error kept per stage; preallocated, so that the reason of a full disk survives it. */
export const tailBytes = 8192

export interface Launch {
  mode: 'attached' | 'detached'
  feeds: boolean
  fence: number
  stdoutFile?: string
  secrets?: SecretValues
}

export interface Wrapper {
  child: ChildProcessWithoutNullStreams
  /** Absolute path of this run's directory. */
  runDirectory: string
  /** Settles with the first report that says how the start went; undefined: the wrapper ended without one. */
  begun: Promise<string | undefined>
  /** `exits 0 0` or `lost`; undefined: the wrapper ended without saying it. */
  ended: Promise<string | undefined>
  /** Resolves when the wrapper's process is gone, which is the end of its group. */
  gone: Promise<void>
  /** What shells said besides reports: the reason when something is wrong. */
  noise: string[]
}

export const describe = (command: Command): string => command.stages.map(stage => stage.argv[0]).join(' | ')

/** Puts the wrapper into the world. `stdin` of the child stays open: it is the leash of attached jobs. */
export async function launch(place: Place, job: JobId, command: Command, options: Launch): Promise<Wrapper> {
  const directory = jobDirectory(place, job)
  const work = dataDirectory(place, job.operation)
  const run = `r-${randomBytes(6).toString('hex')}`
  const { stdoutFile } = options
  if (stdoutFile !== undefined && (isAbsolute(stdoutFile) || /(^|\/)\.\.?(\/|$)|^$/.test(stdoutFile))) {
    throw new HoldfastError(
      'internal',
      `Starting ${describe(command)}: "${stdoutFile}" is not a file in staging.`,
    )
  }
  const script = jobScript({
    mode: options.mode,
    jobDirectory: directory,
    run,
    workDirectory: work,
    shell: place.shell,
    command,
    feeds: options.feeds,
    fence: options.fence,
    ...(stdoutFile === undefined ? {} : { stdoutFile }),
  })
  const secrets = secretLines(command, options.secrets ?? {})
  const runDirectory = `${directory}/${run}`
  try {
    await mkdir(stdoutFile === undefined ? work : dirname(`${work}/${stdoutFile}`), {
      recursive: true,
      mode: 0o700,
    })
    await makeRunDirectory(runDirectory)
    await writeFile(`${runDirectory}/script`, script, { mode: 0o600 })
    if (command.input !== undefined) await writeFile(`${runDirectory}/input`, command.input, { mode: 0o600 })
    const durable = options.mode === 'detached'
    await preallocate(`${runDirectory}/exit`, Buffer.alloc(512, 'not yet\n'), durable)
    for (const index of command.stages.keys()) {
      await preallocate(`${runDirectory}/stderr.${index}`, Buffer.alloc(tailBytes), durable)
    }
  } catch (cause) {
    throw fileError('Preparing a job in', runDirectory, cause)
  }
  const child = startShell(place, [`${runDirectory}/script`], { HOLDFAST_JOB: directory })
  // Whoever reads the other end may be gone; what matters is in the reports.
  child.stdin.on('error', () => {})
  if (secrets !== '') child.stdin.write(secrets)
  return { child, runDirectory, ...listen(child, `Starting ${describe(command)} on ${place.name}`) }
}

/** A job that ends removes its operation's directory if it was the last in it: that may be under our feet. */
async function makeRunDirectory(path: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await mkdir(path, { recursive: true, mode: 0o700 })
      return
    } catch (cause) {
      if (errno(cause) !== 'ENOENT' || attempt === 100) throw cause
    }
  }
}

/** Real data, not a hole; on disk before the program starts if the job is to outlive the worker. */
async function preallocate(path: string, data: Uint8Array, durable: boolean): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(data)
    if (durable) await file.sync()
  } finally {
    await file.close()
  }
}

function listen(
  child: ChildProcessWithoutNullStreams,
  doing: string,
): Pick<Wrapper, 'begun' | 'ended' | 'gone' | 'noise'> {
  const noise: string[] = []
  const begun = Promise.withResolvers<string | undefined>()
  const ended = Promise.withResolvers<string | undefined>()
  createInterface({ input: child.stderr }).on('line', line => {
    const report = /^holdfast (elected|started|already|stale .*|failed .*|exits(?: \d+)+|lost)$/.exec(
      line,
    )?.[1]
    if (report === undefined) {
      if (noise.length < 50) noise.push(line)
    } else if (report.startsWith('exits') || report === 'lost') {
      begun.resolve('started')
      ended.resolve(report)
    } else if (report !== 'elected') {
      begun.resolve(report)
    }
  })
  const gone = whenGone(child, doing)
  const finished = new Promise<void>(resolve => child.stderr.once('close', () => resolve()))
  gone.then(
    async () => {
      // Programs have another standard error, so this closes with the wrapper; its shells may outlive it by a moment.
      const patience = setTimeout(() => child.stderr.destroy(), 2000)
      await finished
      clearTimeout(patience)
      begun.resolve(undefined)
      ended.resolve(undefined)
    },
    cause => {
      begun.reject(cause)
      ended.reject(cause)
    },
  )
  begun.promise.catch(() => {})
  ended.promise.catch(() => {})
  return { begun: begun.promise, ended: ended.promise, gone, noise }
}
