/** Asked before each act of writing: do we still hold this destination? */
import { HoldfastError } from '../model/errors.ts'
import type { WriterIdentity } from '../model/records.ts'
import { claimOrCheck, currentEpoch } from '../storage/installation.ts'
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

/** The same question without claiming what nobody holds: for dry runs. */
export async function expectWriter(context: WorkerContext, destinationName: string): Promise<void> {
  const destination = await context.destination(destinationName)
  const { instanceId } = await context.catalog.writer()
  const holder = await currentEpoch(destination)
  if (holder === undefined || holder.instanceId === instanceId) return
  throw new HoldfastError(
    'destination.read-only',
    `Looking at ${destination.uri}: epoch ${holder.epoch} is held by installation ${holder.installationId}, instance ${holder.instanceId}.`,
  )
}
