import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { Role } from '../model/types.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import { countTry } from './password-limits.ts'
import { hashPassword, verifyPassword } from './passwords.ts'
import type { CatalogTables } from './schema.ts'
import { endSessionsOf } from './sessions.ts'

export interface UserRecord {
  name: string
  role: Role
  disabled: boolean
  /** Without one there is no login; tokens work. */
  hasPassword: boolean
  requestKey: string | null
  createdAt: string
}

/** Throws `request.exists` when the name is taken: also that of a user who was disabled. */
export async function insertUser(
  catalog: Catalog,
  user: Pick<UserRecord, 'name' | 'role' | 'requestKey'>,
  password: string | null,
): Promise<UserRecord> {
  const row = {
    name: user.name,
    role: user.role,
    password: password === null ? null : await hashPassword(password),
    disabled: 0,
    request_key: user.requestKey,
    created_at: new Date().toISOString(),
  }
  const made = await catalog.db
    .insertInto('users')
    .values(row)
    .onConflict(conflict => conflict.column('name').doNothing())
    .executeTakeFirst()
  if (made.numInsertedOrUpdatedRows === 0n) {
    throw new HoldfastError('request.exists', `There is a user named ${user.name} already.`)
  }
  return toUser(row)
}

export async function findUser(catalog: Catalog, name: string): Promise<UserRecord | undefined> {
  const row = await findRow(catalog.db, name)
  return row && toUser(row)
}

/** Throws `request.not-found`. */
export async function readUser(catalog: Catalog, name: string): Promise<UserRecord> {
  return toUser(await readRow(catalog.db, name))
}

export async function listUsers(catalog: Catalog, after: string, limit: number): Promise<UserRecord[]> {
  const rows = await catalog.db
    .selectFrom('users')
    .selectAll()
    .where('name', '>', after)
    .orderBy('name')
    .limit(limit)
    .execute()
  return rows.map(toUser)
}

/**
 * Changes role and whether the user is let in; sessions of a disabled user end. `check` sees the user as they are and may throw.
 * Throws `request.not-found`; `user.last-admin` when nobody would be left who may change users.
 */
export async function changeUser(
  catalog: Catalog,
  name: string,
  change: { role?: Role | undefined; disabled?: boolean | undefined },
  check: (user: UserRecord) => void,
): Promise<UserRecord> {
  return await catalog.transaction(async tx => {
    const row = await readRow(tx, name)
    check(toUser(row))
    const changed = {
      role: change.role ?? row.role,
      disabled: (change.disabled ?? row.disabled === 1) ? 1 : 0,
    }
    const stays = changed.role === 'admin' && changed.disabled === 0
    if (!stays && row.role === 'admin' && row.disabled === 0) await assertAnotherAdmin(tx, name)
    await tx.updateTable('users').set(changed).where('name', '=', name).execute()
    if (changed.disabled === 1) await endSessionsOf(tx, name)
    return toUser({ ...row, ...changed })
  })
}

async function assertAnotherAdmin(tx: CatalogDatabase, name: string): Promise<void> {
  const other = await tx
    .selectFrom('users')
    .select('name')
    .where('role', '=', 'admin')
    .where('disabled', '=', 0)
    .where('name', '!=', name)
    .executeTakeFirst()
  if (other) return
  throw new HoldfastError('user.last-admin', `${name} is the only user with the role admin who can come in.`)
}

/** Ends the sessions of the user, but for the one that is named. Throws `request.not-found`. */
export async function setPassword(
  catalog: Catalog,
  name: string,
  password: string,
  exceptSession?: string,
): Promise<void> {
  const hash = await hashPassword(password)
  await catalog.transaction(async tx => {
    await readRow(tx, name)
    await tx.updateTable('users').set({ password: hash }).where('name', '=', name).execute()
    await endSessionsOf(tx, name, exceptSession)
  })
}

/**
 * Whether this is the password of a user who may log in; it takes as long when there is no such user. Tries are counted, by
 * user and by `address` where the request came from: throws `request.rate-limited` when there were too many.
 */
export async function checkPassword(
  catalog: Catalog,
  name: string,
  password: string,
  address: string,
): Promise<boolean> {
  const counted = await countTry(catalog, name, address)
  const row = await findRow(catalog.db, name)
  const right = (await verifyPassword(password, row?.password ?? null)) && row?.disabled === 0
  if (right) await counted.succeeded()
  return right
}

const findRow = (db: CatalogDatabase, name: string) =>
  db.selectFrom('users').selectAll().where('name', '=', name).executeTakeFirst()

async function readRow(db: CatalogDatabase, name: string) {
  const row = await findRow(db, name)
  if (!row) throw new HoldfastError('request.not-found', `There is no user named ${name}.`)
  return row
}

const toUser = (row: Selectable<CatalogTables['users']>): UserRecord => ({
  name: row.name,
  role: row.role as Role,
  disabled: row.disabled === 1,
  hasPassword: row.password !== null,
  requestKey: row.request_key,
  createdAt: row.created_at,
})
