/** What an operation is told of the worker that its host has of its own. */
import { readDestination } from '../catalog/destinations.ts'
import { hostWorkerOf } from '../catalog/hosts.ts'
import type { Catalog } from '../catalog/open.ts'
import type { HostWorker } from '../model/records.ts'
import { hostOfDestination } from '../storage/index.ts'
import { InvalidRequest } from './problem.ts'

/**
 * Part of the input of an operation whose tools run on this host. Throws `request.invalid` for a destination that is a
 * directory of another machine: that worker has no login there, and is to have none.
 */
export async function servedAt(
  catalog: Catalog,
  host: string,
  destinations: readonly string[],
): Promise<{ hostWorker?: HostWorker }> {
  const hostWorker = await hostWorkerOf(catalog, host)
  if (!hostWorker) return {}
  for (const name of destinations) {
    const on = hostOfDestination(await readDestination(catalog, name))
    if (on === undefined) continue
    throw new InvalidRequest([
      {
        path: 'destinations',
        message: `${name} is a directory of host ${on}; the worker of host ${host} cannot log in there. Use an object store, or a directory that both machines have`,
      },
    ])
  }
  return { hostWorker }
}
