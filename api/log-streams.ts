/** Servers whose log is streamed: accepted, stopped, and kept under way whatever becomes of Temporal. */

import type { z } from '@hono/zod-openapi'
import { readConnection, type StoredConnection } from '../catalog/connections.ts'
import { hostWorkerOf } from '../catalog/hosts.ts'
import { installationKeys } from '../catalog/installation.ts'
import { findLogStream, listLogStreams, stopLogStream, wantLogStream } from '../catalog/log-streams.ts'
import { engineOf } from '../engines/index.ts'
import { systemIdentifierOf } from '../model/base-backups.ts'
import { HoldfastError, hasCode } from '../model/errors.ts'
import { logsWorkflowId } from '../model/ids.ts'
import {
  type ArchiveLogsInput,
  type LogStreamRecord,
  type LogStreamView,
  type logStreamInput,
  type SlotEnd,
  slotOf,
} from '../model/log-stream.ts'
import { beginStream } from '../storage/wal/push.ts'
import type { ApiContext } from './context.ts'
import { recipientsOf } from './recipients.ts'
import { destinationsOf, encryptToOf } from './routes/backups.ts'
import { withDestination } from './routes/destinations.ts'

const usualSpoolBytes = 4 * 2 ** 30
const usualSlotBytes = 16 * 2 ** 30
/** Of some ten events: well below what Temporal keeps of one run. */
const turnsPerRun = 500
/** A destination in trouble is borne so long before whoever waits is told. */
const patienceSeconds = 10

/** Answers the system identifier. Throws `wal.not-postgresql` for what has no such log. */
export function expectLog({ name, engine, serverIdentity }: StoredConnection): string {
  const systemIdentifier = systemIdentifierOf(serverIdentity)
  if (engineOf(engine).archiving !== undefined && systemIdentifier !== undefined) return systemIdentifier
  throw new HoldfastError(
    'wal.not-postgresql',
    `Connection ${name} is no PostgreSQL server whose system identifier is known.`,
  )
}

/**
 * From now on the log of this connection is streamed as asked; what is not said stays as it was. Its archive is begun where there is
 * none. Throws `wal.not-postgresql`, `destination.*`, `wal.no-archive`.
 */
export async function startLogStream(
  context: ApiContext,
  connection: StoredConnection,
  asked: z.infer<typeof logStreamInput>,
): Promise<LogStreamView> {
  const { catalog } = context
  const { name } = connection
  const systemIdentifier = expectLog(connection)
  const known = await findLogStream(catalog, name)
  const destinations = await destinationsOf(context, asked.destinations ?? known?.destinations)
  const names = destinations.map(one => one.name)
  const recipients =
    asked.encryptTo === undefined && known
      ? known.recipients
      : await recipientsOf(context, asked.encryptTo ?? encryptToOf(destinations))
  const { installationId } = await installationKeys(catalog)
  for (const destination of names) {
    await withDestination(context, destination, async opened => {
      await opened.check()
      const stream = { connection: name, systemIdentifier }
      await beginStream(opened, stream, { archiver: installationId }, { patienceSeconds })
    })
  }
  const record = await wantLogStream(catalog, {
    connection: name,
    destinations: names,
    recipients,
    slot: asked.slot ?? known?.slot ?? slotOf(name),
    spoolLimitBytes: asked.spoolLimitBytes ?? known?.spoolLimitBytes ?? usualSpoolBytes,
    slotLimitBytes: asked.slotLimitBytes ?? known?.slotLimitBytes ?? usualSlotBytes,
  })
  await carried(context, record, true)
  return await viewOf(context, record)
}

/** Asked for: it is done once its worker has done it. Throws `request.not-found`. */
export async function endLogStream(
  context: ApiContext,
  connection: string,
  slotEnd: SlotEnd,
): Promise<LogStreamView> {
  const record = await stopLogStream(context.catalog, connection, slotEnd)
  if (record.stoppedAt === null) await carried(context, record, true)
  return await viewOf(context, record)
}

/** What the catalog wants and Temporal does not do, it does again. */
export async function keepLogStreams(context: ApiContext): Promise<void> {
  for (const record of await listLogStreams(context.catalog)) {
    if (record.stoppedAt === null) await carried(context, record, false)
  }
}

/** Where Temporal does not answer, whoever looks after it does it later. */
async function carried(context: ApiContext, record: LogStreamRecord, now: boolean): Promise<void> {
  try {
    await context.temporal.archiveLogs(await inputOf(context, record), now)
  } catch (error) {
    const unreachable = hasCode(error, 'temporal.unreachable')
    context.log[unreachable ? 'debug' : 'warn']('a log stream could not be started', {
      connection: record.connection,
      reason: error instanceof Error ? error.message : String(error),
    })
  }
}

async function inputOf(
  { catalog, settings }: ApiContext,
  record: LogStreamRecord,
): Promise<ArchiveLogsInput> {
  const { engine, serverIdentity, host } = await readConnection(catalog, record.connection)
  const worker = await hostWorkerOf(catalog, host)
  return {
    version: 1,
    connection: record.connection,
    engine,
    serverIdentity,
    destinations: record.destinations,
    host,
    hostQueue: worker?.queue ?? null,
    turnSeconds: settings.logTurnSeconds,
    turnsPerRun,
  }
}

export async function viewOf({ catalog }: ApiContext, record: LogStreamRecord): Promise<LogStreamView> {
  const { connection, destinations, recipients, slot, spoolLimitBytes, slotLimitBytes, createdAt } = record
  const ended = record.stoppedAt === null ? 'stopping' : 'stopped'
  return {
    connection,
    host: (await readConnection(catalog, connection)).host,
    destinations,
    recipients,
    slot,
    spoolLimitBytes,
    slotLimitBytes,
    wanted: record.wanted === 'running' ? 'running' : ended,
    state: record.state,
    workflowId: logsWorkflowId(connection),
    createdAt,
  }
}
