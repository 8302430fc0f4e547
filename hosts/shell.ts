/** How the worker's own machine is reached: shells are child processes, files are files. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { constants, open } from 'node:fs'
import { open as openFile, readFile, writeFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { Writable } from 'node:stream'
import { errnoOf } from '../model/errno.ts'
import { HoldfastError } from '../model/errors.ts'
import { letGo } from '../model/let-go.ts'
import { fileError, localFiles, makePath } from './files.ts'
import type { FeedEnd, Reach, RunFiles, ShellProcess } from './place.ts'
import { tailBytes } from './tails.ts'

export const localReach = (name: string, shell: Reach['shell']): Reach => ({
  shell,
  script: async (text, words) => startShell(name, shell, ['-c', text, 'holdfast', ...words]),
  async start(run) {
    await prepare(run)
    return startShell(name, shell, [`${run.runDirectory}/script`], { HOLDFAST_JOB: run.jobDirectory })
  },
  tails: (runDirectory, stages) =>
    Promise.all(Array.from({ length: stages }, (_, index) => tailOf(`${runDirectory}/stderr.${index}`))),
  openFeed: runDirectory => openFeed(`${runDirectory}/feed`),
  files: localFiles,
})

/**
 * The worker's environment may hold tokens, keys and settings of database clients. Programs get what a login would
 * give them; the rest is said in the command.
 */
const passed = /^(PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|LD_LIBRARY_PATH)$/

function programEnvironment(extra: Record<string, string>): Record<string, string> {
  const base: Record<string, string> = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  }
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && passed.test(name)) base[name] = value
  }
  return { ...base, ...extra }
}

/** Starts the shell as leader of its own session, so that a terminal's Ctrl-C reaches the worker alone. */
function startShell(
  name: string,
  shell: Reach['shell'],
  args: readonly string[],
  extraEnv: Record<string, string> = {},
): ShellProcess {
  const [program, ...words] = shell
  const child: ChildProcessWithoutNullStreams = spawn(program, [...words, ...args], {
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
      `Starting a shell on ${name}: this process has no free file descriptors.`,
    )
  }
  const { stdin, stdout, stderr } = child
  // Node lets unread output of a child that exited flow away; then nobody may call it whole.
  let spilled = false
  const gone = new Promise<number>((resolve, reject) => {
    child.once('exit', (code, signal) => {
      spilled = !stdout.destroyed && stdout.readableFlowing === null && stdout.listenerCount('readable') === 0
      resolve(code ?? (signal === 'SIGKILL' ? 137 : 143))
    })
    child.once('error', cause => {
      reject(
        new HoldfastError(
          'host.unreachable',
          `Starting a shell on ${name}: it cannot be started: ${cause.message}.`,
          { cause },
        ),
      )
    })
  })
  gone.catch(() => {})
  return {
    stdin,
    stdout,
    stderr,
    gone,
    spilled: () => spilled,
    kill() {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      } catch {
        // It has just ended by itself.
      }
    },
    unref: () => child.unref(),
  }
}

async function prepare(run: RunFiles): Promise<void> {
  const { runDirectory } = run
  try {
    await makePath(run.workDirectory)
    await makeRunDirectory(runDirectory)
    await writeFile(`${runDirectory}/script`, run.script, { mode: 0o600 })
    if (run.input !== undefined) await writeFile(`${runDirectory}/input`, run.input, { mode: 0o600 })
    const durable = run.mode === 'detached'
    await preallocate(`${runDirectory}/exit`, Buffer.alloc(512, 'not yet\n'), durable)
    for (let index = 0; index < run.stages; index += 1) {
      await preallocate(`${runDirectory}/stderr.${index}`, Buffer.alloc(tailBytes), durable)
    }
  } catch (cause) {
    throw fileError('Preparing a job in', runDirectory, cause)
  }
}

/** A job that ends removes its operation's directory if it was the last in it: that may be under our feet. */
async function makeRunDirectory(path: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await makePath(path)
      return
    } catch (cause) {
      if (errnoOf(cause) !== 'ENOENT' || attempt === 100) throw cause
    }
  }
}

/** Real data, not a hole; on disk before the program starts if the job is to outlive the worker. */
async function preallocate(path: string, data: Uint8Array, durable: boolean): Promise<void> {
  const file = await openFile(path, 'wx', 0o600)
  try {
    await file.writeFile(data)
    if (durable) await file.sync()
  } finally {
    await file.close()
  }
}

async function tailOf(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return Buffer.alloc(0)
    throw cause
  }
}

/** What a feed says once the program has left. */
export const broken = () => Object.assign(new Error('the program takes no more input'), { code: 'EPIPE' })

/**
 * The worker's end of the FIFO, written without blocking and without the thread pool. It stays open until `close`,
 * however `stdin` ends: the program must not see the end of file even if the wrapper's end is lost.
 */
async function openFeed(path: string): Promise<FeedEnd> {
  const socket = await new Promise<Socket | undefined>((resolve, reject) => {
    open(path, constants.O_WRONLY | constants.O_NONBLOCK, (cause, descriptor) => {
      if (cause === null) resolve(new Socket({ fd: descriptor, readable: false, writable: true }))
      // Nobody reads any more.
      else if (errnoOf(cause) === 'ENXIO' || errnoOf(cause) === 'ENOENT') resolve(undefined)
      else reject(cause)
    })
  })
  const stdin = new Writable({
    highWaterMark: 1024 * 1024,
    write(chunk: Buffer, _encoding, callback) {
      if (socket === undefined) callback(broken())
      else {
        socket.write(chunk, cause => {
          letGo(chunk)
          callback(cause)
        })
      }
    },
  })
  // Handlers come later, and an error without one would end the process; `result` tells what happened.
  stdin.on('error', () => {})
  socket?.on('error', cause => stdin.destroy(cause))
  return { stdin, close: () => void socket?.destroy() }
}
