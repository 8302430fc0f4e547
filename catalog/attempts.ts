import type { Selectable } from 'kysely'
import { HoldfastError } from '../model/errors.ts'
import type { AttemptRecord } from '../model/records.ts'
import type { Catalog } from './open.ts'
import { isClosed } from './operations.ts'
import type { CatalogTables } from './schema.ts'

/** Upserts by attempt id. Throws `operation.conflict` once the operation is closed: a zombie may not begin anew. */
export async function recordAttempt(catalog: Catalog, attempt: AttemptRecord): Promise<void> {
  await catalog.transaction(async tx => {
    const operation = await tx
      .selectFrom('operations')
      .select('state')
      .where('id', '=', attempt.operationId)
      .executeTakeFirst()
    if (!operation || isClosed(operation.state)) {
      throw new HoldfastError(
        'operation.conflict',
        `Operation ${attempt.operationId} is closed; no attempt may be recorded for it any more.`,
      )
    }
    const known = await tx
      .selectFrom('attempts')
      .select('operation_id')
      .where('attempt_id', '=', attempt.attemptId)
      .executeTakeFirst()
    if (known && known.operation_id !== attempt.operationId) {
      throw new HoldfastError('operation.conflict', `Attempt ${attempt.attemptId} is of another operation.`)
    }
    const artifacts = JSON.stringify(attempt.artifacts)
    await tx
      .insertInto('attempts')
      .values({
        attempt_id: attempt.attemptId,
        operation_id: attempt.operationId,
        backup_id: attempt.backupId,
        connection: attempt.connection,
        artifacts,
        created_at: attempt.createdAt,
      })
      .onConflict(conflict => conflict.column('attempt_id').doUpdateSet({ artifacts }))
      .execute()
    for (const destination of attempt.destinations) {
      await tx
        .insertInto('attempt_destinations')
        .values({ attempt_id: attempt.attemptId, destination })
        .onConflict(conflict => conflict.columns(['attempt_id', 'destination']).doNothing())
        .execute()
    }
  })
}

/** Oldest first. */
export async function listAttempts(
  catalog: Catalog,
  by: { operation: string } | { backup: string } | { destination: string },
): Promise<AttemptRecord[]> {
  const query = catalog.db.selectFrom('attempts').selectAll()
  const chosen =
    'operation' in by
      ? query.where('operation_id', '=', by.operation)
      : 'backup' in by
        ? query.where('backup_id', '=', by.backup)
        : query.where('attempt_id', 'in', ({ selectFrom }) =>
            selectFrom('attempt_destinations')
              .select('attempt_destinations.attempt_id')
              .where('attempt_destinations.destination', '=', by.destination),
          )
  const rows = await chosen.orderBy('created_at').orderBy('attempt_id').execute()
  const places = new Map<string, string[]>()
  const ids = rows.map(row => row.attempt_id)
  for (let start = 0; start < ids.length; start += 500) {
    const some = await catalog.db
      .selectFrom('attempt_destinations')
      .selectAll()
      .where('attempt_id', 'in', ids.slice(start, start + 500))
      .orderBy('destination')
      .execute()
    for (const { attempt_id, destination } of some) {
      places.set(attempt_id, [...(places.get(attempt_id) ?? []), destination])
    }
  }
  return rows.map(row => toAttempt(row, places.get(row.attempt_id) ?? []))
}

function toAttempt(row: Selectable<CatalogTables['attempts']>, destinations: string[]): AttemptRecord {
  return {
    attemptId: row.attempt_id,
    operationId: row.operation_id,
    backupId: row.backup_id,
    connection: row.connection,
    destinations,
    createdAt: row.created_at,
    artifacts: JSON.parse(row.artifacts),
  }
}
