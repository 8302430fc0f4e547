/**
 * The host seam: where commands run. One interface for the worker's machine and, later, for a machine over SSH.
 * Everything is carried by a small POSIX sh wrapper and a job directory, so that the same rules hold everywhere:
 *  - one process group per job; its identity is pid + start time + boot id;
 *  - secrets are piped once to the wrapper and reach only the program that needs them, through its environment;
 *  - when the worker dies, attached jobs (streams, feeds) are killed as a group, detached ones go on;
 *  - a fed program sees end-of-file only after `complete()`: a closed pipe never looks like the end of the data.
 */
import type { Readable, Writable } from 'node:stream'
import type { Command, CommandResult } from '../engines/engine.ts'

/** Identifies one run of one step: `<operationId>/<stepId>-<token>`; each part `[A-Za-z0-9._-]+`. */
export interface JobId {
  operation: string
  step: string
  /** Random for streams and feeds (each run is its own job); the plan's token for detached jobs (so that a retry finds it). */
  token: string
}

/** Values for `secretEnv` of the command: environment variable name → value. The same for every stage that names it. */
export type SecretValues = Record<string, string>

export interface RunOptions {
  signal?: AbortSignal
  secrets?: SecretValues
  /** Seconds after which the group is stopped (short commands only). */
  timeoutSeconds?: number
}

export interface RunningStream {
  /** Standard output of the last stage. */
  stdout: Readable
  /** Settles when every stage ended and all output was read; never rejects for a non-zero exit. */
  result: Promise<CommandResult>
  /** TERM to the group, KILL after five seconds; resolves when the group is gone. */
  stop(): Promise<void>
}

export interface RunningFeed {
  /**
   * Standard input of the first stage. What is written is let go of once the program has it: nobody else may hold it.
   * Ending or destroying it does NOT signal end of file to the program.
   */
  stdin: Writable
  /** Says that all data was written and proven: the program now sees end of file. */
  complete(): Promise<void>
  result: Promise<CommandResult>
  stop(): Promise<void>
}

export interface DetachedJob {
  /** `absent`: never started. `lost`: started, but without exit code and without live process. */
  state: 'absent' | 'running' | 'done' | 'lost'
  /** Present when `done`. */
  result?: CommandResult
}

export interface FileStat {
  bytes: number
  kind: 'file' | 'directory' | 'other'
  modifiedAtMs: number
  inode: string
}

export interface Host {
  readonly name: string
  /** Absolute path of this host's staging root (`HOLDFAST_TEMP_DIR`, `serverTempDir`). */
  readonly stagingRoot: string
  /** Absolute path of an operation's staging directory; `ensure` makes it, mode 0700. */
  stagingDir(operation: string): string

  /** Short commands: waits, captures standard output (4 MiB at most; more fails the command) and stderr's tail. */
  run(job: JobId, command: Command, options?: RunOptions): Promise<CommandResult>
  /** Attached, output streamed. Dies with the worker. */
  stream(job: JobId, command: Command, options?: RunOptions): Promise<RunningStream>
  /** Attached, input fed. Dies with the worker. Captures standard output's tail. */
  feed(job: JobId, command: Command, options?: RunOptions): Promise<RunningFeed>

  readonly jobs: {
    /**
     * Starts the job detached unless its directory says that it was started; one runner is elected by mkdir. Idempotent.
     * `stdoutFile` is relative to staging. `fence` (the activity's attempt number) is remembered if it is the newest.
     */
    start(
      job: JobId,
      command: Command,
      options: { stdoutFile?: string; secrets?: SecretValues; fence: number },
    ): Promise<void>
    status(job: JobId): Promise<DetachedJob>
    /** Stops the group if `fence` is the newest known; a zombie's stop is ignored. Resolves when the group is gone. */
    stop(job: JobId, fence: number): Promise<void>
    /** Removes what is kept of a job that has ended. */
    forget(job: JobId): Promise<void>
  }
  /** Stops every job of the operation that still lives (attached or detached), whoever started it. */
  stopOperation(operation: string): Promise<void>
  /** Operations that have a staging or job directory here: what a sweep looks at. */
  operations(): Promise<string[]>
  /** Removes the operation's staging and job directories. Stop first. */
  removeOperation(operation: string): Promise<void>

  readonly files: {
    /** undefined when it is not there. Paths are absolute. */
    stat(path: string): Promise<FileStat | undefined>
    /** Names in a directory, in any order; none when it is not there. */
    list(path: string): Promise<string[]>
    /** Bytes of a file or of all files below a directory. */
    size(path: string): Promise<number>
    read(path: string, range?: { offset: number; length?: number }): Readable
    /** Whole, durable (fsync of file and directory), mode 0600, replaces. */
    write(path: string, data: string | Uint8Array): Promise<void>
    readSmall(path: string): Promise<string | undefined>
    /** Appends one line and makes it durable. */
    append(path: string, line: string): Promise<void>
    ensureDirectory(path: string): Promise<void>
    remove(path: string): Promise<void>
    freeBytes(path: string): Promise<number>
  }
  /** Path and version line of a program, undefined if missing. Cached for a minute. */
  tool(name: string, versionArgs?: readonly string[]): Promise<{ path: string; version: string } | undefined>
}
