/**
 * The process that owns the catalog: opens it, answers people, programs and workers, and keeps rows and workflows in step.
 */

import { mkdir } from 'node:fs/promises'
import { hostSecrets, readSshHost } from '../catalog/hosts.ts'
import { writerIdentity } from '../catalog/installation.ts'
import { type Catalog, openCatalog } from '../catalog/open.ts'
import { resolveSecrets } from '../catalog/secret-references.ts'
import { ensureSecretKey } from '../catalog/secrets.ts'
import { ensureToken } from '../catalog/tokens.ts'
import { enterInKeyFiles } from '../catalog/trust.ts'
import type { Host } from '../hosts/host.ts'
import { type HostPool, hostPool, openLocalHost } from '../hosts/index.ts'
import { homePaths, type Settings } from '../model/settings.ts'
import { thumbprint } from '../storage/keys.ts'
import { createApp } from './app.ts'
import type { ApiContext } from './context.ts'
import { createEventHub } from './event-hub.ts'
import { startHousekeeping } from './housekeeping.ts'
import { isLoopback, listen } from './listener.ts'
import { createLog, type Log } from './log.ts'
import { startLogWatch } from './log-watch.ts'
import { startReconciler } from './reconcile.ts'
import { liveView } from './routes/operations.ts'
import { createStrangers } from './strangers.ts'
import { openTemporal, type TemporalAccess } from './temporal.ts'

export interface RunningApi {
  /** Address that clients on this machine use. */
  url: string
  /** Files that this start made: the secret key, tokens. Worth telling a person. */
  made: string[]
  /** Stops listening, waits for requests under way, closes the catalog (and Temporal's connection if it is ours). */
  close(): Promise<void>
}

export interface ApiOptions {
  settings: Settings
  /** Opened from the settings when absent; one that is given is not closed. */
  temporal?: TemporalAccess
  log?: Log
  /** Seconds between two rounds of the reconciler. */
  reconcileSeconds?: number
  /** Seconds that a closed workflow has for telling the catalog itself how it ended. */
  lastWordSeconds?: number
  /** Seconds that a client has for sending a request. */
  requestSeconds?: number
}

/** Throws `catalog.busy`, `catalog.newer`, `catalog.secret-key`, `settings.invalid`; leaves nothing open then. */
export async function startApi(options: ApiOptions): Promise<RunningApi> {
  const { settings, log = createLog(settings), reconcileSeconds = 15, lastWordSeconds = 10 } = options
  await mkdir(settings.home, { recursive: true, mode: 0o700 })
  const made: string[] = []
  const secretKey = await ensureSecretKey(settings)
  if (secretKey.made) made.push(secretKey.made)
  const catalog = await openCatalog({ url: settings.catalogUrl, secretKey: secretKey.key })
  const closing: (() => Promise<void>)[] = [catalog.close]
  const closeAll = async () => {
    for (const close of closing.splice(0).reverse()) await close()
  }
  try {
    made.push(...(await makeTokens(catalog, settings)))
    if (catalog.newInstance) {
      log.warn('this catalog was moved or copied; destinations are read-only until `holdfast takeover`')
    }
    await enterOurselves(catalog, settings, log)
    const temporal = options.temporal ?? (await openTemporal(settings, log))
    if (!options.temporal) closing.push(temporal.close)

    const { context, hosts } = createContext(settings, catalog, temporal, log)
    closing.push(async () => hosts.close())
    const listener = await listen(createApp(context).fetch, settings, log, options.requestSeconds)
    const reconciler = startReconciler(context, reconcileSeconds, lastWordSeconds)
    // Listening ends first; then Temporal's, so that the round under way need not wait for an answer.
    closing.splice(1, 0, reconciler.stop)
    closing.splice(1, 0, startHousekeeping(context))
    closing.splice(1, 0, startLogWatch(context))
    closing.push(listener.stop)
    // Streams end by themselves only with their operation.
    closing.push(async () => context.events.stop())
    const { url } = listener
    log.info('API listens', { url })
    for (const path of made) log.info('made', { path })
    if (!isLoopback(settings.apiListen.host) && !settings.apiTls && settings.trustedProxies.length === 0) {
      log.warn(
        'the API listens beyond this machine, without TLS: see HOLDFAST_API_TLS_CERT, or put a TLS proxy before it',
        { url },
      )
    }
    return { url, made, close: closeAll }
  } catch (error) {
    await closeAll()
    throw error
  }
}

function createContext(
  settings: Settings,
  catalog: Catalog,
  temporal: TemporalAccess,
  log: Log,
): { context: ApiContext; hosts: HostPool } {
  let host: Promise<Host> | undefined
  const hosts = hostPool({
    local: () => context.host(),
    async access(name) {
      const { requestKey: _key, ...record } = await readSshHost(catalog, name)
      return { record, secrets: await resolveSecrets(await hostSecrets(catalog, name)) }
    },
  })
  const context: ApiContext = {
    settings,
    catalog,
    temporal,
    log,
    host() {
      host ??= openLocalHost({ name: 'local', stagingRoot: settings.tempDir })
      // A staging directory that could not be made may be there the next time.
      host.catch(() => {
        host = undefined
      })
      return host
    },
    hostNamed: name => hosts.host(name),
    shellOn: hosts.shell,
    process: catalog.presence.process,
    starting: new Set(),
    events: createEventHub(id => liveView({ catalog, temporal, log }, id)),
    strangers: createStrangers(),
  }
  return { context, hosts }
}

/** A key file that cannot be read or written keeps nobody from making backups: it is said, and what to do instead. */
async function enterOurselves(catalog: Catalog, settings: Settings, log: Log): Promise<void> {
  const { keys } = homePaths(settings.home)
  try {
    for (const key of await enterInKeyFiles(catalog, keys)) {
      log.warn('this key file names this installation now; replace the copies kept elsewhere', { key })
    }
  } catch (error) {
    log.warn('key files could not be made to name this installation; `recover` will need its fingerprint', {
      keys,
      reason: error instanceof Error ? error.message : String(error),
      fingerprint: await thumbprint((await writerIdentity(catalog)).publicKey),
    })
  }
}

async function makeTokens(catalog: Catalog, settings: Settings): Promise<string[]> {
  const made: string[] = []
  for (const [kind, path] of [
    ['api', settings.tokenFile],
    ['worker', settings.workerTokenFile],
  ] as const) {
    if ((await ensureToken(catalog, kind, path)).made) made.push(path)
  }
  return made
}
