/**
 * Where jobs live on a host and how its shell is started. What a machine over SSH would do differently is here
 * and in files.ts; everything else only speaks to shells and job directories.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { HoldfastError } from '../model/errors.ts'
import type { JobId } from './host.ts'
import { controlScript } from './script.ts'

export interface Place {
  name: string
  stagingRoot: string
  /** The POSIX shell and its arguments, e.g. ['sh']. */
  shell: readonly [string, ...string[]]
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

/**
 * The worker's environment may hold tokens, keys and settings of database clients. Programs get what a login would
 * give them; the rest is said in the command.
 */
const passed = /^(PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|LD_LIBRARY_PATH)$/

export function programEnvironment(extra: Record<string, string> = {}): Record<string, string> {
  const base: Record<string, string> = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  }
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && passed.test(name)) base[name] = value
  }
  return { ...base, ...extra }
}

/** Starts the host's shell as leader of its own session, so that a terminal's Ctrl-C reaches the worker alone. */
export function startShell(
  place: Place,
  args: readonly string[],
  extraEnv: Record<string, string> = {},
): ChildProcessWithoutNullStreams {
  const [program, ...words] = place.shell
  const child = spawn(program, [...words, ...args], {
    cwd: '/',
    detached: true,
    env: programEnvironment(extraEnv),
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  // Without free descriptors Node makes no pipes, whatever its types say.
  if (!child.stdin || !child.stdout || !child.stderr) {
    child.on('error', () => {})
    throw new HoldfastError(
      'host.unreachable',
      `Starting a shell on ${place.name}: this process has no free file descriptors.`,
    )
  }
  return child
}

/** Resolves when the process has gone; rejects if it could not be started. Never before its exit. */
export function whenGone(child: ChildProcessWithoutNullStreams, doing: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('exit', () => resolve())
    child.once('error', cause => {
      reject(
        new HoldfastError('host.unreachable', `${doing}: the shell cannot be started: ${cause.message}.`, {
          cause,
        }),
      )
    })
  })
}

/** Runs one verb of the control script and returns what it printed. What does not match `answer` is no answer. */
export async function control(place: Place, answer: RegExp, ...args: string[]): Promise<string> {
  const doing = `Asking ${place.name} for ${args.join(' ')}`
  const { stdout, stderr } = await finish(
    startShell(place, ['-c', controlScript, 'holdfast', ...args]),
    doing,
  )
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
  child: ChildProcessWithoutNullStreams,
  doing: string,
  timeoutSeconds?: number,
): Promise<{ stdout: string; stderr: string }> {
  const collected = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8')
    child[name].on('data', (chunk: string) => {
      if (collected[name].length < 65_536) collected[name] += chunk
    })
  }
  child.stdin.on('error', () => {})
  child.stdin.end()
  const closed = new Promise<void>(resolve => child.once('close', () => resolve()))
  const timer =
    timeoutSeconds === undefined
      ? undefined
      : setTimeout(() => {
          try {
            if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
          } catch {
            // It has just ended by itself.
          }
        }, timeoutSeconds * 1000)
  try {
    await whenGone(child, doing)
    await closed
  } finally {
    clearTimeout(timer)
  }
  return collected
}
