/**
 * Tokens of workers that live on one host and act on no other. Each host has one at a time: a new one takes the place of the
 * old, which counts no more from then on. What it opens: api/host-guard.ts.
 */
import { createHash, randomBytes } from 'node:crypto'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'

export interface HostToken {
  createdAt: string
  lastUsedAt: string | null
}

/** No token of a person is called so: a slash is in no name. */
const prefix = 'host/'
const nameOf = (host: string): string => `${prefix}${host}`
export const hostOfTokenName = (name: string): string => name.slice(prefix.length)

/** The token itself is in this answer and nowhere else. The host must be there. */
export async function createHostToken(
  catalog: Catalog,
  host: string,
): Promise<{ token: string; createdAt: string }> {
  const token = `hf_host_${randomBytes(32).toString('base64url')}`
  const createdAt = new Date().toISOString()
  await catalog.transaction(async tx => {
    const known = await tx.selectFrom('hosts').select('name').where('name', '=', host).executeTakeFirst()
    if (!known) throw new HoldfastError('request.not-found', `There is no host named ${host}.`)
    await revokeHostToken(tx, host)
    await tx
      .insertInto('tokens')
      .values({
        id: `tok-${readable(randomBytes(12))}`,
        kind: 'host',
        name: nameOf(host),
        sha256: createHash('sha256').update(token, 'utf8').digest('hex'),
        user_name: null,
        role: null,
        scopes: null,
        connections: null,
        expires_at: null,
        created_at: createdAt,
        last_used_at: null,
      })
      .execute()
  })
  return { token, createdAt }
}

/** From now on it counts no more. None being there is fine. */
export async function revokeHostToken(db: CatalogDatabase, host: string): Promise<void> {
  await db.deleteFrom('tokens').where('kind', '=', 'host').where('name', '=', nameOf(host)).execute()
}

export async function hostToken(catalog: Catalog, host: string): Promise<HostToken | null> {
  const row = await catalog.db
    .selectFrom('tokens')
    .select(['created_at', 'last_used_at'])
    .where('kind', '=', 'host')
    .where('name', '=', nameOf(host))
    .executeTakeFirst()
  return row ? { createdAt: row.created_at, lastUsedAt: row.last_used_at } : null
}
