/**
 * Limits of bandwidth and the transfers that share them. A transfer asks every few seconds, from whatever process; one that
 * does not ask any more, because it has ended or its process died, is forgotten, and the others get its share.
 */
import { fairShares, type LimitedKind, limitAt, parseLimit } from '../model/bandwidth.ts'
import { HoldfastError } from '../model/errors.ts'
import type { Transfer } from '../model/records.ts'
import { closedStates } from '../model/types.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'

/** A transfer counts for so long after it asked. */
const countsMs = 6000

const scopeOf = (kind: LimitedKind, name: string) => `${kind}/${name}`

export interface BandwidthLimit {
  kind: LimitedKind
  name: string
  rules: string
  /** What it allows now; null: no limit. */
  bytesPerSecond: number | null
  /** How many share it now. */
  transfers: number
}

export async function listLimits(catalog: Catalog, now: Date): Promise<BandwidthLimit[]> {
  const rows = await catalog.db.selectFrom('bandwidth_limits').selectAll().orderBy('scope').execute()
  const live = await catalog.db
    .selectFrom('bandwidth_transfers')
    .select('scope')
    .where('until', '>', now.toISOString())
    .execute()
  return rows.map(({ scope, rules }) => {
    const [kind = '', ...name] = scope.split('/')
    return {
      kind: kind as LimitedKind,
      name: name.join('/'),
      rules,
      bytesPerSecond: limitAt(parseLimit(rules), now),
      transfers: live.filter(one => one.scope === scope).length,
    }
  })
}

/**
 * Takes the place of what the operation was asked for with; null: it has no limit of its own any more. Throws `request.invalid`,
 * `request.not-found`, and `operation.state` once it is closed.
 */
export async function limitOperation(
  catalog: Catalog,
  id: string,
  rules: string | null,
  now: Date,
): Promise<void> {
  // What was asked for stays in its input: that there is no limit has to be said, too.
  const text = rules ?? 'none'
  parseLimit(text)
  await catalog.transaction(async tx => {
    const row = await tx.selectFrom('operations').select('state').where('id', '=', id).executeTakeFirst()
    if (!row) throw new HoldfastError('request.not-found', `There is no operation ${id}.`)
    if (closedStates.some(state => state === row.state)) {
      throw new HoldfastError(
        'operation.state',
        `Operation ${id} is ${row.state}: it transfers nothing any more.`,
      )
    }
    const columns = { rules: text, changed_at: now.toISOString() }
    await tx
      .insertInto('bandwidth_limits')
      .values({ scope: scopeOf('operation', id), ...columns })
      .onConflict(conflict => conflict.column('scope').doUpdateSet(columns))
      .execute()
  })
}

/** null: no limit any more. Throws `request.invalid`. */
export async function putLimit(
  catalog: Catalog,
  kind: LimitedKind,
  name: string,
  rules: string | null,
  now: Date,
): Promise<void> {
  if (rules === null) return await forgetLimit(catalog.db, kind, name)
  parseLimit(rules)
  const columns = { rules, changed_at: now.toISOString() }
  await catalog.db
    .insertInto('bandwidth_limits')
    .values({ scope: scopeOf(kind, name), ...columns })
    .onConflict(conflict => conflict.column('scope').doUpdateSet(columns))
    .execute()
}

export async function forgetLimit(db: CatalogDatabase, kind: LimitedKind, name: string): Promise<void> {
  await db.deleteFrom('bandwidth_limits').where('scope', '=', scopeOf(kind, name)).execute()
}

/** The least that one of its limits leaves it: of its operation, its destination, its host. */
export async function bandwidthShare(
  catalog: Catalog,
  transfer: Transfer,
  now: Date,
): Promise<{ bytesPerSecond: number | null }> {
  const limits = await limitsOn(catalog, transfer, now)
  if (limits.size === 0) return { bytesPerSecond: null }
  return await catalog.transaction(async tx => {
    await tx.deleteFrom('bandwidth_transfers').where('until', '<=', now.toISOString()).execute()
    let least: number | null = null
    for (const [scope, limit] of limits) {
      const others = await tx
        .selectFrom('bandwidth_transfers')
        .select(['transfer', 'wanted'])
        .where('scope', '=', scope)
        .where('transfer', '!=', transfer.transfer)
        .execute()
      // One that stood still for a while must be able to show that it wants more.
      const atLeast = limit / (others.length + 1) / 10
      const wanted = transfer.wanted === null ? null : Math.ceil(Math.max(transfer.wanted, atLeast))
      const columns = { until: new Date(now.getTime() + countsMs).toISOString(), wanted }
      await tx
        .insertInto('bandwidth_transfers')
        .values({ transfer: transfer.transfer, scope, ...columns })
        .onConflict(conflict => conflict.columns(['transfer', 'scope']).doUpdateSet(columns))
        .execute()
      const all = new Map<string, number | null>(
        others.map(one => [one.transfer, one.wanted === null ? null : Number(one.wanted)]),
      )
      const share = fairShares(limit, all.set(transfer.transfer, wanted)).get(transfer.transfer) ?? limit
      least = least === null ? share : Math.min(least, share)
    }
    return { bytesPerSecond: least === null ? null : Math.max(1, least) }
  })
}

/** Bytes per second by scope, of those that hold now. */
async function limitsOn(
  { db }: Catalog,
  { operationId, destination, host }: Transfer,
  now: Date,
): Promise<Map<string, number>> {
  const ownScope = scopeOf('operation', operationId)
  const scopes = [scopeOf('destination', destination), scopeOf('host', host), ownScope]
  const rows = await db.selectFrom('bandwidth_limits').selectAll().where('scope', 'in', scopes).execute()
  const row = await db
    .selectFrom('operations')
    .select('input')
    .where('id', '=', operationId)
    .executeTakeFirst()
  const own = row && (JSON.parse(row.input) as { bandwidth?: string }).bandwidth
  const rules = [
    ...rows.map(one => [one.scope, one.rules] as const),
    ...(own === undefined || rows.some(({ scope }) => scope === ownScope) ? [] : [[ownScope, own] as const]),
  ]
  return new Map(
    rules.flatMap(([scope, text]) => {
      const limit = limitAt(parseLimit(text), now)
      return limit === null ? [] : [[scope, limit] as const]
    }),
  )
}
