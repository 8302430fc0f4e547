/** Who a database server is, asked by the host of its tools: from here, or by the worker that lives there. */
import { probeFrom } from '../activities/probe.ts'
import { hostWorkerOf } from '../catalog/hosts.ts'
import { forgetProbe, offerProbe } from '../catalog/probes.ts'
import { resolveSecrets } from '../catalog/secret-references.ts'
import type { ServerFacts } from '../engines/engine.ts'
import type { EngineName, Json, MethodName } from '../model/types.ts'
import type { ApiContext } from './context.ts'

/** Throws what the engine makes of a failure; `host.no-worker` where nobody answers for the host. */
export async function probeConnection(
  { catalog, hostNamed, temporal }: Pick<ApiContext, 'catalog' | 'hostNamed' | 'temporal'>,
  {
    host,
    name,
    engine,
    settings,
    method,
  }: {
    name: string
    engine: EngineName
    settings: Json
    host: string
    method?: MethodName
  },
  stored: Record<string, string>,
): Promise<ServerFacts> {
  const connection = { name, engine, settings, ...(method === undefined ? {} : { method }) }
  const worker = await hostWorkerOf(catalog, host)
  if (!worker) return await probeFrom(await hostNamed(host), connection, await resolveSecrets(stored))
  const id = await offerProbe(catalog, host, stored)
  try {
    return (await temporal.askHost(worker, { ask: 'probe', id, connection })) as unknown as ServerFacts
  } finally {
    await forgetProbe(catalog, host, id)
  }
}
