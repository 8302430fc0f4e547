/** An API in this process, on a free port, with a throw-away home. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLog } from '../../api/log.ts'
import { type RunningApi, startApi } from '../../api/server.ts'
import { type Settings, settingsFrom } from '../../model/settings.ts'
import type { Problem } from '../../model/views.ts'
import { placeForCatalog } from '../support/catalogs.ts'

/** Nobody listens there. */
export const nowhere = '127.0.0.1:1'

export interface TestApi {
  home: string
  settings: Settings
  api: RunningApi
  token: string
  workerToken: string
  /** Everything that was logged. */
  log(): string
  call<T = unknown>(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<{ status: number; body: T; headers: Headers }>
  refused(method: string, path: string, body?: unknown): Promise<Problem>
  /** Ends the API and starts another one on the same home; `between` has the home to itself. */
  restart(between?: () => Promise<void>): Promise<void>
  /** Makes a small SQLite database and the connection to it. */
  addSqlite(name: string): Promise<string>
  addDestination(name: string): Promise<string>
  stop(): Promise<void>
}

export async function startTestApi(
  options: { temporal?: string; home?: string; env?: Record<string, string>; requestSeconds?: number } = {},
): Promise<TestApi> {
  const home = options.home ?? (await mkdtemp(join(tmpdir(), 'holdfast-api-')))
  const place = await placeForCatalog(home)
  // Never made for a shared catalog.
  if (place.url.startsWith('postgres')) {
    await writeFile(join(home, 'secret.key'), 'a secret key for tests only', { mode: 0o600 })
  }
  const settings = settingsFrom(
    {
      HOLDFAST_HOME: home,
      HOLDFAST_CATALOG_URL: place.url,
      HOLDFAST_API_LISTEN: '127.0.0.1:0',
      HOLDFAST_TEMPORAL_ADDRESS: options.temporal ?? nowhere,
      HOLDFAST_LOG_LEVEL: 'debug',
      ...options.env,
    },
    '/',
    false,
  )
  let lines = ''
  const start = () =>
    startApi({
      settings,
      log: createLog(settings, line => {
        lines += line
      }),
      reconcileSeconds: 0.3,
      lastWordSeconds: 1,
      ...(options.requestSeconds === undefined ? {} : { requestSeconds: options.requestSeconds }),
    })
  const read = async (path: string) => (await readFile(path, 'utf8')).trim()
  const tools: TestApi = {
    home,
    settings,
    api: await start(),
    token: await read(settings.tokenFile),
    workerToken: await read(settings.workerTokenFile),
    log: () => lines,
    async call<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
      const response = await fetch(`${tools.api.url}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${tools.token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      })
      const text = await response.text()
      return {
        status: response.status,
        body: (text === '' ? undefined : JSON.parse(text)) as T,
        headers: response.headers,
      }
    },
    async refused(method, path, body) {
      const answer = await tools.call<Problem>(method, path, body)
      if (answer.status < 400) throw new Error(`${method} ${path} was answered with ${answer.status}`)
      return answer.body
    },
    async restart(between = async () => {}) {
      await tools.api.close()
      await between()
      tools.api = await start()
    },
    async addSqlite(name) {
      const path = join(home, `${name}.db`)
      const database = new DatabaseSync(path)
      database.exec(
        "create table items (id integer primary key, name text); insert into items values (1, 'one')",
      )
      database.close()
      const answer = await tools.call('POST', '/v1/connections', { name, url: path })
      if (answer.status !== 201) throw new Error(JSON.stringify(answer.body))
      return path
    },
    async addDestination(name) {
      const path = join(home, `destination-${name}`)
      await mkdir(path, { recursive: true, mode: 0o700 })
      const answer = await tools.call('POST', '/v1/destinations', { name, uri: path })
      if (answer.status !== 201) throw new Error(JSON.stringify(answer.body))
      return path
    },
    async stop() {
      await tools.api.close()
      await place.remove()
      if (options.home === undefined) await rm(home, { recursive: true, force: true })
    },
  }
  return tools
}

/** Asks until there is an answer; fails with `what` after a generous while. */
export async function eventually<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  const until = Date.now() + 60_000
  while (Date.now() < until) {
    const answer = await ask()
    if (answer !== undefined) return answer
    await sleep(50)
  }
  throw new Error(`${what}: did not happen`)
}
