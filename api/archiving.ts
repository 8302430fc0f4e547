/** How a server archives its log, asked of it now. */
import type { z } from 'zod'
import { archivingFrom } from '../activities/probe.ts'
import type { StoredConnection } from '../catalog/connections.ts'
import { engineOf } from '../engines/index.ts'
import type { ArchivingFacts } from '../model/archiving.ts'
import type { archivingView } from '../model/archiving-views.ts'
import type { ApiContext } from './context.ts'
import { askThere } from './there.ts'

export const askArchiving = (
  context: Pick<ApiContext, 'catalog' | 'hostNamed' | 'temporal'>,
  connection: StoredConnection,
): Promise<{ facts: ArchivingFacts; freeBytes: number | null }> =>
  askThere(context, connection, archivingFrom, (id, asking) => ({ ask: 'archiving', id, connection: asking }))

/** Throws `wal.not-postgresql`. */
export async function archivingOf(
  context: ApiContext,
  connection: StoredConnection,
): Promise<z.infer<typeof archivingView>> {
  const { facts } = await askArchiving(context, connection)
  const { segmentBytes: _size, dataDirectory: _place, ...shown } = facts
  const checks = engineOf(connection.engine).archiving?.checks(facts) ?? []
  return { connection: connection.name, ...shown, checks }
}
