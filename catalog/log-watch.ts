/** What was last seen of the archiving of servers. */
import type { Watched } from '../model/log-alarms.ts'
import type { Catalog } from './open.ts'

export async function readWatched(catalog: Catalog, connection: string): Promise<Watched | undefined> {
  const row = await catalog.db
    .selectFrom('log_watch')
    .select('watched')
    .where('connection', '=', connection)
    .executeTakeFirst()
  return row && (JSON.parse(row.watched) as Watched)
}

/** Of a connection that was removed meanwhile nothing is kept. */
export async function recordWatched(catalog: Catalog, connection: string, watched: Watched): Promise<void> {
  await catalog.transaction(async tx => {
    const there = await tx
      .selectFrom('connections')
      .select('name')
      .where('name', '=', connection)
      .executeTakeFirst()
    if (!there) return
    const row = { watched: JSON.stringify(watched) }
    await tx
      .insertInto('log_watch')
      .values({ connection, ...row })
      .onConflict(conflict => conflict.column('connection').doUpdateSet(row))
      .execute()
  })
}
