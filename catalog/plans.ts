import { HoldfastError } from '../model/errors.ts'
import type { StoredPlan } from '../model/records.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import { isClosed } from './operations.ts'

/** The first plan wins: every later step, whoever runs it, reads the same one. */
export async function storePlan(catalog: Catalog, plan: StoredPlan): Promise<StoredPlan> {
  return await catalog.transaction(async tx => {
    const stored = await findPlan(tx, plan.operationId)
    if (stored) return stored
    const operation = await tx
      .selectFrom('operations')
      .select('state')
      .where('id', '=', plan.operationId)
      .executeTakeFirst()
    if (!operation) throw new HoldfastError('request.not-found', `There is no operation ${plan.operationId}.`)
    if (isClosed(operation.state)) {
      throw new HoldfastError('operation.conflict', `Operation ${plan.operationId} is closed.`)
    }
    await tx
      .insertInto('plans')
      .values({ operation_id: plan.operationId, digest: plan.digest, plan: JSON.stringify(plan.plan) })
      .execute()
    return plan
  })
}

export const readPlan = (catalog: Catalog, operationId: string): Promise<StoredPlan | undefined> =>
  findPlan(catalog.db, operationId)

async function findPlan(db: CatalogDatabase, operationId: string): Promise<StoredPlan | undefined> {
  const row = await db
    .selectFrom('plans')
    .selectAll()
    .where('operation_id', '=', operationId)
    .executeTakeFirst()
  return row && { operationId: row.operation_id, digest: row.digest, plan: JSON.parse(row.plan) }
}
