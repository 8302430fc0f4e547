/** Asked before each act of writing: do we still hold this destination? */
import type { WriterIdentity } from '../model/records.ts'
import { claimOrCheck } from '../storage/installation.ts'
import type { WorkerContext } from './context.ts'

/** The epoch we hold there; throws `destination.read-only` when another catalog holds it. */
export async function writerEpoch(
  context: WorkerContext,
  destinationName: string,
): Promise<{ writer: WriterIdentity; epoch: number }> {
  const destination = await context.destination(destinationName)
  const writer = await context.catalog.writer()
  const remembered = await context.catalog.rememberedEpoch(destinationName)
  const epoch = await claimOrCheck(destination, writer, remembered)
  if (epoch !== remembered) await context.catalog.rememberEpoch(destinationName, epoch)
  return { writer, epoch }
}
