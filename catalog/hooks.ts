/** Hooks of connections, and how those of an operation went. */
import { HoldfastError } from '../model/errors.ts'
import type { Hook, HookRun } from '../model/records.ts'
import { readConnection } from './connections.ts'
import type { Catalog } from './open.ts'

/** In their order. Throws `request.not-found` for a connection that is not there. */
export async function listHooks(catalog: Catalog, connection: string): Promise<Hook[]> {
  await readConnection(catalog, connection)
  const row = await catalog.db
    .selectFrom('hooks')
    .select('hooks')
    .where('connection', '=', connection)
    .executeTakeFirst()
  return row ? (JSON.parse(row.hooks) as Hook[]) : []
}

/** Replaces the whole list. Operations under way keep those of their plan. */
export async function putHooks(catalog: Catalog, connection: string, hooks: readonly Hook[]): Promise<void> {
  await catalog.transaction(async tx => {
    const there = await tx
      .selectFrom('connections')
      .select('name')
      .where('name', '=', connection)
      .executeTakeFirst()
    if (!there) throw new HoldfastError('request.not-found', `There is no connection named ${connection}.`)
    await tx
      .insertInto('hooks')
      .values({ connection, hooks: JSON.stringify(hooks) })
      .onConflict(conflict => conflict.column('connection').doUpdateSet({ hooks: JSON.stringify(hooks) }))
      .execute()
  })
}

export async function findHookRun(
  catalog: Catalog,
  operationId: string,
  name: string,
): Promise<HookRun | undefined> {
  const row = await catalog.db
    .selectFrom('hook_runs')
    .selectAll()
    .where('operation_id', '=', operationId)
    .where('name', '=', name)
    .executeTakeFirst()
  return (
    row && {
      name: row.name,
      startedAt: row.started_at,
      endedAt: row.ended_at,
      ok: row.ok === null ? null : row.ok === 1,
      detail: row.detail,
    }
  )
}

/** What has ended stays as it ended, whoever comes late. */
export async function recordHookRun(catalog: Catalog, operationId: string, run: HookRun): Promise<void> {
  const how = { ended_at: run.endedAt, ok: run.ok === null ? null : run.ok ? 1 : 0, detail: run.detail }
  await catalog.db
    .insertInto('hook_runs')
    .values({ operation_id: operationId, name: run.name, started_at: run.startedAt, ...how })
    .onConflict(conflict =>
      conflict.columns(['operation_id', 'name']).doUpdateSet(how).where('hook_runs.ended_at', 'is', null),
    )
    .execute()
}
