/**
 * Cleanup, in every outcome: what carries our random names and nothing else. Never cancelled; what cannot be reached
 * now is left to `holdfast sweep`, and said.
 */

import { HoldfastError } from '../model/errors.ts'
import type { BackupInput } from '../model/records.ts'
import { abandon, removeOtherAttempts, settled } from '../storage/backups.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { logOf } from './log.ts'
import { atEach, placesOf } from './places.ts'

/** Stops what still runs for the operation and removes its staging. */
export async function cleanHost(context: Pick<WorkerContext, 'host'>, operationId: string): Promise<void> {
  await context.host.stopOperation(operationId)
  await context.host.removeOperation(operationId)
}

/** After a commit: everything of the backup's other attempts goes, wherever it was committed. */
export async function cleanupBackup(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  attemptId: string,
): Promise<void> {
  if (!input.hostWorker) await cleanHost(context, input.operationId)
  // What is begun where it is not committed, the copying there goes on with.
  await atEach(turn, placesOf(input), async name => {
    const destination = await context.destination(name)
    const { state } = await settled(destination, input.connection, input.backupId)
    if (state !== 'committed') return
    await removeOtherAttempts(destination, input.connection, input.backupId, attemptId)
  })
}

/**
 * Gives the backup up, unless it was committed before anybody could stop it: then it stands, and that is the answer.
 */
export async function abandonBackup(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  reason: string,
): Promise<{ committed: boolean }> {
  // A host that cannot be reached, or that shows another key, keeps nobody from saying what became of the backup.
  const uncleaned = input.hostWorker
    ? undefined
    : await cleanHost(context, input.operationId).catch((error: unknown) => {
        if (error instanceof HoldfastError) return error
        throw error
      })
  const committed = await abandonAt(context, turn, input, reason)
  if (uncleaned && !committed) throw uncleaned
  return { committed }
}

/** Answers true when it was committed, wherever that was. */
async function abandonAt(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  reason: string,
): Promise<boolean> {
  const attempts = await context.catalog.attempts(input.operationId)
  const begun = [...new Set(attempts.flatMap(attempt => attempt.destinations))]
  // Nothing was ever opened there: then the destination may be the very thing that is broken, and is left alone.
  if (begun.length === 0) return false
  const { done } = await atEach(turn, begun, async name =>
    settled(await context.destination(name), input.connection, input.backupId),
  )
  if ([...done.values()].some(({ state }) => state === 'committed')) return true
  const failures: unknown[] = []
  for (const name of begun) {
    turn.assertLease()
    await abandonIn(context, input, name, reason).catch(error => failures.push(error))
  }
  if (failures.length > 0) throw failures[0]
  return false
}

async function abandonIn(
  context: WorkerContext,
  input: BackupInput,
  name: string,
  reason: string,
): Promise<void> {
  const locked = await abandon(await context.destination(name), input.connection, input.backupId, {
    by: `operation ${input.operationId}`,
    reason,
  })
  if (!locked) return
  const text = `${locked.keys.length} objects of the backup that was given up stay: ${locked.error.message} \`holdfast sweep\` removes them afterwards.`
  await logOf(context, input.operationId, {})(name, text, `locked ${input.backupId}`)
}

/**
 * Before an operation begins, and now and then: jobs and staging of operations that are closed (ended from outside, or on
 * another machine) are ended. A terminated workflow frees its lock, not its tool.
 */
export async function clearClosedOperations(context: Pick<WorkerContext, 'host' | 'catalog'>): Promise<void> {
  const present = await context.host.operations()
  if (present.length === 0) return
  for (const operationId of await context.catalog.closedOperations(present))
    await cleanHost(context, operationId)
}
