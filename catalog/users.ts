import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { Role } from '../model/types.ts'
import type { Catalog } from './open.ts'
import { hashPassword, verifyPassword } from './passwords.ts'
import type { CatalogTables } from './schema.ts'

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
  const row = await catalog.db.selectFrom('users').selectAll().where('name', '=', name).executeTakeFirst()
  return row && toUser(row)
}

/** Whether this is the password of a user who may log in. It takes as long when there is no such user. */
export async function checkPassword(catalog: Catalog, name: string, password: string): Promise<boolean> {
  const row = await catalog.db
    .selectFrom('users')
    .select(['password', 'disabled'])
    .where('name', '=', name)
    .executeTakeFirst()
  return (await verifyPassword(password, row?.password ?? null)) && row?.disabled === 0
}

const toUser = (row: Selectable<CatalogTables['users']>): UserRecord => ({
  name: row.name,
  role: row.role as Role,
  disabled: row.disabled === 1,
  hasPassword: row.password !== null,
  requestKey: row.request_key,
  createdAt: row.created_at,
})
