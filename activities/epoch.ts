/** Asked before each act of writing: do we still hold this destination? */
import { HoldfastError } from '../model/errors.ts'
import type { WriterIdentity } from '../model/records.ts'
import type { Destination } from '../storage/destination.ts'
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
  if (context.ownHost !== undefined) await expectKnown(context.ownHost, destination)
  const epoch = await claimOrCheck(destination, writer, remembered)
  if (epoch !== remembered) await context.catalog.rememberEpoch(destinationName, epoch)
  return { writer, epoch }
}

/**
 * It was claimed when it was added. Where nothing says so it is another place by the same name: a directory of this machine,
 * not the one that those see who verify and commit.
 */
async function expectKnown(host: string, destination: Destination): Promise<void> {
  if ((await currentEpoch(destination)) !== undefined) return
  throw new HoldfastError(
    'destination.missing',
    `Looking at ${destination.uri} from host ${host}: what Holdfast wrote there when it was added is not there.`,
    {
      hint: 'A directory has to be the same one on every machine, as a shared file system; else use an object store.',
    },
  )
}

/** The same question without claiming what nobody holds: for dry runs. */
export async function expectWriter(context: WorkerContext, destinationName: string): Promise<void> {
  const destination = await context.destination(destinationName)
  const { instanceId } = await context.catalog.writer()
  if (context.ownHost !== undefined) await expectKnown(context.ownHost, destination)
  const holder = await currentEpoch(destination)
  if (holder === undefined || holder.instanceId === instanceId) return
  throw new HoldfastError(
    'destination.read-only',
    `Looking at ${destination.uri}: epoch ${holder.epoch} is held by installation ${holder.installationId}, instance ${holder.instanceId}.`,
  )
}
