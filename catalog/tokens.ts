/**
 * Bearer tokens: one for people and programs, one for workers. The catalog holds their SHA-256 only; the token itself is
 * in a file, 0600, made at the first start. Removing the file and starting again makes a new token.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Catalog } from './open.ts'

export type TokenKind = 'api' | 'worker'

const digest = (token: string) => createHash('sha256').update(token, 'utf8').digest()

/** Makes sure that the token in the file is the valid one; `made` says that it is new. */
export async function ensureToken(
  catalog: Catalog,
  kind: TokenKind,
  path: string,
): Promise<{ made: boolean }> {
  let token = await readToken(path)
  const made = token === undefined
  if (token === undefined) {
    token = `hf_${kind}_${randomBytes(32).toString('base64url')}`
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const beside = `${path}.${randomBytes(6).toString('hex')}`
    await writeFile(beside, `${token}\n`, { mode: 0o600, flag: 'wx', flush: true })
    await rename(beside, path)
  }
  const row = { sha256: digest(token).toString('hex'), created_at: new Date().toISOString() }
  await catalog.db
    .insertInto('tokens')
    .values({ kind, ...row })
    .onConflict(conflict => conflict.column('kind').doUpdateSet(row))
    .execute()
  return { made }
}

async function readToken(path: string): Promise<string | undefined> {
  try {
    const token = (await readFile(path, 'utf8')).trim()
    return token.length >= 16 ? token : undefined
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

export async function tokenIsValid(catalog: Catalog, kind: TokenKind, token: string): Promise<boolean> {
  const row = await catalog.db
    .selectFrom('tokens')
    .select('sha256')
    .where('kind', '=', kind)
    .executeTakeFirst()
  // Digests of equal length, compared in constant time.
  return row !== undefined && timingSafeEqual(digest(token), Buffer.from(row.sha256, 'hex'))
}
