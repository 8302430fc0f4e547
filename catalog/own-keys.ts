/** The installation's own way into what it writes: there while an operation is under way, gone when it closes. */
import type { AttemptRecord } from '../model/records.ts'
import type { CatalogDatabase } from './dialect.ts'

/** From then on only the recipients open what the operation made. */
export async function giveUpOwnKeys(db: CatalogDatabase, operationId: string): Promise<void> {
  const rows = await db
    .selectFrom('attempts')
    .select(['attempt_id', 'artifacts'])
    .where('operation_id', '=', operationId)
    .execute()
  for (const { attempt_id, artifacts } of rows) {
    const without = (JSON.parse(artifacts) as AttemptRecord['artifacts']).map(artifact => ({
      ...artifact,
      encryption: artifact.encryption && { ...artifact.encryption, own: null },
    }))
    await db
      .updateTable('attempts')
      .set({ artifacts: JSON.stringify(without) })
      .where('attempt_id', '=', attempt_id)
      .execute()
  }
}
