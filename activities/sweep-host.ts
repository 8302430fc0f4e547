/**
 * A sweep of a machine: staging and jobs of operations that the catalog knows as closed. What it does not know may be somebody
 * else's who was given the same directory, or of a catalog that was lost: said, and left to whoever knows which.
 */
import type { SweepInput } from '../model/records.ts'
import type { WorkerContext } from './context.ts'
import type { PausableTurn } from './pausing.ts'
import { forgottenProbes, isProbe, touchedAt } from './probe.ts'
import { notesOf, type SweptCount } from './sweep-notes.ts'
import { tooYoung } from './sweep-unknown.ts'

export async function sweepHost(
  context: WorkerContext,
  turn: PausableTurn,
  input: SweepInput,
  place: string,
): Promise<SweptCount> {
  const { host } = context
  const notes = notesOf(context, input.operationId, place)
  const remove = async (id: string) => {
    await notes.removed([`host ${id}`])
    if (input.dryRun) return
    await notes.told()
    turn.assertLease()
    await host.stopOperation(id)
    await host.removeOperation(id)
  }
  for (const id of await forgottenProbes(host)) await remove(id)
  // In this order: an operation is in the catalog before anything of it is staged.
  const ids = (await host.operations()).filter(id => !isProbe(id))
  const states = await context.catalog.statesOf(ids)
  for (const id of ids) {
    turn.signal.throwIfAborted()
    turn.pausing.throwIfAborted()
    if (states[id] === 'open') continue
    if (states[id] === 'closed') {
      await remove(id)
      continue
    }
    const touched = new Date(await touchedAt(host, id))
    const why = tooYoung(touched, null)
    if (!input.unknown) {
      await notes.unknown(
        `host ${id}`,
        `It is of a lost catalog, or of another Holdfast with the staging directory ${host.stagingRoot}. If it is no other's, \`holdfast sweep --unknown\` removes it a day after it was last touched.`,
      )
    } else if (why !== undefined) {
      await notes.unknown(
        `host ${id}`,
        `It was last touched at ${touched.toISOString()}: ${why}, so it stays.`,
      )
    } else {
      await remove(id)
    }
  }
  return await notes.count()
}
