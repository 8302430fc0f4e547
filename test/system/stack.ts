/**
 * A whole Holdfast for system tests: Temporal, the API and workers as real processes that can be killed, and optionally
 * interceptors before the object store and between worker and API. Everything lives in a throw-away directory.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client, Connection } from '@temporalio/client'
import { freePort } from '../../cli/free-port.ts'
import { closedStates } from '../../model/types.ts'
import type { BackupView, OperationView, Problem } from '../../model/views.ts'
import type { Azurite } from '../servers/azurite.ts'
import type { Gcs } from '../servers/gcs.ts'
import { type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { startTemporal } from '../servers/temporal.ts'
import type { Versitygw } from '../servers/versitygw.ts'

const root = join(import.meta.dirname, '../..')

export interface Process {
  child: ChildProcess
  log: string
  kill9(): Promise<void>
  terminate(): Promise<void>
}

export type Stack = Awaited<ReturnType<typeof startStack>>

/** Asks until the answer is not undefined; fails loudly with `what` after `seconds`. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T | undefined>,
  seconds = 90,
): Promise<T> {
  const until = Date.now() + seconds * 1000
  let last: unknown
  while (Date.now() < until) {
    try {
      const answer = await ask()
      if (answer !== undefined) return answer
    } catch (error) {
      last = error
    }
    await sleep(150)
  }
  throw new Error(`${what}: not within ${seconds} s${last ? `; last error: ${String(last)}` : ''}`)
}

export async function startStack(
  options: {
    env?: Record<string, string>
    worker?: boolean
    /** Goes on with this home, its keys and its catalog; it is left where it is. */
    home?: string
  } = {},
) {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-system-'))
  const home = options.home ?? join(directory, 'home')
  const temporal = await startTemporal({ dbFilename: join(directory, 'temporal.sqlite') })
  const port = await freePort()
  const ownUrl = `http://127.0.0.1:${port}`
  /** Whom this test asks: the first API, until it says otherwise. */
  let apiUrl = ownUrl
  const env = {
    ...process.env,
    HOLDFAST_HOME: home,
    HOLDFAST_TEMPORAL_ADDRESS: temporal.address,
    HOLDFAST_API_LISTEN: `127.0.0.1:${port}`,
    HOLDFAST_LOG_FORMAT: 'json',
    ...options.env,
  }
  const processes: Process[] = []
  let count = 0

  const start = (name: string, extra: Record<string, string> = {}, more: string[] = []): Process => {
    count += 1
    const log = join(directory, `${name}-${count}.log`)
    const child = spawn(join(root, 'bin', 'holdfast'), [name, ...more], {
      cwd: root,
      env: { ...env, ...extra },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const file = createWriteStream(log)
    child.stdout.pipe(file, { end: false })
    child.stderr.pipe(file, { end: false })
    const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
    const end = async (signal: NodeJS.Signals) => {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal)
      await exited
    }
    const made: Process = { child, log, kill9: () => end('SIGKILL'), terminate: () => end('SIGTERM') }
    processes.push(made)
    return made
  }

  const startApi = async (extra: Record<string, string> = {}, url = ownUrl): Promise<Process> => {
    const made = start('api', extra)
    const ready = eventually('API answers', async () =>
      (await fetch(`${url}/readyz`)).ok ? true : undefined,
    )
    const ended = once(made.child, 'exit').then(async () => {
      throw new Error(`The API ended before it answered:\n${await readFile(made.log, 'utf8')}`)
    })
    // The one that loses is heard by nobody.
    for (const one of [ready, ended]) one.catch(() => {})
    await Promise.race([ready, ended])
    return made
  }
  let api: Process
  try {
    api = await startApi()
  } catch (error) {
    await temporal.stop()
    throw error
  }
  const token = (await readFile(join(home, 'api.token'), 'utf8')).trim()
  const workerApi: Interceptor = await startInterceptor(ownUrl)
  const startWorker = (extra: Record<string, string> = {}, more: string[] = []) =>
    start('worker', { HOLDFAST_URL: workerApi.url, ...extra }, more)

  const call = async <T>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ) => {
    const response = await fetch(`${apiUrl}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, body: (text === '' ? undefined : JSON.parse(text)) as T }
  }

  const expectOk = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const answer = await call<T>(method, path, body)
    if (answer.status >= 300)
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
    return answer.body
  }

  if (options.home === undefined) await expectOk('POST', '/v1/keys', { name: 'default' })
  const operation = (id: string) => expectOk<OperationView>('GET', `/v1/operations/${id}`)
  const closed = (view: OperationView) => (closedStates as readonly string[]).includes(view.state)

  return {
    directory,
    home,
    temporal,
    apiUrl: ownUrl,
    token,
    env,
    /** Between workers and API. */
    workerApi,
    worker: options.worker === false ? undefined : startWorker(),
    startWorker,
    get api() {
      return api
    },
    /** Starts another one; the former must have ended. */
    async restartApi(extra: Record<string, string> = {}) {
      api = await startApi(extra)
    },
    /** Another machine on the same catalog, which must be one that can be shared: a home, an API and workers of its own. */
    async anotherMachine(name: string) {
      const home = join(directory, name)
      await mkdir(home)
      const port = await freePort()
      const url = `http://127.0.0.1:${port}`
      const extra = {
        HOLDFAST_HOME: home,
        HOLDFAST_API_LISTEN: `127.0.0.1:${port}`,
        HOLDFAST_URL: url,
        HOLDFAST_WORKER_TOKEN_FILE: join(options.home ?? join(directory, 'home'), 'worker.token'),
      }
      return {
        home,
        url,
        startApi: () => startApi(extra, url),
        startWorker: (more: Record<string, string> = {}) => start('worker', { ...extra, ...more }),
      }
    },
    /** From now on this API is asked. */
    ask(url: string) {
      apiUrl = url
    },
    call,
    expectOk,
    operation,
    ended: (id: string, seconds = 120) =>
      eventually(
        `operation ${id} ends`,
        async () => {
          const view = await operation(id)
          if (closed(view)) return view
          // The last one that was seen is in the error.
          throw new Error(`it is ${view.state}, ${JSON.stringify([view.phases.at(-1), view.progress])}`)
        },
        seconds,
      ),
    /** Waits until it is parked; one that ended instead says why. */
    async parked(id: string): Promise<OperationView> {
      const view = await eventually(
        `operation ${id} is parked`,
        async () => {
          const found = await operation(id)
          if (found.state === 'parked' || closed(found)) return found
          // The last one that was seen is in the error.
          throw new Error(`it is ${found.state}, ${JSON.stringify([found.phases.at(-1), found.progress])}`)
        },
        120,
      )
      if (closed(view)) throw new Error(`${id} is ${view.state}: ${JSON.stringify(view.error)}`)
      return view
    },
    resume: (id: string) => expectOk<OperationView>('POST', `/v1/operations/${id}/resume`),
    pause: (id: string) => expectOk<OperationView>('POST', `/v1/operations/${id}/pause`),
    async backup(body: Record<string, unknown>): Promise<OperationView> {
      return (await expectOk<{ operation: OperationView }>('POST', '/v1/backups', body)).operation
    },
    async restore(body: Record<string, unknown>): Promise<OperationView> {
      return (await expectOk<{ operation: OperationView }>('POST', '/v1/restores', body)).operation
    },
    async sweep(body: Record<string, unknown> = {}): Promise<OperationView> {
      return (await expectOk<{ operation: OperationView }>('POST', '/v1/sweep', body)).operation
    },
    backups: async (connection: string) =>
      (await expectOk<{ items: BackupView[] }>('GET', `/v1/backups?connection=${connection}`)).items,
    refused: (method: string, path: string, body?: unknown) => call<Problem>(method, path, body),
    /** As somebody does in Temporal's UI: the newest run of it, without a word to anybody. */
    async terminate(workflowId: string) {
      const connection = await Connection.connect({ address: temporal.address })
      try {
        await new Client({ connection }).workflow.getHandle(workflowId).terminate('test')
      } finally {
        await connection.close()
      }
    },
    async stop() {
      for (const made of processes) {
        made.child.kill('SIGCONT')
        await made.kill9()
      }
      await workerApi.close()
      await temporal.stop()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** What `POST /v1/destinations` needs for a bucket of the test's object store. */
export const s3Input = (store: Versitygw, name: string, prefix: string, endpoint = store.endpoint) => ({
  name,
  uri: `s3://${store.bucket}/${prefix}`,
  endpoint,
  region: store.region,
  pathStyle: true,
  accessKeyId: store.accessKeyId,
  secretAccessKey: store.secretAccessKey,
})

/** The same for a container of the test's Azure. */
export const azureInput = (store: Azurite, name: string, prefix: string) => ({
  name,
  uri: `azure://${store.container}/${prefix}`,
  endpoint: store.endpoint,
  account: store.account,
  accountKey: store.accountKey,
})

/** The same for a bucket of the test's Google Cloud Storage. */
export const gcsInput = (store: Gcs, name: string, prefix: string) => ({
  name,
  uri: `gcs://${store.bucket}/${prefix}`,
  endpoint: store.endpoint,
})

/** A new directory of the stack: a destination's must be there, as a missing one may be a disk that is not mounted. */
export async function directory(stack: Stack, name: string): Promise<string> {
  const path = join(stack.directory, name)
  await mkdir(path)
  return path
}
