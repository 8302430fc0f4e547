/** What became of keys: another one took a key's place, or it was put away. Told by their ids, as names may be used again. */
import type { KeyRef } from '../model/records.ts'
import type { CatalogDatabase } from './dialect.ts'

export interface KeyState extends KeyRef {
  successor: string | null
  retiredAt: string | null
}

/** By key id. */
export async function keyStates(db: CatalogDatabase): Promise<Map<string, KeyState>> {
  const rows = await db.selectFrom('key_states').selectAll().execute()
  return new Map(
    rows.map(({ kid, name, successor_kid: successor, retired_at: retiredAt }) => [
      kid,
      { kid, name, successor, retiredAt },
    ]),
  )
}

/** The key that stands for this one now: itself, or the last of those that took its place. */
export function currentKid(states: ReadonlyMap<string, KeyState>, kid: string): string {
  for (let current = kid; ; ) {
    const successor = states.get(current)?.successor
    if (successor === undefined || successor === null) return current
    current = successor
  }
}

/** From now on `to` stands for `from`. Whoever stood for `to` does so no more: keys may be changed back. */
export async function replaceKey(db: CatalogDatabase, from: KeyRef, to: KeyRef): Promise<void> {
  const none = { successor_kid: null, replaced_at: null }
  await db.updateTable('key_states').set(none).where('kid', '=', to.kid).execute()
  const replaced = { successor_kid: to.kid, replaced_at: new Date().toISOString() }
  await db
    .insertInto('key_states')
    .values({ ...from, ...replaced, retired_at: null })
    .onConflict(conflict => conflict.column('kid').doUpdateSet(replaced))
    .execute()
}

/** `at` null: it is back. */
export async function markRetired(db: CatalogDatabase, key: KeyRef, at: string | null): Promise<void> {
  await db
    .insertInto('key_states')
    .values({ ...key, successor_kid: null, replaced_at: null, retired_at: at })
    .onConflict(conflict => conflict.column('kid').doUpdateSet({ retired_at: at, name: key.name }))
    .execute()
}

export async function retiredKids(db: CatalogDatabase): Promise<Set<string>> {
  const rows = await db.selectFrom('key_states').select('kid').where('retired_at', 'is not', null).execute()
  return new Set(rows.map(row => row.kid))
}
