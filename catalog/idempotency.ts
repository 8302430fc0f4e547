/**
 * Idempotency keys: which request a key stands for and what it was answered. A request that was taken up and whose
 * process died is taken up again by the next process; what it had made is found by the key on the row it made.
 */
import type { Catalog } from './open.ts'

export interface KeptAnswer {
  status: number
  body: string
}

export type Taken =
  /**
   * Ours to answer. `again`: an earlier process took it up and died before it answered. `requestKey` names the request on the
   * rows it makes: the key and when it was first used, since keys are forgotten and may be used anew.
   */
  | { state: 'new' | 'again'; requestKey: string }
  | { state: 'answered'; answer: KeptAnswer }
  /** The key was used for another request. */
  | { state: 'mismatch' }
  /** Another process is at it, and lives. */
  | { state: 'elsewhere' }
  /** This very process is at it. */
  | { state: 'under way'; requestKey: string }

export async function takeRequest(
  catalog: Catalog,
  request: { key: string; hash: string; process: string },
): Promise<Taken> {
  return await catalog.transaction(async tx => {
    const row = await tx
      .selectFrom('idempotency')
      .selectAll()
      .where('key', '=', request.key)
      .executeTakeFirst()
    if (!row) {
      const since = new Date().toISOString()
      await tx
        .insertInto('idempotency')
        .values({
          key: request.key,
          request_hash: request.hash,
          taken_by: request.process,
          status: null,
          body: null,
          created_at: since,
        })
        .execute()
      return { state: 'new', requestKey: requestKeyOf(request.key, since) }
    }
    if (row.request_hash !== request.hash) return { state: 'mismatch' }
    if (row.status !== null && row.body !== null) {
      return { state: 'answered', answer: { status: row.status, body: row.body } }
    }
    if (row.taken_by === request.process)
      return { state: 'under way', requestKey: requestKeyOf(row.key, row.created_at) }
    if (await catalog.presence.alive(row.taken_by)) return { state: 'elsewhere' }
    await tx
      .updateTable('idempotency')
      .set({ taken_by: request.process })
      .where('key', '=', request.key)
      .execute()
    return { state: 'again', requestKey: requestKeyOf(row.key, row.created_at) }
  })
}

const requestKeyOf = (key: string, since: string): string => `${key} ${since}`

export async function keepAnswer(catalog: Catalog, key: string, answer: KeptAnswer): Promise<void> {
  await catalog.db
    .updateTable('idempotency')
    .set({ status: answer.status, body: answer.body })
    .where('key', '=', key)
    .where('taken_by', '=', catalog.presence.process)
    .execute()
}

/** A refused request had no effect: the key may be used again. One that another process has taken up is that one's. */
export async function forgetRequest(catalog: Catalog, key: string): Promise<void> {
  await catalog.db
    .deleteFrom('idempotency')
    .where('key', '=', key)
    .where('taken_by', '=', catalog.presence.process)
    .execute()
}

export async function forgetRequestsBefore(catalog: Catalog, time: string): Promise<void> {
  await catalog.db.deleteFrom('idempotency').where('created_at', '<', time).execute()
}
