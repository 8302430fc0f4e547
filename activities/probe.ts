/** Asks a database server who it is, with the engine's own client tools on its host. Outside of operations: of the API, and for it. */
import { randomBytes } from 'node:crypto'
import type { ServerFacts } from '../engines/engine.ts'
import { engineOf } from '../engines/index.ts'
import type { Host } from '../hosts/host.ts'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import type { EngineName, Json, MethodName } from '../model/types.ts'
import { runProbe } from './steps.ts'

const prefix = 'probe-'
export const isProbe = (operation: string): boolean => operation.startsWith(prefix)

const longestMs = 60_000
/** One that is older than this was begun by a process that died. */
const forgottenMs = 10 * longestMs

/** When something was last made in an operation's rooms in staging, by the machine's clock. */
export async function touchedAt({ files, stagingRoot }: Host, operation: string): Promise<number> {
  const rooms = ['data', 'jobs'].map(room => files.stat(`${stagingRoot}/${room}/${operation}`))
  return Math.max(...(await Promise.all(rooms)).map(found => found?.modifiedAtMs ?? 0))
}

/** What probes of dead processes left in staging. */
export async function forgottenProbes(host: Host): Promise<string[]> {
  const found: string[] = []
  for (const operation of (await host.operations()).filter(isProbe)) {
    if (Date.now() - (await touchedAt(host, operation)) >= forgottenMs) found.push(operation)
  }
  return found
}

export async function removeForgottenProbes(host: Host): Promise<void> {
  for (const operation of await forgottenProbes(host)) {
    await host.stopOperation(operation)
    await host.removeOperation(operation)
  }
}

const identityPattern = /^[A-Za-z0-9.:_/-]{1,400}$/

/** Throws what the engine makes of a failure: `database.unreachable`, `database.authentication`, `host.tool-missing` … */
export async function probeFrom(
  machine: Host,
  connection: { name: string; engine: EngineName; settings: Json; method?: MethodName },
  secrets: Record<string, string>,
): Promise<ServerFacts> {
  const engine = engineOf(connection.engine)
  const settings = engine.connection.parse(connection.settings)
  const probe = engine.probe(connection.name, settings, connection.method)
  const operation = `${prefix}${readable(randomBytes(10))}`
  const signal = AbortSignal.timeout(longestMs)
  try {
    const outputs = await runProbe(
      {
        host: machine,
        engine,
        operation,
        token: readable(randomBytes(8)),
        signal,
        fence: 0,
        secret: async ref => secrets[ref.field],
        assertLease: () => {},
      },
      'probe',
      probe.commands,
    )
    const facts = probe.read(outputs)
    // It becomes a lock's name and part of a query.
    if (!identityPattern.test(facts.identity)) {
      throw new HoldfastError(
        'database.version',
        `${engine.title} calls itself something we cannot use as a name.`,
      )
    }
    return facts
  } catch (error) {
    if (error !== signal.reason) throw error
    const doing = `Asking ${connection.name} from ${machine.name} who it is`
    throw new HoldfastError('database.unreachable', `${doing}: no answer within ${longestMs / 1000} s.`)
  } finally {
    await machine.removeOperation(operation)
  }
}
