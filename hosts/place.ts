/**
 * Where jobs live on a host and how its shell is reached. What differs between the worker's own machine and one at the
 * other end of a link is a `Reach`; everything else only speaks to shells and job directories.
 */
import type { Readable, Writable } from 'node:stream'
import { HoldfastError } from '../model/errors.ts'
import type { Host, JobId } from './host.ts'
import { controlScript } from './script.ts'

export interface Place {
  name: string
  stagingRoot: string
  reach: Reach
}

/** A shell that runs, and its three pipes. */
export interface ShellProcess {
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  /**
   * Its exit code, once its process is gone; never before. Rejects with `host.unreachable` when it could not be started, or
   * when nobody can tell any more.
   */
  readonly gone: Promise<number>
  /** True if it ended while nobody read its output, which then flowed away. */
  spilled(): boolean
  /** At once, with its group; for short commands. */
  kill(): void
  /** This process need not stay alive for it. */
  unref(): void
}

/** What a job needs in its directory before its script can start. */
export interface RunFiles {
  mode: 'attached' | 'detached'
  jobDirectory: string
  /** Made for this run; must not be there. */
  runDirectory: string
  /** Made if it is not there. */
  workDirectory: string
  script: string
  input: string | undefined
  feeds: boolean
  /** The shell's output ends where this text begins, whatever holds the pipe open after that. */
  endMark: string | undefined
  stages: number
}

/** The worker's end of a feed. */
export interface FeedEnd {
  /** Finished only when the host has taken all of it. Ending it does not end the feed. */
  stdin: Writable
  /** Lets go. */
  close(): void
}

export interface Reach {
  /** The POSIX shell there and its arguments, e.g. ['sh']: how a job's script starts itself again. */
  shell: readonly [string, ...string[]]
  /**
   * Runs this text in the shell there, in a session of its own. `long`: its output may be read for hours; `short` ones are
   * over in a moment, or as soon as what they are given was sent.
   */
  script(text: string, words: readonly string[], size?: 'short' | 'long'): Promise<ShellProcess>
  /** Prepares the directory and starts its script. Throws `staging.*`, `host.*`. */
  start(run: RunFiles): Promise<ShellProcess>
  /** What each stage of a run said, as it lies in its file. */
  tails(runDirectory: string, stages: number): Promise<Buffer[]>
  openFeed(runDirectory: string): Promise<FeedEnd>
  files: Host['files']
  /**
   * A link may die without either end hearing of it: then the worker sends a word so often, and the host ends an attached
   * job when none has come for `patienceSeconds`. Absent where the kernel tells.
   */
  beats?: { everyMs: number; patienceSeconds: number }
}

const part = /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,200}$/

export const isPart = (value: string): boolean => part.test(value)

function checkedPart(value: string): string {
  if (!isPart(value)) {
    throw new HoldfastError(
      'request.invalid',
      `"${value.slice(0, 80)}" cannot be part of a directory's name: use letters, digits, dot, underscore and dash.`,
    )
  }
  return value
}

export const dataDirectory = (place: Place, operation: string): string =>
  `${place.stagingRoot}/data/${checkedPart(operation)}`
export const operationDirectory = (place: Place, operation: string): string =>
  `${place.stagingRoot}/jobs/${checkedPart(operation)}`
export const jobDirectory = (place: Place, job: JobId): string =>
  `${operationDirectory(place, job.operation)}/${checkedPart(job.step)}-${checkedPart(job.token)}`

/** Runs one verb of the control script and returns what it printed. What does not match `answer` is no answer. */
export async function control(place: Place, answer: RegExp, ...args: string[]): Promise<string> {
  const doing = `Asking ${place.name} for ${args.join(' ')}`
  const { stdout, stderr } = await finish(await place.reach.script(controlScript, args))
  if (!answer.test(stdout) || (stdout === '' && stderr !== '')) {
    throw new HoldfastError(
      'host.unreachable',
      `${doing}: ${`${stdout}${stderr}`.trim().slice(-1000) || 'no answer'}`,
    )
  }
  return stdout.trim()
}

/** Collects the output of a short program (64 KiB of each at most); after the limit its group is killed. */
export async function finish(
  shell: ShellProcess,
  timeoutSeconds?: number,
): Promise<{ exit: number; stdout: string; stderr: string }> {
  const collected = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    shell[name].setEncoding('utf8')
    shell[name].on('error', () => {})
    shell[name].on('data', (chunk: string) => {
      if (collected[name].length < 65_536) collected[name] += chunk
    })
  }
  const closed = Promise.all(
    [shell.stdout, shell.stderr].map(stream => new Promise<void>(resolve => stream.once('close', resolve))),
  )
  shell.stdin.on('error', () => {})
  shell.stdin.end()
  const timer = timeoutSeconds === undefined ? undefined : setTimeout(shell.kill, timeoutSeconds * 1000)
  try {
    const exit = await shell.gone
    await closed
    return { exit, ...collected }
  } finally {
    clearTimeout(timer)
  }
}
