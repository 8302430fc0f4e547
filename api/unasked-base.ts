/** Base backups that nobody asked for: what was archived would be of no use without them, or of less. */
import { audit } from '../catalog/audit.ts'
import type { StoredConnection } from '../catalog/connections.ts'
import { appendLog } from '../catalog/log.ts'
import { findOperation, isClosed, listOperations } from '../catalog/operations.ts'
import { baseOf, systemIdentifierOf } from '../model/base-backups.ts'
import { HoldfastError } from '../model/errors.ts'
import type { Watched } from '../model/log-alarms.ts'
import type { BackupRecord, OperationRecord } from '../model/records.ts'
import type { ApiContext } from './context.ts'
import { basesOf } from './recovery-windows.ts'
import { newBackup } from './routes/backups.ts'
import { submit } from './submit.ts'

/** Recoveries that are looked through, the newest first. */
const mostRecoveries = 100

/** It is being made, or was. */
export async function isMade({ catalog }: ApiContext, operationId: string): Promise<boolean> {
  const operation = await findOperation(catalog, operationId)
  return operation !== undefined && (!isClosed(operation.state) || operation.state === 'succeeded')
}

/** Answers its operation; undefined: it could not be begun, and whoever looks again tries again. */
export async function beginBase(
  context: ApiContext,
  connection: StoredConnection,
  why: { action: string; label: [string, string]; detail: Record<string, string | number> },
): Promise<string | undefined> {
  try {
    const bases = await basesIn(context, connection)
    const labels = Object.fromEntries([why.label])
    const request = { connection: connection.name, labels, unattended: true, ...placesOf(bases) }
    const operation = await submit(context, await newBackup(context, request), null)
    await audit(context.catalog, {
      at: new Date().toISOString(),
      actor: { name: 'holdfast' },
      action: why.action,
      object: connection.name,
      outcome: 'done',
      detail: { operation: operation.id, ...why.detail },
    })
    return operation.id
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    // Somebody holds the server, or a store is away: with the next listing.
    context.log.warn('a base backup could not be begun', {
      connection: connection.name,
      for: why.action,
      reason: error.message,
    })
    return undefined
  }
}

/**
 * A recovered copy that has become the server writes a timeline that no base backup was made on: what is recovered from it begins with
 * one of the former, and incremental backups need one. Answered once; what was not made is begun again. A server that was
 * never recovered, and went on to a timeline as a standby that took over, is left to its schedule.
 */
export async function renewedOn(
  context: ApiContext,
  connection: StoredConnection,
  timeline: number,
  former: Watched['renewed'],
): Promise<Watched['renewed']> {
  if (connection.method !== 'physical') return null
  if (former?.timeline === timeline && (await isMade(context, former.operation))) return former
  const bases = (await basesIn(context, connection)).flatMap(({ manifest, endedAt }) => {
    const base = baseOf(manifest)
    return base ? [{ timeline: base.timeline, endedAt }] : []
  })
  if (bases.some(base => base.timeline >= timeline)) return former
  const recovery = await recoveryThatMade(context, connection.name, timeline, bases)
  if (!recovery) return former
  const operation = await beginBase(context, connection, {
    action: 'base backup after a recovery',
    label: ['recovered-by', recovery.id],
    detail: { recovery: recovery.id, timeline },
  })
  if (operation === undefined) return former
  await appendLog(context.catalog, recovery.id, {
    id: operation,
    at: new Date().toISOString(),
    source: 'holdfast',
    text: `The server of ${connection.name} is on timeline ${timeline} now, and no base backup was: ${operation} makes one.`,
  })
  return { timeline, operation }
}

/**
 * The newest recovery of this server that may have made a copy on that timeline. Not one after which a base backup was made on another
 * timeline than it replayed: by then the server had gone on without its copy.
 */
async function recoveryThatMade(
  { catalog }: ApiContext,
  connection: string,
  timeline: number,
  bases: readonly { timeline: number; endedAt: string }[],
): Promise<OperationRecord | undefined> {
  const filter = { kind: 'pitr', state: 'succeeded' } as const
  const recoveries = await listOperations(catalog, filter, undefined, mostRecoveries)
  return recoveries.find(({ input, connection: target, endedAt }) => {
    if (!('recovery' in input) || input.recovery === undefined || input.dryRun || 'only' in input)
      return false
    const { action, timeline: from } = input.recovery
    const isOfServer = [target, input.sourceConnection].includes(connection)
    const isLast = bases.every(base => base.timeline <= from || base.endedAt < (endedAt ?? ''))
    return isOfServer && action === 'promote' && from < timeline && isLast
  })
}

/** The newest first. */
const basesIn = (context: ApiContext, { name, serverIdentity }: StoredConnection): Promise<BackupRecord[]> =>
  basesOf(context, name, systemIdentifierOf(serverIdentity) ?? '')

/** Where the newest lies; else the only destination there is. */
function placesOf([newest]: readonly BackupRecord[]): { destinations?: string[] } {
  const places = newest?.copies.filter(copy => copy.state === 'committed').map(copy => copy.destination) ?? []
  return places.length === 0 ? {} : { destinations: places }
}
