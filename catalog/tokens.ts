/**
 * Bearer tokens. The catalog holds their SHA-256 only. Two of them are in files, 0600, made at the first start: the one that
 * may do everything (`home`), and the one of workers. Removing the file and starting again makes a new token.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import type { Actor } from '../model/records.ts'
import { type Role, roleIncludes } from '../model/types.ts'
import type { CatalogDatabase } from './dialect.ts'
import { hostOfTokenName } from './host-tokens.ts'
import type { Catalog } from './open.ts'
import type { CatalogTables } from './schema.ts'

export type TokenKind = 'api' | 'worker'

const fileTokens = { api: { name: 'home', role: 'admin' }, worker: { name: 'worker', role: null } } as const

const digest = (token: string) => createHash('sha256').update(token, 'utf8').digest('hex')
const newToken = (kind: TokenKind) => `hf_${kind}_${randomBytes(32).toString('base64url')}`
const newTokenId = () => `tok-${readable(randomBytes(12))}`

export interface TokenRecord {
  id: string
  name: string
  user: string | null
  role: Role
  /** null: everything the role may. */
  scopes: string[] | null
  /** null: all of them. */
  connections: string[] | null
  expiresAt: string | null
  createdAt: string
  lastUsedAt: string | null
}

export type TokenInput = Pick<TokenRecord, 'name' | 'user' | 'role' | 'scopes' | 'connections' | 'expiresAt'>

/** The token itself is in this answer and nowhere else. Throws `request.exists` when the name is taken. */
export async function createToken(
  catalog: Catalog,
  input: TokenInput,
): Promise<{ record: TokenRecord; token: string }> {
  const token = newToken('api')
  const row = {
    id: newTokenId(),
    kind: 'api',
    name: input.name,
    sha256: digest(token),
    user_name: input.user,
    role: input.role,
    scopes: input.scopes === null ? null : JSON.stringify(input.scopes),
    connections: input.connections === null ? null : JSON.stringify(input.connections),
    expires_at: input.expiresAt,
    created_at: new Date().toISOString(),
    last_used_at: null,
  }
  const made = await catalog.db
    .insertInto('tokens')
    .values(row)
    .onConflict(conflict => conflict.column('name').doNothing())
    .executeTakeFirst()
  if (made.numInsertedOrUpdatedRows === 0n) {
    throw new HoldfastError('request.exists', `There is a token named ${input.name} already.`)
  }
  return { record: toToken(row), token }
}

/** By id. `user`: only theirs. */
export async function listTokens(
  catalog: Catalog,
  filter: { user?: string },
  after: string,
  limit: number,
): Promise<TokenRecord[]> {
  let query = catalog.db.selectFrom('tokens').selectAll().where('kind', '=', 'api').where('id', '>', after)
  if (filter.user !== undefined) query = query.where('user_name', '=', filter.user)
  const rows = await query.orderBy('id').limit(limit).execute()
  return rows.map(toToken)
}

/** Throws `request.not-found`; `request.in-use` for the one of the file. `user`: only if it is theirs. */
export async function removeToken(catalog: Catalog, id: string, user: string | undefined): Promise<void> {
  await catalog.transaction(async tx => {
    const row = await tx
      .selectFrom('tokens')
      .select(['name', 'user_name'])
      .where('id', '=', id)
      .where('kind', '=', 'api')
      .executeTakeFirst()
    if (!row || (user !== undefined && row.user_name !== user)) {
      throw new HoldfastError('request.not-found', `There is no token ${id}.`)
    }
    if (row.name === fileTokens.api.name) {
      throw new HoldfastError('request.in-use', 'This is the token of the file in the home.', {
        hint: 'Stop the API, remove the file api.token and start again: a new one is made.',
      })
    }
    await tx.deleteFrom('tokens').where('id', '=', id).execute()
  })
}

const toToken = (row: Selectable<CatalogTables['tokens']>): TokenRecord => ({
  id: row.id,
  name: row.name,
  user: row.user_name,
  role: row.role as Role,
  scopes: row.scopes === null ? null : JSON.parse(row.scopes),
  connections: row.connections === null ? null : JSON.parse(row.connections),
  expiresAt: row.expires_at,
  createdAt: row.created_at,
  lastUsedAt: row.last_used_at,
})

/**
 * Makes sure that the token in the file is the valid one; `made` says that it is new. None is made while another API
 * process lives, which has one: it would be the only valid one.
 */
export async function ensureToken(
  catalog: Catalog,
  kind: TokenKind,
  path: string,
): Promise<{ made: boolean }> {
  const { name, role } = fileTokens[kind]
  const others = !(await catalog.presence.alone())
  let token = await readToken(path)
  const made = token === undefined
  if (token === undefined) {
    if (others && (await hasToken(catalog, name))) return { made: false }
    token = newToken(kind)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const beside = `${path}.${randomBytes(6).toString('hex')}`
    await writeFile(beside, `${token}\n`, { mode: 0o600, flag: 'wx', flush: true })
    await rename(beside, path)
  }
  const row = { sha256: digest(token), created_at: new Date().toISOString() }
  const valid = await catalog.transaction(async tx => {
    const known = await tx.selectFrom('tokens').select('sha256').where('name', '=', name).executeTakeFirst()
    if (known?.sha256 === row.sha256) return true
    // Another process was quicker.
    if (known && made && others) return false
    await tx.deleteFrom('tokens').where('name', '=', name).execute()
    await insertFileToken(tx, { id: newTokenId(), kind, name, role, ...row })
    return true
  })
  if (!valid) await rm(path)
  return { made: made && valid }
}

const hasToken = async (catalog: Catalog, name: string): Promise<boolean> =>
  (await catalog.db.selectFrom('tokens').select('id').where('name', '=', name).executeTakeFirst()) !==
  undefined

const insertFileToken = (
  db: CatalogDatabase,
  row: { id: string; kind: string; name: string; role: string | null; sha256: string; created_at: string },
) =>
  db
    .insertInto('tokens')
    .values({
      ...row,
      user_name: null,
      scopes: null,
      connections: null,
      expires_at: null,
      last_used_at: null,
    })
    .execute()

async function readToken(path: string): Promise<string | undefined> {
  try {
    const token = (await readFile(path, 'utf8')).trim()
    return token.length >= 16 ? token : undefined
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

/** Whose steps may be carried out with this token: of every host, or of one. undefined: none. */
export async function workerOfToken(
  catalog: Catalog,
  token: string,
): Promise<{ host: string | null } | undefined> {
  const row = await rowOf(catalog, token)
  if (row?.kind === 'worker') return { host: null }
  if (row?.kind !== 'host') return undefined
  await noteUse(catalog, row.id, row.last_used_at)
  return { host: hostOfTokenName(row.name) }
}

/** Who comes with this token; undefined when it is unknown, expired, revoked, or its owner is disabled. */
export async function actorOfToken(
  catalog: Catalog,
  token: string,
  address: string,
): Promise<Actor | undefined> {
  const row = await rowOf(catalog, token)
  if (row?.kind !== 'api' || row.role === null) return undefined
  if (row.expires_at !== null && Date.parse(row.expires_at) <= Date.now()) return undefined
  if (row.user_name !== null && row.disabled !== 0) return undefined
  await noteUse(catalog, row.id, row.last_used_at)
  const role = row.role as Role
  const ownersRole = row.owner_role as Role | null
  return {
    name: row.user_name ?? `token:${row.name}`,
    user: row.user_name,
    via: 'token',
    credentialId: row.id,
    role: ownersRole !== null && roleIncludes(role, ownersRole) ? ownersRole : role,
    scopes: row.scopes === null ? null : JSON.parse(row.scopes),
    connections: row.connections === null ? null : JSON.parse(row.connections),
    expiresAt: row.expires_at,
    address,
  }
}

/** Whether a token that was good when it came is so still. */
export async function tokenStands(catalog: Catalog, id: string): Promise<boolean> {
  const row = await catalog.db
    .selectFrom('tokens')
    .leftJoin('users', 'users.name', 'tokens.user_name')
    .select(['tokens.expires_at', 'tokens.user_name', 'users.disabled'])
    .where('tokens.id', '=', id)
    .executeTakeFirst()
  if (!row || (row.user_name !== null && row.disabled !== 0)) return false
  return row.expires_at === null || Date.parse(row.expires_at) > Date.now()
}

/** That it was used is noted this often: not each request costs a write. */
const noteEveryMs = 60_000

async function noteUse(catalog: Catalog, id: string, lastUsedAt: string | null): Promise<void> {
  const now = Date.now()
  if (lastUsedAt !== null && now - Date.parse(lastUsedAt) < noteEveryMs) return
  await catalog.db
    .updateTable('tokens')
    .set({ last_used_at: new Date(now).toISOString() })
    .where('id', '=', id)
    .execute()
}

/** Found by its digest: how long that takes tells nothing of a token that is not known. */
const rowOf = (catalog: Catalog, token: string) =>
  catalog.db
    .selectFrom('tokens')
    .leftJoin('users', 'users.name', 'tokens.user_name')
    .select([
      'tokens.id',
      'tokens.kind',
      'tokens.name',
      'tokens.user_name',
      'tokens.role',
      'tokens.scopes',
      'tokens.connections',
      'tokens.expires_at',
      'tokens.last_used_at',
      'users.role as owner_role',
      'users.disabled',
    ])
    .where('tokens.sha256', '=', digest(token))
    .executeTakeFirst()
