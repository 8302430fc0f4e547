/** One copy of a backup of a scrub. What is wrong with it is an answer: the others are looked at, too. */
import { type ErrorCode, hasCode } from '../model/errors.ts'
import type { ScrubInput, ScrubItem } from '../model/records.ts'
import type { WorkerContext } from './context.ts'
import type { PausableTurn } from './pausing.ts'
import { isDamage, verifyBackup } from './verify.ts'

export type Scrubbed =
  | { state: 'whole' }
  | { state: 'damaged'; backupId: string; connection: string; code: ErrorCode; detail: string }
  | { state: 'not looked at'; detail: string }

export async function scrubOne(
  context: WorkerContext,
  turn: PausableTurn,
  { operationId, level }: ScrubInput,
  item: ScrubItem,
  before: { bytes: number; totalBytes: number },
): Promise<Scrubbed> {
  const { backupId, connection, destination } = item
  const progress: PausableTurn['progress'] = update =>
    turn.progress({
      ...update,
      ...(update.bytes === undefined ? {} : { bytes: before.bytes + update.bytes }),
      totalBytes: before.totalBytes,
      note: `${backupId} of ${connection}`,
    })
  try {
    await verifyBackup(
      context,
      { ...turn, progress },
      { operationId, backupId, copies: [destination], sourceConnection: connection, level },
    )
    return { state: 'whole' }
  } catch (error) {
    // Deleted since the plan was made; or nobody here has its key, or its format; or bringing it back would cost something.
    const passed = [
      'backup.deleted',
      'key.missing',
      'key.locked',
      'artifact.unknown-format',
      'destination.archived',
    ] as const
    if (hasCode(error, ...passed)) {
      await context.catalog.recordPassedOver(backupId, destination)
      return { state: 'not looked at', detail: error.message }
    }
    if (!isDamage(error)) throw error
    return { state: 'damaged', backupId, connection, code: error.code, detail: error.message.slice(0, 500) }
  }
}
