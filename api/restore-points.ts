/** Names a place in a server's log: the row, then the place, then what the server said of it. */
import { randomBytes } from 'node:crypto'
import { makeRestorePoint, noRestorePoints } from '../activities/probe.ts'
import type { StoredConnection } from '../catalog/connections.ts'
import { beginRestorePoint, recordRestorePoint } from '../catalog/restore-points.ts'
import { engineOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { RestorePointView } from '../model/recovery-views.ts'
import type { ApiContext } from './context.ts'
import { askThere } from './there.ts'

/** Throws `wal.not-postgresql`, `request.exists`, `host.no-worker`, and what the engine makes of a refusal. */
export async function newRestorePoint(
  context: ApiContext,
  connection: StoredConnection,
  asked: { name: string; note: string | null; keepUntil: string | null; by: string },
): Promise<RestorePointView> {
  const engine = engineOf(connection.engine)
  if (engine.restorePoint === undefined) throw noRestorePoints(engine.title)
  // 63 bytes at most, with room for the try.
  const serverName = `${asked.name.slice(0, 54)}.${randomBytes(4).toString('hex')}`
  const names = { connection: connection.name, name: asked.name, serverName }
  await beginRestorePoint(context.catalog, {
    ...names,
    by: asked.by,
    note: asked.note,
    keepUntil: asked.keepUntil,
  })
  const made = await askThere(
    context,
    connection,
    (host, asking, secrets) => makeRestorePoint(host, asking, secrets, serverName),
    (id, asking) => ({ ask: 'restore-point', id, connection: asking, serverName }),
  )
  const point = await recordRestorePoint(context.catalog, names, made)
  if (point) return point
  throw new HoldfastError(
    'request.exists',
    `The restore point ${asked.name} of ${connection.name} was made by somebody else meanwhile.`,
  )
}
