/**
 * What a worker process holds for its activities: the way to the catalog, the host, open destinations. Made once.
 */

import { catalogClient } from '../catalog/client.ts'
import { resolveSecrets } from '../catalog/secret-references.ts'
import type { WorkerCatalog } from '../catalog/worker.ts'
import type { Host } from '../hosts/host.ts'
import { hostPool, openLocalHost } from '../hosts/index.ts'
import type { HostAccess, Machine } from '../model/records.ts'
import { boundTo } from '../storage/bound.ts'
import type { Destination } from '../storage/destination.ts'
import { openDestination } from '../storage/index.ts'

export interface WorkerContext {
  catalog: WorkerCatalog
  /** The host that this worker lives on and serves alone; undefined for one that serves all others. */
  ownHost: string | undefined
  /** The machine the tools run on: this one, unless `onHostOf` says otherwise. */
  host: Host
  /** This machine. */
  here: Host
  machine: Machine
  /** Opens (or gives the open) destination; credentials are fetched from the catalog each time they may have changed. */
  destination(name: string): Promise<Destination>
  /** The same for one run of a step: calls of catalog and destinations end with the signal. */
  within(signal: AbortSignal): WorkerContext
  /** The same for one run of a step that works on the host of the operation's connection. */
  onHostOf(operationId: string, signal: AbortSignal): Promise<WorkerContext>
  /** The same on this host. */
  onHost(name: string, signal: AbortSignal): Promise<WorkerContext>
  /** Those that are open are not given out again. */
  forgetDestinations(): void
  /** Program that is told of events; none where nobody wants to know. */
  notifyCommand: string | undefined
}

/** An open destination is kept this long, so that changed credentials are seen by the next operation. */
const reuseSeconds = 60

export interface ContextOptions {
  /** Of the API. */
  url: string
  workerToken: string
  tempDir: string
  machine: Machine
  /** Serve this host alone. */
  ownHost: string | undefined
  notifyCommand: string | undefined
}

export async function openContext(options: ContextOptions): Promise<WorkerContext> {
  const server = { url: options.url, token: options.workerToken }
  const catalog = catalogClient(server)
  const host = await openLocalHost({ name: options.ownHost ?? 'local', stagingRoot: options.tempDir })
  const hosts = hostPool({ local: async () => host, access: name => hostAccess(catalog, name) })
  const open = new Map<string, { destination: Promise<Destination>; until: number }>()
  const context: WorkerContext = {
    catalog,
    ownHost: options.ownHost,
    host,
    here: host,
    machine: options.machine,
    async destination(name) {
      const known = open.get(name)
      if (known && known.until > Date.now()) return known.destination
      const destination = catalog
        .destination(name)
        .then(async ({ record, secrets }) =>
          openDestination(record, await resolveSecrets(secrets), { shellOn: hosts.shell }),
        )
      open.set(name, { destination, until: Date.now() + reuseSeconds * 1000 })
      // A transfer may still use the old one: its sockets end with it, so it is left to the garbage collector.
      destination.catch(() => open.delete(name))
      return destination
    },
    within: signal => ({
      ...context,
      catalog: catalogClient({ ...server, signal }),
      destination: async name => boundTo(signal, await context.destination(name)),
    }),
    async onHostOf(operationId, signal) {
      const within = context.within(signal)
      const name = await within.catalog.hostOf(operationId)
      return { ...within, host: name === options.ownHost ? host : await hosts.host(name) }
    },
    onHost: async (name, signal) => ({
      ...context.within(signal),
      host: name === options.ownHost ? host : await hosts.host(name),
    }),
    forgetDestinations() {
      open.clear()
    },
    notifyCommand: options.notifyCommand,
  }
  return context
}

async function hostAccess(catalog: WorkerCatalog, name: string): Promise<HostAccess> {
  const { record, secrets } = await catalog.host(name)
  return { record, secrets: await resolveSecrets(secrets) }
}
