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
    const artifacts = JSON.stringify(attempt.artifacts)
    await tx
      .insertInto('attempts')
      .values({
        attempt_id: attempt.attemptId,
        operation_id: attempt.operationId,
        backup_id: attempt.backupId,
        connection: attempt.connection,
        destination: attempt.destination,
        artifacts,
        created_at: attempt.createdAt,
      })
      .onConflict(conflict => conflict.column('attempt_id').doUpdateSet({ artifacts }))
      .execute()
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
        : query.where('destination', '=', by.destination)
  const rows = await chosen.orderBy('created_at').orderBy('attempt_id').execute()
  return rows.map(toAttempt)
}

function toAttempt(row: Selectable<CatalogTables['attempts']>): AttemptRecord {
  return {
    attemptId: row.attempt_id,
    operationId: row.operation_id,
    backupId: row.backup_id,
    connection: row.connection,
    destination: row.destination,
    createdAt: row.created_at,
    artifacts: JSON.parse(row.artifacts),
  }
}
