/** Asks something by the host of a connection's tools: from here, or by the worker that lives there. */
import { connectionSecrets, type StoredConnection } from '../catalog/connections.ts'
import { hostWorkerOf } from '../catalog/hosts.ts'
import { forgetProbe, offerProbe } from '../catalog/probes.ts'
import { resolveSecrets } from '../catalog/secret-references.ts'
import type { Host } from '../hosts/host.ts'
import type { HostQuestion } from '../model/records.ts'
import type { EngineName, Json } from '../model/types.ts'
import type { ApiContext } from './context.ts'

interface Asked {
  name: string
  engine: EngineName
  settings: Json
}

/** Throws what the question throws; `host.no-worker` where nobody answers for the host. */
export async function askThere<Answer>(
  { catalog, hostNamed, temporal }: Pick<ApiContext, 'catalog' | 'hostNamed' | 'temporal'>,
  { name, engine, settings, host }: StoredConnection,
  from: (host: Host, connection: Asked, secrets: Record<string, string>) => Promise<Answer>,
  question: (id: string, connection: Asked) => HostQuestion,
): Promise<Answer> {
  const connection = { name, engine, settings }
  const stored = await connectionSecrets(catalog, name)
  const worker = await hostWorkerOf(catalog, host)
  if (!worker) return await from(await hostNamed(host), connection, await resolveSecrets(stored))
  const id = await offerProbe(catalog, host, stored)
  try {
    return (await temporal.askHost(worker, question(id, connection))) as unknown as Answer
  } finally {
    await forgetProbe(catalog, host, id)
  }
}
