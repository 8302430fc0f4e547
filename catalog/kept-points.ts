/** Backups that restore points which somebody keeps would be recovered from: they stay at hand. */
import { baseOf, systemIdentifierOf } from '../model/base-backups.ts'
import { parseLsn } from '../model/wal.ts'
import { listBackups } from './backups.ts'
import type { Catalog } from './open.ts'

const mostBackups = 1000

/**
 * Of each such point: the newest base backup before it on its timeline and on each one below, as nobody looks into the archive for
 * where they branched off; and the backups that those need. By connection.
 */
export async function keptBackups(catalog: Catalog, now: string): Promise<ReadonlySet<string>> {
  const points = await catalog.db
    .selectFrom('restore_points')
    .selectAll()
    .where('lsn', 'is not', null)
    // `forever` comes after every time.
    .where('keep_until', '>', now)
    .execute()
  const kept = new Set<string>()
  for (const connection of new Set(points.map(point => point.connection))) {
    const backups = await listBackups(catalog, { connection, committed: true }, undefined, mostBackups)
    const parents = new Map(backups.map(({ id, manifest }) => [id, manifest.parent]))
    const bases = backups.flatMap(({ manifest, serverIdentity }) => {
      const base = baseOf(manifest)
      return base ? [{ ...base, server: systemIdentifierOf(serverIdentity) }] : []
    })
    for (const point of points.filter(one => one.connection === connection)) {
      const at = parseLsn(point.lsn ?? '') ?? 0n
      const newest = new Map<number, { backupId: string; stop: bigint }>()
      for (const base of bases) {
        if (base.server !== point.system_identifier || base.stop > at) continue
        if (base.timeline > (point.timeline ?? 0)) continue
        if (base.stop >= (newest.get(base.timeline)?.stop ?? 0n)) newest.set(base.timeline, base)
      }
      for (const { backupId } of newest.values()) {
        for (let id: string | null | undefined = backupId; id && !kept.has(id); id = parents.get(id))
          kept.add(id)
      }
    }
  }
  return kept
}
