/** The epoch we hold at each destination, as we remember it; the destination says which one counts. */
import { HoldfastError } from '../model/errors.ts'
import type { Catalog } from './open.ts'

export async function rememberedEpoch(catalog: Catalog, destination: string): Promise<number | null> {
  const row = await catalog.db
    .selectFrom('epochs')
    .select('epoch')
    .where('destination', '=', destination)
    .executeTakeFirst()
  return row?.epoch ?? null
}

/** Never goes back: a late answer of an older step must not undo a takeover. */
export async function rememberEpoch(catalog: Catalog, destination: string, epoch: number): Promise<void> {
  await catalog.transaction(async tx => {
    const known = await tx
      .selectFrom('destinations')
      .select('name')
      .where('name', '=', destination)
      .executeTakeFirst()
    if (!known) throw new HoldfastError('request.not-found', `There is no destination named ${destination}.`)
    await tx
      .insertInto('epochs')
      .values({ destination, epoch })
      .onConflict(conflict =>
        conflict.column('destination').doUpdateSet({ epoch }).where('epochs.epoch', '<', epoch),
      )
      .execute()
    await tx.updateTable('destinations').set({ read_only: 0 }).where('name', '=', destination).execute()
  })
}
