/**
 * Secrets of a connection that is being asked who it is by the worker of its host: they are there for that worker alone, by
 * an id that it is told, until it has answered. The connection may not be there yet.
 */
import { randomBytes } from 'node:crypto'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import type { Catalog } from './open.ts'
import { putSecrets, readSecrets, removeSecrets } from './secret-rows.ts'

const prefix = 'probe/'
const ownerOf = (host: string, id: string): string => `${prefix}${host}/${id}`
/** There also where the connection has no secret. */
const offeredAt = 'offered-at'
/** Longer than any question takes. */
const forgottenMs = 600_000

export async function offerProbe(
  catalog: Catalog,
  host: string,
  secrets: Record<string, string>,
): Promise<string> {
  await removeForgotten(catalog)
  const id = readable(randomBytes(16))
  await putSecrets(catalog.db, catalog.box, ownerOf(host, id), {
    ...secrets,
    [offeredAt]: new Date().toISOString(),
  })
  return id
}

/** Throws `request.forbidden` for a question that was not asked of this host, or is answered. */
export async function probeSecrets(
  catalog: Catalog,
  host: string,
  id: string,
): Promise<Record<string, string>> {
  const { [offeredAt]: offered, ...secrets } = await readSecrets(catalog.db, catalog.box, ownerOf(host, id))
  if (offered === undefined) {
    throw new HoldfastError('request.forbidden', `Host ${host} is not asked this question.`)
  }
  return secrets
}

export const forgetProbe = (catalog: Catalog, host: string, id: string): Promise<void> =>
  removeSecrets(catalog.db, ownerOf(host, id))

/** Of processes that died while they waited for the answer. */
async function removeForgotten(catalog: Catalog): Promise<void> {
  const rows = await catalog.db
    .selectFrom('secrets')
    .selectAll()
    .where('owner', 'like', `${prefix}%`)
    .where('field', '=', offeredAt)
    .execute()
  for (const row of rows) {
    const at = Date.parse(catalog.box.unseal(row.owner, row.field, row))
    if (Date.now() - at > forgottenMs) await removeSecrets(catalog.db, row.owner)
  }
}
