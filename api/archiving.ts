/** How a server archives its log, asked of it now. */
import type { z } from 'zod'
import { archivingFrom } from '../activities/probe.ts'
import type { StoredConnection } from '../catalog/connections.ts'
import { findLogStream } from '../catalog/log-streams.ts'
import { engineOf } from '../engines/index.ts'
import type { ArchivingFacts } from '../model/archiving.ts'
import type { archivingView } from '../model/archiving-views.ts'
import type { LogStreamRecord } from '../model/log-stream.ts'
import type { CheckResult } from '../model/types.ts'
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
  const stream = await findLogStream(context.catalog, connection.name)
  const streamed = stream?.wanted === 'running' && facts.by === 'nobody'
  const checks = streamed
    ? streamChecks(stream)
    : (engineOf(connection.engine).archiving?.checks(facts) ?? [])
  return { connection: connection.name, ...shown, checks }
}

/** Of a server that archives nothing itself, as it need not. */
function streamChecks({ connection, state }: LogStreamRecord): CheckResult[] {
  const base = { id: 'postgresql.archiving', title: 'The log is archived' }
  const trouble = state?.receiveTrouble ?? state?.archiveTrouble
  if (state?.receiving && !trouble) {
    return [
      {
        ...base,
        answer: 'pass',
        detail: `It is streamed; archived to ${state.archivedLsn ?? 'nowhere yet'}.`,
      },
    ]
  }
  return [
    {
      ...base,
      answer: 'warn',
      detail: `It is streamed, and not just now${trouble ? `: ${trouble.detail}` : '.'}`,
      hint: `See: holdfast wal stream show ${connection}`,
    },
  ]
}
