/** The socket that the API listens on: HTTP, or HTTPS with a certificate that may be exchanged while it runs. */
import { once } from 'node:events'
import { readFile, stat } from 'node:fs/promises'
import type { Server } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { createSecureContext } from 'node:tls'
import { createAdaptorServer } from '@hono/node-server'
import { HoldfastError } from '../model/errors.ts'
import type { Settings } from '../model/settings.ts'
import type { Log } from './log.ts'

/** Requests under way get this long when we are asked to end. */
const drainSeconds = 10
/** Clients that only hold connections must not take all that the process may have open. */
const mostConnections = 512
/** A renewed certificate is looked for this often. */
const certificateSeconds = 5

export interface Listener {
  /** For clients on this machine. */
  url: string
  /** Takes no more connections and waits for requests under way. */
  stop(): Promise<void>
}

/** Throws `settings.invalid` when the certificate cannot be used. */
export async function listen(
  fetch: Parameters<typeof createAdaptorServer>[0]['fetch'],
  settings: Pick<Settings, 'apiListen' | 'apiTls'>,
  log: Log,
  requestSeconds = 60,
): Promise<Listener> {
  const { apiTls, apiListen } = settings
  // Slow requests are looked for this often, and ended with 408.
  const limits = { connectionsCheckingInterval: Math.min(5000, requestSeconds * 500) }
  const common = { fetch, autoCleanupIncoming: true }
  const server = apiTls
    ? createAdaptorServer({
        ...common,
        createServer: createTlsServer,
        serverOptions: { ...limits, minVersion: 'TLSv1.2', ...(await readCertificate(apiTls)) },
      })
    : createAdaptorServer({ ...common, serverOptions: limits })
  return await started(server as Server, settings, log, requestSeconds, apiListen)
}

async function started(
  server: Server,
  settings: Pick<Settings, 'apiListen' | 'apiTls'>,
  log: Log,
  requestSeconds: number,
  { host, port }: Settings['apiListen'],
): Promise<Listener> {
  server.requestTimeout = requestSeconds * 1000
  server.headersTimeout = Math.min(20, requestSeconds) * 1000
  // Longer than clients keep idle connections, so that it is they who close them.
  server.keepAliveTimeout = 30_000
  server.maxConnections = mostConnections
  server.listen(port, host)
  await once(server, 'listening')
  const following = settings.apiTls && followCertificate(server as TlsServer, settings.apiTls, log)
  const scheme = settings.apiTls ? 'https' : 'http'
  const reach = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  const { port: taken } = server.address() as AddressInfo
  return {
    url: `${scheme}://${reach.includes(':') ? `[${reach}]` : reach}:${taken}`,
    async stop() {
      clearInterval(following)
      const closed = once(server, 'close')
      server.close()
      server.closeIdleConnections()
      const timer = setTimeout(() => server.closeAllConnections(), drainSeconds * 1000)
      await closed
      clearTimeout(timer)
    },
  }
}

interface CertificateFiles {
  cert: string
  key: string
}

/** Throws `settings.invalid`. */
async function readCertificate(files: CertificateFiles): Promise<{ cert: string; key: string }> {
  try {
    const [cert, key] = await Promise.all([readFile(files.cert, 'utf8'), readFile(files.key, 'utf8')])
    // Says now whether they are what they should be and belong together.
    createSecureContext({ cert, key })
    return { cert, key }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new HoldfastError(
      'settings.invalid',
      `The certificate ${files.cert} with the key ${files.key} cannot be used: ${reason}.`,
      { hint: 'HOLDFAST_API_TLS_CERT and _KEY name PEM files that belong together.' },
    )
  }
}

/** Takes a renewed certificate for new connections; one that cannot be used is said, and the one of before stays. */
function followCertificate(server: TlsServer, files: CertificateFiles, log: Log): NodeJS.Timeout {
  const stamp = async () => {
    const found = await Promise.all([stat(files.cert), stat(files.key)])
    return found.map(({ mtimeMs, ino, size }) => `${ino} ${size} ${mtimeMs}`).join(' ')
  }
  let known: string | undefined
  const look = async () => {
    const now = await stamp()
    if (known !== undefined && now !== known) {
      server.setSecureContext(await readCertificate(files))
      log.info('a renewed certificate is in use', { cert: files.cert })
    }
    known = now
  }
  const tell = (error: unknown) =>
    log.warn('the certificate of before stays in use', {
      reason: error instanceof Error ? error.message : String(error),
    })
  void look().catch(tell)
  return setInterval(() => void look().catch(tell), certificateSeconds * 1000)
}

export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127\./.test(host)
