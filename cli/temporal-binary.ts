/**
 * Finds or makes the `temporal` program: PATH, the user's cache, the official release, a Go build from tools/temporal.
 */
import { execFile, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, cp, link, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { HoldfastError } from '../model/errors.ts'

const run = promisify(execFile)

/** Pinned in tools/temporal/go.mod too: change both at once. */
const version = '1.5.1'
const recipe = join(import.meta.dirname, '..', 'tools', 'temporal')

export interface EnsureOptions {
  /** One short line each: what is being looked for, fetched or built. */
  onProgress?: (line: string) => void
  env?: Record<string, string | undefined>
}

/** Path of a working `temporal`. Throws `host.tool-missing` with one sentence that says how to get it. */
export async function ensureTemporal(options: EnsureOptions = {}): Promise<string> {
  const env = options.env ?? process.env
  const say = options.onProgress ?? (() => {})
  const found = findTemporal(env)
  if (found !== undefined) return found
  const cache = cacheOf(env)
  const folder = join(cache, `temporal-${version}`)
  const program = join(folder, 'temporal')

  await mkdir(folder, { recursive: true })
  return withLock(join(cache, `temporal-${version}.lock`), say, async () => {
    if (existsSync(program)) return program
    // We hold the lock: what lies here is of somebody who was killed.
    for (const left of await readdir(folder)) await rm(join(folder, left), { recursive: true, force: true })
    const scratch = await mkdtemp(join(folder, 'new-'))
    try {
      const made = join(scratch, 'temporal')
      const refused = await download(scratch, say)
      if (refused !== undefined) await build(scratch, refused, env, say)
      await run(made, ['--version'])
      await chmod(made, 0o755)
      await rename(made, program)
      return program
    } finally {
      await rm(scratch, { recursive: true, force: true })
    }
  })
}

/** The one that is here already: on PATH, else in the user's cache. */
export function findTemporal(env: Record<string, string | undefined>): string | undefined {
  const cached = join(cacheOf(env), `temporal-${version}`, 'temporal')
  return findOnPath('temporal', env) ?? (existsSync(cached) ? cached : undefined)
}

const cacheOf = (env: Record<string, string | undefined>): string =>
  join(env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache'), 'holdfast', 'tools')

/** What the program says of its server, e.g. `1.29.1`: database files are not migrated between versions. */
export async function temporalServerVersion(program: string): Promise<string> {
  const { stdout } = await run(program, ['--version'])
  return /Server (\d[\w.-]*)/.exec(stdout)?.[1] ?? /version (\S+)/.exec(stdout)?.[1] ?? 'unknown'
}

function findOnPath(name: string, env: Record<string, string | undefined>): string | undefined {
  for (const folder of (env.PATH ?? '').split(delimiter)) {
    if (folder !== '' && existsSync(join(folder, name))) return join(folder, name)
  }
  return undefined
}

/** Returns undefined when `temporal` lies in `scratch`, else why it does not. */
async function download(scratch: string, say: (line: string) => void): Promise<string | undefined> {
  const os = { linux: 'linux', darwin: 'darwin' }[process.platform as string]
  const arch = { x64: 'amd64', arm64: 'arm64' }[process.arch as string]
  if (os === undefined || arch === undefined) {
    return `no official release for ${process.platform} ${process.arch}`
  }
  const name = `temporal_cli_${version}_${os}_${arch}.tar.gz`
  const base = `https://github.com/temporalio/cli/releases/download/v${version}`
  say(`downloading ${base}/${name}`)
  try {
    // Where there is no way out to the network, that must show within seconds.
    const sums = await fetch(`${base}/checksums.txt`, { signal: AbortSignal.timeout(6000) })
    if (!sums.ok) return `the download answered ${sums.status}`
    const expected = (await sums.text())
      .split('\n')
      .map(line => line.trim().split(/\s+/))
      .find(([, file]) => file === name)?.[0]
    if (expected === undefined) return `checksums.txt does not name ${name}`
    const answer = await fetch(`${base}/${name}`, { signal: AbortSignal.timeout(600_000) })
    if (!answer.ok) return `the download answered ${answer.status}`
    const body = new Uint8Array(await answer.arrayBuffer())
    if (createHash('sha256').update(body).digest('hex') !== expected) {
      return 'the downloaded archive is not the one of checksums.txt'
    }
    const archive = join(scratch, name)
    await writeFile(archive, body)
    await run('tar', ['-xzf', archive, '-C', scratch, 'temporal'])
    return undefined
  } catch (error) {
    return `the download failed (${reason(error)})`
  }
}

const reason = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? error.cause.message : error.message
}

async function build(
  scratch: string,
  refused: string,
  env: Record<string, string | undefined>,
  say: (line: string) => void,
): Promise<void> {
  const howTo = `Put the Temporal CLI on PATH (https://docs.temporal.io/cli/setup-cli), or install Go 1.25 so that it can be built here.`
  if (findOnPath('go', env) === undefined) {
    throw new HoldfastError(
      'host.tool-missing',
      `Temporal's dev server is not here: no \`temporal\` on PATH, ${refused}, and no Go to build it with.`,
      { hint: howTo },
    )
  }
  say(`${refused}; building it with Go instead: some minutes, once per machine`)
  try {
    // Go writes to go.mod's folder at times; the committed one stays as it is.
    await cp(recipe, join(scratch, 'src'), { recursive: true })
    const started = Date.now()
    const timer = setInterval(() => {
      say(`building temporal ${version} … ${Math.round((Date.now() - started) / 1000)} s`)
    }, 15_000)
    const flags = `-s -w -X github.com/temporalio/cli/temporalcli.Version=${version}`
    try {
      const args = [
        'build',
        `-ldflags=${flags}`,
        '-o',
        join(scratch, 'temporal'),
        'github.com/temporalio/cli/cmd/temporal',
      ]
      await goBuild(args, join(scratch, 'src'), {
        ...env,
        // The build cache takes about 3 GB that nobody needs afterwards.
        GOCACHE: env.GOCACHE || join(scratch, 'cache'),
      })
    } finally {
      clearInterval(timer)
    }
    say(`temporal ${version} built in ${Math.round((Date.now() - started) / 1000)} s`)
  } catch (error) {
    throw new HoldfastError(
      'host.tool-missing',
      `Temporal's dev server is not here: no \`temporal\` on PATH, ${refused}, and the Go build failed: ${reason(error)}`,
      { hint: howTo },
    )
  }
}

function goBuild(args: string[], cwd: string, env: Record<string, string | undefined>): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('go', args, { cwd, env, stdio: ['ignore', 'ignore', 'pipe'] })
    let tail = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      tail = (tail + text).slice(-2000)
    })
    child.once('error', reject)
    child.once('close', code =>
      code === 0 ? resolve() : reject(new Error(`go build ended with ${code}: ${tail.trim()}`)),
    )
  })
}

/**
 * One process at a time. The lock is a file that holds the owner's pid; `link` makes it appear with its content.
 * Two waiters may both find a dead owner and go on together: then both build and the last rename wins, which is harmless.
 */
async function withLock<T>(path: string, say: (line: string) => void, work: () => Promise<T>): Promise<T> {
  const mine = `${path}.${randomBytes(6).toString('hex')}`
  await writeFile(mine, String(process.pid))
  try {
    for (let told = false; ; ) {
      try {
        await link(mine, path)
        break
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
      }
      const owner = Number(await readFile(path, 'utf8').catch(() => ''))
      if (owner > 0 && !lives(owner)) await rm(path, { force: true })
      else {
        if (!told) say('another process is getting Temporal; waiting for it')
        told = true
        await new Promise(resolve => setTimeout(resolve, 500))
      }
    }
  } finally {
    await rm(mine, { force: true })
  }
  try {
    return await work()
  } finally {
    await rm(path, { force: true })
  }
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
