/**
 * Who may write below a prefix: `installation.json` says who came first, `epoch-<n>.json` who holds it now. Epochs count up
 * without gaps and are put only if absent: the newest is the holder.
 */
import { HoldfastError } from '../model/errors.ts'
import { canonical, type EpochDocument, epochSchema, type InstallationDocument } from '../model/manifest.ts'
import type { WriterIdentity } from '../model/records.ts'
import type { Destination } from './destination.ts'
import { putOnce } from './settle.ts'

/**
 * The epoch that this writer holds; claims the prefix when nobody does. Throws `destination.read-only` naming the holder
 * when it is not we. Usually two small reads, so it is asked at each writing step. `rememberedEpoch`: what the catalog remembers, null at first.
 */
export async function claimOrCheck(
  destination: Destination,
  writer: WriterIdentity,
  rememberedEpoch: number | null,
): Promise<number> {
  const newest = await newestEpoch(destination, rememberedEpoch ?? 1)
  if (newest === undefined) {
    const document: InstallationDocument = {
      format: 'holdfast-installation/1',
      installationId: writer.installationId,
      publicKey: writer.publicKey,
      createdAt: new Date().toISOString(),
    }
    await putOnce(destination, 'installation.json', bytesOf(document))
    return await putEpoch(destination, writer, 1, 'first use')
  }
  return heldBy(writer, newest, destination)
}

/**
 * Makes this writer the holder, whoever was: returns its epoch. Of two that race the loser gets `destination.read-only`.
 * The other Holdfast can write no more from its next step on.
 */
export async function takeover(
  destination: Destination,
  writer: WriterIdentity,
  reason: string,
): Promise<number> {
  const newest = await newestEpoch(destination, 1)
  if (newest === undefined) return await claimOrCheck(destination, writer, null)
  if (newest.instanceId === writer.instanceId) return newest.epoch
  return await putEpoch(destination, writer, newest.epoch + 1, reason)
}

/** The document of the newest epoch, whoever holds it; undefined when nobody has written here. */
export const currentEpoch = (destination: Destination): Promise<EpochDocument | undefined> =>
  newestEpoch(destination, 1)

async function putEpoch(
  destination: Destination,
  { installationId, instanceId, publicKey }: WriterIdentity,
  epoch: number,
  reason: string,
): Promise<number> {
  const document: EpochDocument = {
    format: 'holdfast-epoch/1',
    epoch,
    installationId,
    instanceId,
    publicKey,
    at: new Date().toISOString(),
    reason,
  }
  const { body } = await putOnce(destination, epochKey(epoch), bytesOf(document))
  return heldBy({ instanceId }, parseEpoch(body, epoch, destination), destination)
}

function heldBy(
  writer: Pick<WriterIdentity, 'instanceId'>,
  holder: EpochDocument,
  destination: Destination,
): number {
  if (holder.instanceId === writer.instanceId) return holder.epoch
  throw new HoldfastError(
    'destination.read-only',
    `Writing to ${destination.uri}: epoch ${holder.epoch} is held by installation ${holder.installationId}, instance ${holder.instanceId}, since ${holder.at}.`,
    {
      context: { epoch: holder.epoch, installationId: holder.installationId, instanceId: holder.instanceId },
    },
  )
}

/** Looks forward from an epoch that is known to have been there. */
async function newestEpoch(destination: Destination, from: number): Promise<EpochDocument | undefined> {
  let newest: EpochDocument | undefined
  for (let epoch = from; ; epoch += 1) {
    const body = await destination.read(epochKey(epoch))
    if (body === undefined) break
    newest = parseEpoch(body, epoch, destination)
  }
  // The prefix was emptied, or the destination points elsewhere now: it is looked at as if for the first time.
  if (newest === undefined && from > 1) return await newestEpoch(destination, 1)
  return newest
}

function parseEpoch(body: Uint8Array, epoch: number, destination: Destination): EpochDocument {
  try {
    const document = epochSchema.parse(JSON.parse(Buffer.from(body).toString('utf8')))
    if (document.epoch === epoch) return document
  } catch {
    // Said below: who holds the prefix cannot be told from it.
  }
  throw new HoldfastError(
    'destination.read-only',
    `Writing to ${destination.uri}: ${epochKey(epoch)} cannot be read, so nobody knows who holds the prefix.`,
    { hint: 'Look at the object; it may be of a newer version of Holdfast.' },
  )
}

const epochKey = (epoch: number): string => `epoch-${epoch}.json`
const bytesOf = (document: object): Uint8Array => Buffer.from(canonical(document))
