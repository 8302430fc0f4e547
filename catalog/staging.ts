/**
 * Room in staging, promised to one operation at a time: two that begin at once must not count on the same free bytes. A
 * promise counts until it is kept (what is written is no longer free anyway) or its operation is closed, whatever became of
 * the process that asked for it.
 */
import { HoldfastError } from '../model/errors.ts'
import type { StagingClaim, StagingPromise, StagingRoom } from '../model/records.ts'
import { closedStates } from '../model/types.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'

/** Throws `operation.conflict` for an operation that is closed: nothing of it may be staged any more. */
export async function claimStaging(catalog: Catalog, claim: StagingClaim): Promise<StagingRoom> {
  return await catalog.transaction(async tx => {
    const { operationId, purpose, fileSystem } = claim
    const row = await tx
      .selectFrom('operations')
      .select('state')
      .where('id', '=', operationId)
      .executeTakeFirst()
    if (!row || closedStates.some(state => state === row.state)) {
      throw new HoldfastError('operation.conflict', `Operation ${operationId} is not under way.`)
    }
    const promised = (await promisedAt(tx, fileSystem)).filter(
      one => one.operation !== operationId || one.purpose !== purpose,
    )
    const room = roomFor(claim, promised)
    if (claim.how === 'look' || (claim.how === 'ask' && !room.granted)) return room
    const columns = { file_system: fileSystem, bytes: claim.bytes, written: claim.writtenBytes }
    await tx
      .insertInto('staging_promises')
      .values({ operation_id: operationId, purpose, ...columns })
      .onConflict(conflict => conflict.columns(['operation_id', 'purpose']).doUpdateSet(columns))
      .execute()
    return room
  })
}

/** For somebody who has no operation yet. */
export async function stagingRoom(
  catalog: Catalog,
  need: Pick<StagingClaim, 'fileSystem' | 'bytes' | 'writtenBytes' | 'freeBytes'>,
): Promise<StagingRoom> {
  return roomFor(need, await promisedAt(catalog.db, need.fileSystem))
}

/** `purpose`: of this one only. */
export async function releaseStaging(
  db: CatalogDatabase,
  operationId: string,
  purpose?: StagingClaim['purpose'],
): Promise<void> {
  let rows = db.deleteFrom('staging_promises').where('operation_id', '=', operationId)
  if (purpose !== undefined) rows = rows.where('purpose', '=', purpose)
  await rows.execute()
}

/** What operations that are under way were promised there and have not written yet, the largest first. */
async function promisedAt(
  db: CatalogDatabase,
  fileSystem: string,
): Promise<(StagingPromise & { purpose: string })[]> {
  const rows = await db
    .selectFrom('staging_promises')
    .innerJoin('operations', 'operations.id', 'staging_promises.operation_id')
    .select(['operation_id', 'purpose', 'bytes', 'written', 'operations.connection'])
    .where('file_system', '=', fileSystem)
    .where('operations.state', 'not in', [...closedStates])
    .execute()
  return rows
    .map(({ operation_id, purpose, bytes, written, connection }) => ({
      operation: operation_id,
      purpose,
      connection,
      bytes: Math.max(0, Number(bytes) - Number(written)),
    }))
    .filter(({ bytes }) => bytes > 0)
    .sort((a, b) => b.bytes - a.bytes || (a.operation < b.operation ? -1 : 1))
}

function roomFor(
  { bytes, writtenBytes, freeBytes }: Pick<StagingClaim, 'bytes' | 'writtenBytes' | 'freeBytes'>,
  promised: readonly StagingPromise[],
): StagingRoom {
  const left = promised.reduce((free, one) => free - one.bytes, freeBytes)
  return {
    granted: left >= Math.max(0, bytes - writtenBytes),
    promised: promised.map(({ operation, connection, bytes: open }) => ({
      operation,
      connection,
      bytes: open,
    })),
  }
}
