/** Everything on one machine, as one process tree: Temporal's dev server, the API, a worker. */
import { closeSync, openSync, renameSync, rmSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import { HoldfastError } from '../../model/errors.ts'
import { homePaths, type Settings } from '../../model/settings.ts'
import { createClient, tokenIn } from '../client.ts'
import { freePort, isFree } from '../free-port.ts'
import { spawnLeashed } from '../leash.ts'
import { ensureTemporal, temporalServerVersion } from '../temporal-binary.ts'
import { spawnTemporalServer, temporalAnswers } from '../temporal-server.ts'
import { firstThings } from './first-things.ts'
import { lockHome, prepareHome, waitForFormerChildren, writeRuntime } from './home.ts'
import { markOf } from './processes.ts'
import { type Supervised, supervise } from './supervise.ts'

export interface Up {
  /** Of the process tree: what clients and child processes use. */
  settings: Settings
  api: string
  temporalAddress: string
  temporalUi: string | null
  logs: string
  /** In order: the worker finishes or hands over, then the API, then Temporal. */
  drain(): Promise<void>
  /** At once; nothing is lost, but what ran is done again next time. */
  kill(): void
}

export interface UpOptions {
  settings: Settings
  /** Lines for people. */
  say(line: string): void
  /** Environment of the children; default: ours. */
  env?: Record<string, string | undefined>
  /** Children's output goes to the terminal too. */
  verbose?: boolean
}

/** How long the worker may take to hand its steps over. */
const drainSeconds = 30
/** How long children may go on when we were killed: Temporal ends with us, so there is nobody to hand over to. */
const orphanSeconds = 5

export async function startUp(options: UpOptions): Promise<Up> {
  const { say } = options
  await prepareHome(options.settings)
  const lock = lockHome(options.settings.home)
  const children: Supervised[] = []
  const drain = async () => {
    for (const child of [...children].reverse()) await child.stop(drainSeconds)
    rmSync(homePaths(options.settings.home).runtime, { force: true })
    lock.release()
  }
  const kill = () => {
    for (const child of children) child.kill()
  }
  try {
    return { ...(await startChildren(options, children)), drain, kill }
  } catch (error) {
    say('that did not work; ending what was started')
    await drain()
    throw error
  }
}

async function startChildren(
  options: UpOptions,
  children: Supervised[],
): Promise<Omit<Up, 'drain' | 'kill'>> {
  const { say } = options
  const { home } = options.settings
  const logs = join(home, 'logs')
  await waitForFormerChildren(home, say)
  // Before anything is started, so that a key that is missing or wrong is said here and not in a log.
  const { made } = await ensureSecretKey(options.settings)
  if (made !== undefined) {
    say(
      `made ${made}: it protects the stored credentials and keys of this Holdfast; keep a copy outside this machine`,
    )
  }
  const apiListen = await freeApiAddress(options.settings)
  const bracketed = apiListen.host.includes(':') ? `[${apiListen.host}]` : apiListen.host
  // Everyone else on this machine reaches an API that listens everywhere through the loopback.
  const reach = apiListen.host === '0.0.0.0' ? '127.0.0.1' : apiListen.host === '::' ? '[::1]' : bracketed
  // A certificate has names: whoever sets one says by HOLDFAST_URL under which of them the API is reached.
  const api = options.settings.apiTls ? options.settings.url : `http://${reach}:${apiListen.port}`

  let temporalAddress = options.settings.temporal.address ?? ''
  let temporalUi = options.settings.temporal.uiUrl ?? null

  const record = () =>
    writeRuntime(home, {
      ...markOf(process.pid),
      api,
      temporalAddress,
      temporalUi,
      children: children.filter(c => c.pid() > 0).map(c => ({ name: c.name, ...markOf(c.pid()) })),
    })
  let writing = Promise.resolve()
  const keep = (name: string, spawn: (output: number | 'pipe') => ReturnType<typeof spawnLeashed>) => {
    const child = supervise({
      name,
      spawn: () => withLog(logs, name, options.verbose === true, spawn),
      onStart: () => {
        // After the array knows the child; one write at a time.
        writing = writing.then(record).catch(() => {})
      },
      onDeath: (how, pauseMs) =>
        say(
          `${name} ended (${how}); starting it again in ${pauseMs / 1000} s, see ${join(logs, `${name}.log`)}`,
        ),
    })
    children.push(child)
    return child
  }

  if (options.settings.temporal.address === undefined) {
    const program = await ensureTemporal({ onProgress: line => say(`temporal: ${line}`) })
    const version = await temporalServerVersion(program)
    const port = await preferred(7461)
    const uiPort = await preferred(7462)
    temporalAddress = `127.0.0.1:${port}`
    temporalUi = `http://127.0.0.1:${uiPort}`
    const namespace = options.settings.temporal.namespace
    const databaseFile = homePaths(home).temporalDatabase.replace(/\.sqlite$/, `-${version}.sqlite`)
    let first: ReturnType<typeof spawnTemporalServer> | undefined
    keep('temporal', output => {
      const child = spawnTemporalServer({ program, port, uiPort, namespace, databaseFile, output })
      first ??= child
      return child
    })
    if (first !== undefined) {
      await temporalAnswers(first, { program, address: temporalAddress, namespace })
    }
  }

  const env = {
    ...(options.env ?? process.env),
    HOLDFAST_HOME: home,
    HOLDFAST_API_LISTEN: `${bracketed}:${apiListen.port}`,
    HOLDFAST_URL: api,
    HOLDFAST_TEMPORAL_ADDRESS: temporalAddress,
    ...(temporalUi === null ? {} : { HOLDFAST_TEMPORAL_UI_URL: temporalUi }),
  }
  const program = join(import.meta.dirname, '..', '..', 'bin', 'holdfast')
  const own = (name: string) => (output: number | 'pipe') =>
    spawnLeashed(program, [name], { env, output, graceSeconds: orphanSeconds })

  const apiChild = keep('api', own('api'))
  await apiReady(api, apiChild, logs)
  keep('worker', own('worker'))
  const settings = { ...options.settings, apiListen, url: api }
  await firstThings(
    createClient(api, () => tokenIn(settings.tokenFile)),
    settings,
    say,
  )
  await writing
  await record()
  return { settings, api, temporalAddress, temporalUi, logs }
}

/** Output goes straight into the log file, so that a child never waits for us; at --verbose through us to the terminal too. */
function withLog<Child extends ReturnType<typeof spawnLeashed>>(
  logs: string,
  name: string,
  verbose: boolean,
  spawn: (output: number | 'pipe') => Child,
): Child {
  const path = join(logs, `${name}.log`)
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0
  if (size > 10_000_000) renameSync(path, `${path}.1`)
  if (verbose) {
    const child = spawn('pipe')
    child.stdout?.pipe(process.stderr, { end: false })
    child.stderr?.pipe(process.stderr, { end: false })
    return child
  }
  const file = openSync(path, 'a', 0o600)
  try {
    return spawn(file)
  } finally {
    closeSync(file)
  }
}

async function apiReady(api: string, child: Supervised, logs: string): Promise<void> {
  const deadline = Date.now() + 60_000
  let deaths = 0
  let pid = child.pid()
  for (;;) {
    const answer = await fetch(`${api}/healthz`, { signal: AbortSignal.timeout(2000) }).catch(() => undefined)
    await answer?.body?.cancel()
    if (answer?.ok === true) return
    if (child.pid() !== pid) {
      if (child.pid() === 0) deaths++
      pid = child.pid()
    }
    if (deaths >= 3 || Date.now() > deadline) {
      const log = join(logs, 'api.log')
      throw new HoldfastError(
        'api.unreachable',
        `The API at ${api} does not come up. ${await lastError(log)}`.trim(),
        {
          hint: `Its log says more: ${log}`,
        },
      )
    }
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

/** What the child said last of why it ended. */
async function lastError(log: string): Promise<string> {
  const text = await readFile(log, 'utf8').catch(() => '')
  return (
    text
      .slice(-8192)
      .split('\n')
      .findLast(line => line.startsWith('error ')) ?? ''
  )
}

/** The address of the settings, with a free port for port 0. Throws `request.in-use` when somebody listens there. */
async function freeApiAddress(settings: Settings): Promise<{ host: string; port: number }> {
  const { host, port } = settings.apiListen
  if (port === 0) return { host, port: await freePort() }
  if (await isFree(host, port)) return { host, port }
  const own = await isOurs(settings, port)
  throw new HoldfastError(
    'request.in-use',
    own
      ? `An API of this very Holdfast listens on ${host}:${port} already.`
      : `Another program listens on ${host}:${port}.`,
    {
      hint: own ? 'Use it, or end it first.' : 'End it, or choose another address with HOLDFAST_API_LISTEN.',
    },
  )
}

/** Whoever listens there takes our token. Somebody else may accept the connection and never answer. */
async function isOurs(settings: Settings, port: number): Promise<boolean> {
  const token = tokenIn(settings.tokenFile)
  if (token === undefined) return false
  const answer = await fetch(`${settings.apiTls ? 'https' : 'http'}://127.0.0.1:${port}/v1/connections`, {
    headers: { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(3000),
  }).catch(() => undefined)
  await answer?.body?.cancel()
  return answer?.ok === true
}

async function preferred(port: number): Promise<number> {
  return (await isFree('127.0.0.1', port)) ? port : await freePort()
}
