/** Starts Temporal's dev server on 127.0.0.1 as a leashed child and waits until it answers. */
import { type ChildProcess, execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { HoldfastError } from '../model/errors.ts'
import { spawnLeashed } from './leash.ts'

const run = promisify(execFile)

export interface TemporalServerOptions {
  program: string
  port: number
  uiPort: number
  namespace: string
  /** Absent: everything is forgotten when it ends. */
  databaseFile?: string
  /** Name → type, e.g. {HoldfastState: 'Keyword'}. The API registers its own; tests without an API name them here. */
  searchAttributes?: Record<string, string>
  output: number | 'pipe' | 'ignore'
}

export function spawnTemporalServer(options: TemporalServerOptions): ChildProcess {
  const args = temporalServerArguments(options)
  return spawnLeashed(options.program, args, { output: options.output, graceSeconds: 5 })
}

export function temporalServerArguments(
  options: Omit<TemporalServerOptions, 'program' | 'output'>,
): string[] {
  const args = ['server', 'start-dev', '--ip', '127.0.0.1', '--ui-ip', '127.0.0.1', '--log-level', 'error']
  args.push('--port', String(options.port), '--ui-port', String(options.uiPort))
  args.push('--namespace', options.namespace)
  // A suspended worker, or one on a machine that lost its power, is offered work for as long as its last question for it lasts.
  args.push('--dynamic-config-value', 'matching.longPollExpirationInterval="10s"')
  if (options.databaseFile !== undefined) {
    args.push('--db-filename', options.databaseFile)
    // One sync per commit instead of three, and as durable: synchronous=FULL (2) syncs the log at every commit.
    args.push('--sqlite-pragma', 'journal_mode=wal', '--sqlite-pragma', 'synchronous=2')
  }
  for (const [name, type] of Object.entries(options.searchAttributes ?? {})) {
    args.push('--search-attribute', `${name}=${type}`)
  }
  return args
}

/** Resolves once the namespace answers; rejects with `temporal.unreachable` if the child ends or time is up. */
export async function temporalAnswers(
  child: ChildProcess,
  options: { program: string; address: string; namespace: string; seconds?: number },
): Promise<void> {
  const deadline = Date.now() + (options.seconds ?? 60) * 1000
  const ask = ['operator', 'namespace', 'describe', '--address', options.address]
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new HoldfastError(
        'temporal.unreachable',
        `Temporal's dev server on ${options.address} ended with ${child.exitCode ?? child.signalCode} while starting.`,
      )
    }
    try {
      await run(
        options.program,
        [...ask, '--command-timeout', '5s', '--output', 'none', '-n', options.namespace],
        { timeout: 10_000 },
      )
      return
    } catch (error) {
      if (Date.now() > deadline) {
        throw new HoldfastError(
          'temporal.unreachable',
          `Temporal's dev server on ${options.address} does not answer.`,
          { cause: error },
        )
      }
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}
