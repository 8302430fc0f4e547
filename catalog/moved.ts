/**
 * A catalog that was moved stays where it was, with a mark: nobody starts on it by mistake. The mark is set before the
 * first row is copied, so that a move that was killed leaves two catalogs of which one is refused, never two that are used.
 */
import { HoldfastError } from '../model/errors.ts'
import type { CatalogDatabase } from './dialect.ts'

export interface Away {
  id: string
  /** Where to, without a password. */
  place: string
  state: 'begun' | 'done'
  at: string
}

export async function findAway(db: CatalogDatabase): Promise<Away | undefined> {
  const row = await db
    .selectFrom('moves')
    .select(['id', 'place', 'state', 'at'])
    .where('way', '=', 'away')
    .executeTakeFirst()
  return row && { ...row, state: row.state === 'done' ? 'done' : 'begun' }
}

/** Throws `catalog.moved`. */
export async function expectHere(db: CatalogDatabase): Promise<void> {
  const away = await findAway(db)
  if (away) throw movedTo(away)
}

export function movedTo({ place, state, at }: Away): HoldfastError {
  return state === 'done'
    ? new HoldfastError('catalog.moved', `This catalog was moved to ${place} at ${at}.`)
    : new HoldfastError(
        'catalog.moved',
        `A move of this catalog to ${place} was begun at ${at} and has not come to its end.`,
        {
          hint: 'Finish it by the same `holdfast catalog move` once more. To stay here instead: `holdfast catalog move --undo`.',
        },
      )
}

export const markAway = async (db: CatalogDatabase, away: Away): Promise<void> => {
  await db
    .insertInto('moves')
    .values({ ...away, way: 'away' })
    .execute()
}

export const finishAway = async (db: CatalogDatabase, id: string): Promise<void> => {
  await db
    .updateTable('moves')
    .set({ state: 'done' })
    .where('id', '=', id)
    .where('way', '=', 'away')
    .execute()
}

export const forgetAway = async (db: CatalogDatabase): Promise<void> => {
  await db.deleteFrom('moves').where('way', '=', 'away').execute()
}

/** In the new catalog: this move has come here, whole. */
export const noteArrived = async (
  db: CatalogDatabase,
  arrived: { id: string; place: string; at: string },
): Promise<void> => {
  await db
    .insertInto('moves')
    .values({ ...arrived, way: 'here', state: 'done' })
    .execute()
}

export const hasArrived = async (db: CatalogDatabase, id: string): Promise<boolean> =>
  (await db
    .selectFrom('moves')
    .select('id')
    .where('id', '=', id)
    .where('way', '=', 'here')
    .executeTakeFirst()) !== undefined
