/** Prepares a job's directory, starts its wrapper and listens to its reports. */
import { randomBytes } from 'node:crypto'
import { dirname, isAbsolute } from 'node:path'
import { createInterface } from 'node:readline'
import type { Command } from '../engines/engine.ts'
import { HoldfastError } from '../model/errors.ts'
import type { JobId, SecretValues } from './host.ts'
import { dataDirectory, jobDirectory, type Place, type ShellProcess } from './place.ts'
import { jobScript, secretLines } from './script.ts'

export interface Launch {
  mode: 'attached' | 'detached'
  feeds: boolean
  fence: number
  stdoutFile?: string
  secrets?: SecretValues
}

export interface Wrapper {
  shell: ShellProcess
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

/** Puts the wrapper into the world. `stdin` of the shell stays open: it is the leash of attached jobs. */
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
  const { beats } = place.reach
  const link =
    beats && options.mode === 'attached'
      ? {
          patienceSeconds: beats.patienceSeconds,
          endMark: `\n\x04holdfast ${randomBytes(16).toString('hex')}`,
        }
      : undefined
  const script = jobScript({
    mode: options.mode,
    jobDirectory: directory,
    run,
    workDirectory: work,
    shell: place.reach.shell,
    ...(link ? { link } : {}),
    command,
    feeds: options.feeds,
    fence: options.fence,
    ...(stdoutFile === undefined ? {} : { stdoutFile }),
  })
  const secrets = secretLines(command, options.secrets ?? {})
  const runDirectory = `${directory}/${run}`
  const shell = await place.reach.start({
    mode: options.mode,
    jobDirectory: directory,
    runDirectory,
    workDirectory: stdoutFile === undefined ? work : dirname(`${work}/${stdoutFile}`),
    script,
    input: command.input,
    feeds: options.feeds,
    endMark: link?.endMark,
    stages: command.stages.length,
  })
  // Whoever reads the other end may be gone; what matters is in the reports.
  shell.stdin.on('error', () => {})
  if (secrets !== '') shell.stdin.write(secrets)
  return { shell, runDirectory, ...listen(shell) }
}

function listen(shell: ShellProcess): Pick<Wrapper, 'begun' | 'ended' | 'gone' | 'noise'> {
  const noise: string[] = []
  const begun = Promise.withResolvers<string | undefined>()
  const ended = Promise.withResolvers<string | undefined>()
  createInterface({ input: shell.stderr }).on('line', line => {
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
  const gone = shell.gone.then(() => undefined)
  gone.catch(() => {})
  const finished = new Promise<void>(resolve => shell.stderr.once('close', () => resolve()))
  gone.then(
    async () => {
      // Programs have another standard error, so this closes with the wrapper; its shells may outlive it by a moment.
      const patience = setTimeout(() => shell.stderr.destroy(), 2000)
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
