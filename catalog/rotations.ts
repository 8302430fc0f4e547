/** What a rotation of keys asks of the catalog while it goes over the backups. */
import { HoldfastError } from '../model/errors.ts'
import type { KeyRef, RotateInput } from '../model/records.ts'
import { keyFilesOf, trustInstallation } from '../storage/keys.ts'
import { listDestinations } from './destinations.ts'
import { replaceKey } from './key-states.ts'
import { keyring } from './keys.ts'
import type { Catalog } from './open.ts'
import { listOpeners } from './openers.ts'
import { isClosed, openOperations, partOf, readOperation } from './operations.ts'

/**
 * From now on new backups are encrypted for the new key, and whom the old one trusts the new one trusts, too. Returns the
 * names of the destinations to go over.
 */
export async function beginRotation(
  catalog: Catalog,
  keysDirectory: string,
  operationId: string,
): Promise<{ destinations: string[]; trustsMore: boolean }> {
  const { from, to } = await rotationOf(catalog, operationId)
  const files = keyFilesOf(await keyring(catalog, keysDirectory))
  const [old, next] = [from, to].map(({ kid }) => files.find(key => key.kid === kid))
  const more = Object.entries(old?.installations ?? {}).filter(
    ([id]) => next && !Object.hasOwn(next.installations, id),
  )
  for (const [id, publicKey] of more) await trustInstallation(keysDirectory, next?.name ?? '', id, publicKey)
  await catalog.transaction(tx => replaceKey(tx, from, to))
  const destinations = (await listDestinations(catalog)).map(({ name }) => name)
  return { destinations, trustsMore: more.length > 0 }
}

/** Throws `operation.conflict` when it is none, or closed: a zombie changes nothing any more. */
export async function rotationOf(catalog: Catalog, operationId: string): Promise<RotateInput> {
  const { input, state } = await readOperation(catalog, operationId)
  if ('from' in input && !isClosed(state)) return input
  throw new HoldfastError('operation.conflict', `Operation ${operationId} is no rotation that is under way.`)
}

/** What the old key opens and the new one does not, as far as the catalog knows; and what will. */
export async function leftByRotation(
  catalog: Catalog,
  operationId: string,
): Promise<{ destination: string; backup: string }[]> {
  const { from, to } = await rotationOf(catalog, operationId)
  const backups = (await listOpeners(catalog.db))
    .filter(({ kids }) => kids.includes(from.kid) && !kids.includes(to.kid))
    .map(({ destination, connection, backupId }) => ({ destination, backup: `${connection}/${backupId}` }))
  const underWay = (await operationsFor(catalog, from)).map(({ id, destination }) => ({
    destination: destination ?? '',
    backup: `operation ${id}, which is under way`,
  }))
  return [...backups, ...underWay]
}

/** Open operations that encrypt for the key. */
export const operationsFor = async (catalog: Catalog, { name }: Pick<KeyRef, 'name'>) =>
  (await openOperations(catalog)).filter(operation => {
    const backup = partOf(operation) ?? operation.input
    return 'recipients' in backup && backup.recipients.includes(name)
  })
