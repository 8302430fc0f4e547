/** Asks a database server who it is, with the engine's own client tools on its host. Outside of operations: of the API, and for it. */
import { randomBytes } from 'node:crypto'
import type { Probe, RestorePoint, ServerFacts } from '../engines/engine.ts'
import { engineOf } from '../engines/index.ts'
import type { Host } from '../hosts/host.ts'
import type { ArchivingFacts } from '../model/archiving.ts'
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
  const facts = await askFrom(machine, connection, secrets, probe, 'who it is')
  // It becomes a lock's name and part of a query.
  if (!identityPattern.test(facts.identity)) {
    throw new HoldfastError(
      'database.version',
      `${engine.title} calls itself something we cannot use as a name.`,
    )
  }
  return facts
}

/** How a server archives its log, and what room the disk of its data has; null: it is not known. */
export async function archivingFrom(
  machine: Host,
  connection: { name: string; engine: EngineName; settings: Json },
  secrets: Record<string, string>,
): Promise<{ facts: ArchivingFacts; freeBytes: number | null }> {
  const engine = engineOf(connection.engine)
  if (engine.archiving === undefined) {
    throw new HoldfastError('wal.not-postgresql', `${engine.title} has no log that Holdfast archives.`)
  }
  const probe = engine.archiving.now(connection.name, engine.connection.parse(connection.settings))
  const facts = await askFrom(machine, connection, secrets, probe, 'how it archives')
  const { dataDirectory } = facts
  // Whoever logs in there may not be allowed to look.
  const freeBytes =
    dataDirectory === null ? null : await machine.files.freeBytes(dataDirectory).catch(() => null)
  return { facts, freeBytes }
}

/** `serverName`: what the server calls it. Throws `wal.not-postgresql`, and what the engine makes of a refusal. */
export async function makeRestorePoint(
  machine: Host,
  connection: { name: string; engine: EngineName; settings: Json },
  secrets: Record<string, string>,
  serverName: string,
): Promise<RestorePoint> {
  const engine = engineOf(connection.engine)
  if (engine.restorePoint === undefined) throw noRestorePoints(engine.title)
  const settings = engine.connection.parse(connection.settings)
  const probe = engine.restorePoint(connection.name, settings, serverName)
  return await askFrom(machine, connection, secrets, probe, `to make the restore point ${serverName}`)
}

export const noRestorePoints = (title: string): HoldfastError =>
  new HoldfastError('wal.not-postgresql', `${title} has no restore points.`)

/** `what`: ends the sentence of an error. */
async function askFrom<Answer>(
  machine: Host,
  connection: { name: string; engine: EngineName },
  secrets: Record<string, string>,
  probe: Probe<Answer>,
  what: string,
): Promise<Answer> {
  const operation = `${prefix}${readable(randomBytes(10))}`
  const signal = AbortSignal.timeout(longestMs)
  try {
    const outputs = await runProbe(
      {
        host: machine,
        engine: engineOf(connection.engine),
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
    return probe.read(outputs)
  } catch (error) {
    if (error !== signal.reason) throw error
    const doing = `Asking ${connection.name} from ${machine.name} ${what}`
    throw new HoldfastError('database.unreachable', `${doing}: no answer within ${longestMs / 1000} s.`)
  } finally {
    await machine.removeOperation(operation)
  }
}
