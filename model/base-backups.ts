/** Physical backups as places in the log: what a recovery can begin with. */
import { z } from 'zod'
import type { Manifest } from './manifest.ts'
import type { Base } from './recovery-window.ts'
import { parseLsn } from './wal.ts'

/** Told by the finished pg_basebackup; kept in the manifest. */
const positions = z.object({ startLsn: z.string(), stopLsn: z.string(), timeline: z.int() })

/** PostgreSQL's own, of a server identity as connections and manifests have it; undefined: of another engine, or nobody could say. */
export const systemIdentifierOf = (serverIdentity: string): string | undefined =>
  /^postgresql:(\d+)\//.exec(serverIdentity)?.[1]

/** undefined: no recovery begins with it. */
export function baseOf({ backupId, facts }: Pick<Manifest, 'backupId' | 'facts'>): Base | undefined {
  const parsed = positions.safeParse(facts.positions)
  const start = parsed.data && parseLsn(parsed.data.startLsn)
  const stop = parsed.data && parseLsn(parsed.data.stopLsn)
  if (!parsed.data || start === undefined || stop === undefined) return undefined
  return { backupId, timeline: parsed.data.timeline, start, stop }
}
