/**
 * Settings from the environment, read once at start by whoever starts a process. See docs/configuration.md.
 * Pure: takes the environment, touches no file.
 */
import { isIP } from 'node:net'
import { isAbsolute, join, resolve } from 'node:path'
import { HoldfastError } from './errors.ts'

export interface Settings {
  /** Data directory: catalog, keys, staging, local destination, Temporal dev database. Absolute. */
  home: string
  secretKey: string | undefined
  secretKeyFile: string
  catalogUrl: string
  temporal: {
    /** undefined: `holdfast up` embeds a dev server. */
    address: string | undefined
    namespace: string
    uiUrl: string | undefined
    apiKey: string | undefined
    tls:
      | {
          ca: string | undefined
          cert: string | undefined
          key: string | undefined
          serverName: string | undefined
        }
      | undefined
  }
  apiListen: { host: string; port: number }
  /** Files of the API's certificate (with those between it and its authority) and of its key. Absolute. */
  apiTls: { cert: string; key: string } | undefined
  /** Names under which browsers may reach the API, beside those of this machine. */
  apiHosts: string[]
  /** Addresses and networks of proxies whose word about clients is believed. */
  trustedProxies: string[]
  /** What the CLI and workers talk to. */
  url: string
  token: string | undefined
  /** Bearer token of people and programs, 0600, made by the API's first start. Absolute. */
  tokenFile: string
  /** Token of workers, likewise. */
  workerTokenFile: string
  /** File of certificates that the CLI and workers trust for https, beside those of the system. Absolute. */
  ca: string | undefined
  tempDir: string
  /** How long a machine with staged data may be away until an operation begins anew on another. */
  machineWaitSeconds: number
  /** How long an operation that needs an operator waits for one. */
  parkSeconds: number
  /** How soon a parked operation whose trouble may pass by itself tries again. */
  parkRetrySeconds: number
  /** Program that is told when an operation is parked. Absolute. */
  notifyCommand: string | undefined
  /** Between two looks at how servers archive their log. */
  logWatchSeconds: number
  /** After so long a step of a log stream ends and the next one begins. */
  logTurnSeconds: number
  /** How long a restore that replaces something waits for its approval. */
  approvalSeconds: number
  logLevel: 'debug' | 'info' | 'warn' | 'error'
  logFormat: 'pretty' | 'json'
}

/** Settings that may stand in a file instead, `NAME_FILE`, as container secrets and systemd credentials do. */
export const settingsInFiles = ['HOLDFAST_CATALOG_URL', 'HOLDFAST_TEMPORAL_API_KEY'] as const

const levels = ['debug', 'info', 'warn', 'error'] as const

export function settingsFrom(
  env: Record<string, string | undefined>,
  cwd: string,
  terminal: boolean,
): Settings {
  const text = (name: string) => (env[name] === '' ? undefined : env[name])
  const choice = <T extends string>(name: string, allowed: readonly T[], fallback: T): T => {
    const value = text(name)
    if (value === undefined) return fallback
    const found = allowed.find(item => item === value)
    if (found === undefined) {
      throw new HoldfastError(
        'settings.invalid',
        `${name} is "${value}"; it must be one of ${allowed.join(', ')}.`,
      )
    }
    return found
  }
  const seconds = (name: string, fallback: number) => {
    const value = text(name)
    if (value === undefined) return fallback
    if (!/^[1-9]\d{0,7}$/.test(value)) {
      throw new HoldfastError(
        'settings.invalid',
        `${name} is "${value}"; it must be a whole number of seconds.`,
      )
    }
    return Number(value)
  }
  const absolute = (path: string) => (isAbsolute(path) ? path : resolve(cwd, path))

  const notifyCommand = text('HOLDFAST_NOTIFY_COMMAND')
  if (notifyCommand !== undefined && !isAbsolute(notifyCommand)) {
    throw new HoldfastError(
      'settings.invalid',
      `HOLDFAST_NOTIFY_COMMAND is "${notifyCommand}"; it must be the absolute path of a program.`,
    )
  }
  const home = absolute(text('HOLDFAST_HOME') ?? '.holdfast')
  const listen = text('HOLDFAST_API_LISTEN') ?? '127.0.0.1:7460'
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:]+)):(\d{1,5})$/.exec(listen)
  if (!match || Number(match[3]) > 65535) {
    throw new HoldfastError(
      'settings.invalid',
      `HOLDFAST_API_LISTEN is "${listen}"; it must be ADDRESS:PORT.`,
    )
  }
  const apiListen = { host: match[1] ?? match[2] ?? '', port: Number(match[3]) }
  const ca = text('HOLDFAST_CA')
  const tls = ['CA', 'CERT', 'KEY', 'SERVER_NAME'].some(
    part => text(`HOLDFAST_TEMPORAL_TLS_${part}`) !== undefined,
  )
  const [cert, key] = [text('HOLDFAST_API_TLS_CERT'), text('HOLDFAST_API_TLS_KEY')]
  if ((cert === undefined) !== (key === undefined)) {
    throw new HoldfastError(
      'settings.invalid',
      'HOLDFAST_API_TLS_CERT and HOLDFAST_API_TLS_KEY are set together or not at all.',
    )
  }
  const apiTls = cert && key ? { cert: absolute(cert), key: absolute(key) } : undefined
  return {
    home,
    secretKey: text('HOLDFAST_SECRET_KEY'),
    secretKeyFile: absolute(text('HOLDFAST_SECRET_KEY_FILE') ?? join(home, 'secret.key')),
    catalogUrl: text('HOLDFAST_CATALOG_URL') ?? `sqlite:${join(home, 'catalog.sqlite')}`,
    temporal: {
      address: text('HOLDFAST_TEMPORAL_ADDRESS'),
      namespace: text('HOLDFAST_TEMPORAL_NAMESPACE') ?? 'default',
      uiUrl: text('HOLDFAST_TEMPORAL_UI_URL'),
      apiKey: text('HOLDFAST_TEMPORAL_API_KEY'),
      tls: tls
        ? {
            ca: text('HOLDFAST_TEMPORAL_TLS_CA'),
            cert: text('HOLDFAST_TEMPORAL_TLS_CERT'),
            key: text('HOLDFAST_TEMPORAL_TLS_KEY'),
            serverName: text('HOLDFAST_TEMPORAL_TLS_SERVER_NAME'),
          }
        : undefined,
    },
    apiListen,
    apiTls,
    apiHosts: listOf(text('HOLDFAST_API_HOSTS')).map(host => host.toLowerCase()),
    trustedProxies: networks('HOLDFAST_API_TRUSTED_PROXIES', text('HOLDFAST_API_TRUSTED_PROXIES')),
    url: text('HOLDFAST_URL') ?? `${apiTls ? 'https' : 'http'}://${listen}`,
    token: text('HOLDFAST_TOKEN'),
    tokenFile: absolute(text('HOLDFAST_TOKEN_FILE') ?? join(home, 'api.token')),
    workerTokenFile: absolute(text('HOLDFAST_WORKER_TOKEN_FILE') ?? join(home, 'worker.token')),
    ca: ca === undefined ? undefined : absolute(ca),
    tempDir: absolute(text('HOLDFAST_TEMP_DIR') ?? join(home, 'staging')),
    machineWaitSeconds: seconds('HOLDFAST_MACHINE_WAIT_SECONDS', 300),
    parkSeconds: seconds('HOLDFAST_PARK_SECONDS', 86_400),
    parkRetrySeconds: seconds('HOLDFAST_PARK_RETRY_SECONDS', 600),
    notifyCommand,
    logWatchSeconds: seconds('HOLDFAST_LOG_WATCH_SECONDS', 300),
    logTurnSeconds: seconds('HOLDFAST_LOG_TURN_SECONDS', 600),
    approvalSeconds: seconds('HOLDFAST_APPROVAL_SECONDS', 86_400),
    logLevel: choice('HOLDFAST_LOG_LEVEL', levels, 'info'),
    logFormat: choice('HOLDFAST_LOG_FORMAT', ['pretty', 'json'], terminal ? 'pretty' : 'json'),
  }
}

/** Addresses and networks, `10.0.0.7, 10.1.0.0/16, ::1`. */
function networks(name: string, value: string | undefined): string[] {
  const entries = listOf(value)
  for (const entry of entries) {
    const [address = '', bits, ...more] = entry.split('/')
    const longest = isIP(address) === 6 ? 128 : 32
    const fits = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= longest)
    if (isIP(address) !== 0 && fits && more.length === 0) continue
    throw new HoldfastError(
      'settings.invalid',
      `${name} holds "${entry}", which is no address and no network.`,
    )
  }
  return entries
}

const listOf = (value: string | undefined): string[] =>
  (value ?? '').split(/[\s,]+/).filter(item => item !== '')

/** Places below the home that more than one process knows. */
export const homePaths = (home: string) => ({
  keys: join(home, 'keys'),
  temporalDatabase: join(home, 'temporal.sqlite'),
  /** Default root of local destinations. */
  backups: join(home, 'backups'),
  /** Addresses of what `up` started: JSON {api, temporalAddress, temporalUi, pid}. */
  runtime: join(home, 'runtime.json'),
})
