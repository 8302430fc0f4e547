/** How a sweep removes: what is removed is told before it is, and nothing is removed by who lost the step. */
import { hasCode } from '../model/errors.ts'
import type { SweepInput } from '../model/records.ts'
import { abandon } from '../storage/backups.ts'
import type { Destination } from '../storage/destination.ts'
import type { WorkerContext } from './context.ts'
import type { PausableTurn } from './pausing.ts'
import type { Notes } from './sweep-notes.ts'

export interface Place {
  context: WorkerContext
  turn: PausableTurn
  input: SweepInput
  name: string
  destination: Destination
  notes: Notes
  /** Throws when the step is to stop here. */
  goOn(): void
}

interface Goes {
  object(key: string): boolean
  upload(key: string): boolean
}

/** `mayGo` is asked before each; once it says no, the rest stays. */
export async function removeEach(
  { turn, input, name, destination, notes }: Place,
  prefix: string,
  goes: Goes,
  mayGo: () => Promise<boolean> = async () => true,
): Promise<void> {
  const remove = async (what: string, act: () => Promise<void>): Promise<boolean> => {
    if (!input.dryRun && !(await mayGo())) return false
    await notes.removed([what])
    if (input.dryRun) return true
    await notes.told()
    turn.assertLease()
    try {
      await act()
    } catch (error) {
      if (!hasCode(error, 'destination.locked')) throw error
      await notes.skipped(what, error)
    }
    return true
  }
  for await (const { key, uploadId } of destination.listUploads(prefix)) {
    if (!goes.upload(key)) continue
    if (!(await remove(`upload ${name}/${key}`, () => destination.abortUpload(key, uploadId)))) return
  }
  for await (const { key } of destination.list(prefix)) {
    if (!goes.object(key)) continue
    if (!(await remove(`${name}/${key}`, () => destination.remove(key)))) return
  }
}

/** The marker first, so that nothing that is still on its way makes it a backup. */
export async function giveUp(
  { turn, input, name, destination, notes }: Place,
  { prefix, connection, backupId }: { prefix: string; connection: string; backupId: string },
  reason: string,
): Promise<void> {
  const left: string[] = []
  for await (const { key } of destination.listUploads(prefix)) left.push(`upload ${name}/${key}`)
  for await (const { key } of destination.list(prefix)) left.push(`${name}/${key}`)
  await notes.removed(left)
  if (input.dryRun) return
  await notes.told()
  turn.assertLease()
  const locked = await abandon(destination, connection, backupId, {
    by: `sweep ${input.operationId}`,
    reason,
  })
  for (const key of locked?.keys ?? []) if (locked) await notes.skipped(`${name}/${key}`, locked.error)
}
