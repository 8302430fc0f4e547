/** Physical backups as places in the log: what a recovery can begin with. */
import { z } from 'zod'
import type { Manifest } from './manifest.ts'
import type { Base } from './recovery-window.ts'
import { parseLsn } from './wal.ts'

/** Told by the finished pg_basebackup; kept in the manifest. */
const positions = z.object({ startLsn: z.string(), stopLsn: z.string(), timeline: z.int() })

/** Asked when the backup began: after its `startedAt`, which Holdfast's clock says. */
const clock = z.object({ clockMs: z.int() })
/** Less is no other clock, but the time that asking took. */
const sameClockMs = 5000

/** When it ended, by the clock of the server: that of the times in its log. */
export function endedByServer({ facts, startedAt, endedAt }: Manifest): Date {
  const asked = clock.safeParse(facts.cluster).data?.clockMs
  const ahead = asked === undefined ? 0 : asked - Date.parse(startedAt)
  return new Date(Date.parse(endedAt) + (Math.abs(ahead) < sameClockMs ? 0 : ahead))
}

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
