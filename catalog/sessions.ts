/**
 * Sessions of people: a secret in a cookie, its SHA-256 here. A session ends when it was not used for a while, when it is old,
 * when it is ended, and when its user's password is changed or the user disabled.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import type { Actor } from '../model/records.ts'
import type { Role } from '../model/types.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

export const sessionIdleSeconds = 30 * 60
export const sessionSeconds = 12 * 3600
/** That it was used is noted this often: not each request costs a write. */
const noteEveryMs = 60_000

export interface SessionRecord {
  id: string
  user: string
  address: string
  /** What the browser calls itself. */
  agent: string
  createdAt: string
  seenAt: string
  expiresAt: string
}

const digest = (secret: string) => createHash('sha256').update(secret, 'utf8').digest('hex')

export async function createSession(
  catalog: Catalog,
  from: Pick<SessionRecord, 'user' | 'address' | 'agent'>,
): Promise<{ session: SessionRecord; secret: string }> {
  const secret = `hf_session_${randomBytes(32).toString('base64url')}`
  const now = Date.now()
  const row = {
    id: `ses-${readable(randomBytes(12))}`,
    sha256: digest(secret),
    user_name: from.user,
    address: from.address,
    agent: from.agent,
    created_at: new Date(now).toISOString(),
    seen_at: new Date(now).toISOString(),
    expires_at: new Date(now + sessionSeconds * 1000).toISOString(),
  }
  await catalog.db.insertInto('sessions').values(row).execute()
  return { session: toSession(row), secret }
}

/** What requests that change something must carry besides the cookie, which a browser sends by itself. */
export const csrfTokenOf = (secret: string): string =>
  createHmac('sha256', secret).update('holdfast csrf v1').digest('base64url')

export function csrfTokenIsRight(secret: string, given: string): boolean {
  const [right, got] = [csrfTokenOf(secret), given].map(text => createHash('sha256').update(text).digest())
  return right !== undefined && got !== undefined && timingSafeEqual(right, got)
}

/** undefined when the session is unknown or over, or its user is disabled. */
export async function actorOfSession(
  catalog: Catalog,
  secret: string,
  address: string,
): Promise<Actor | undefined> {
  const row = await catalog.db
    .selectFrom('sessions')
    .innerJoin('users', 'users.name', 'sessions.user_name')
    .select(['sessions.id', 'user_name', 'seen_at', 'expires_at', 'role', 'disabled'])
    .where('sha256', '=', digest(secret))
    .executeTakeFirst()
  const now = Date.now()
  if (row?.disabled !== 0 || isOver(row, now)) return undefined
  if (now - Date.parse(row.seen_at) > noteEveryMs) {
    await catalog.db
      .updateTable('sessions')
      .set({ seen_at: new Date(now).toISOString() })
      .where('id', '=', row.id)
      .execute()
  }
  return {
    name: row.user_name,
    user: row.user_name,
    via: 'session',
    credentialId: row.id,
    role: row.role as Role,
    scopes: null,
    connections: null,
    expiresAt: row.expires_at,
    address,
  }
}

/** Whether a session that was good when it came is so still. Asking does not count as using it. */
export async function sessionStands(catalog: Catalog, id: string): Promise<boolean> {
  const row = await catalog.db
    .selectFrom('sessions')
    .innerJoin('users', 'users.name', 'sessions.user_name')
    .select(['seen_at', 'expires_at', 'disabled'])
    .where('id', '=', id)
    .executeTakeFirst()
  return row?.disabled === 0 && !isOver(row, Date.now())
}

const isOver = ({ seen_at, expires_at }: { seen_at: string; expires_at: string }, now: number): boolean =>
  Date.parse(expires_at) <= now || Date.parse(seen_at) + sessionIdleSeconds * 1000 <= now

/** Those that are not over, newest first. */
export async function listSessions(catalog: Catalog, user: string | undefined): Promise<SessionRecord[]> {
  let query = catalog.db.selectFrom('sessions').selectAll()
  if (user !== undefined) query = query.where('user_name', '=', user)
  const rows = await query.orderBy('created_at', 'desc').orderBy('id', 'desc').execute()
  return rows.filter(row => !isOver(row, Date.now())).map(toSession)
}

/** Throws `request.not-found`. `user`: only if it is theirs. */
export async function endSession(catalog: Catalog, id: string, user: string | undefined): Promise<void> {
  let query = catalog.db.deleteFrom('sessions').where('id', '=', id)
  if (user !== undefined) query = query.where('user_name', '=', user)
  const gone = await query.executeTakeFirst()
  if (gone.numDeletedRows === 0n) throw new HoldfastError('request.not-found', `There is no session ${id}.`)
}

export async function endSessionsOf(tx: CatalogDatabase, user: string, except?: string): Promise<void> {
  await tx
    .deleteFrom('sessions')
    .where('user_name', '=', user)
    .where('id', '!=', except ?? '')
    .execute()
}

export async function forgetSessions(catalog: Catalog): Promise<void> {
  const now = Date.now()
  await catalog.db
    .deleteFrom('sessions')
    .where(({ or, eb }) =>
      or([
        eb('expires_at', '<=', new Date(now).toISOString()),
        eb('seen_at', '<=', new Date(now - sessionIdleSeconds * 1000).toISOString()),
      ]),
    )
    .execute()
}

const toSession = (row: Selectable<CatalogTables['sessions']>): SessionRecord => ({
  id: row.id,
  user: row.user_name,
  address: row.address,
  agent: row.agent,
  createdAt: row.created_at,
  seenAt: row.seen_at,
  expiresAt: row.expires_at,
})
