/** What the API says of the log of a server: which places of it can be recovered, and from what. LSNs as PostgreSQL writes them. */
import { z } from 'zod'

const lsn = z.string()

export const recoveryWindowView = z.object({
  timeline: z.int(),
  /** Where it branched off; null: it is the first one, or the archive has no history of it. */
  parent: z.object({ timeline: z.int(), leftAt: lsn }).nullable(),
  /** Every place between two ends can be recovered, ancestors' log included. `to` is the end of the last segment. */
  intervals: z.array(z.object({ from: lsn, to: lsn })),
  bases: z.array(
    z.object({
      backup: z.string(),
      endedAt: z.string(),
      /** Where a recovery of it is consistent, and how far it comes. */
      from: lsn,
      to: lsn,
    }),
  ),
  /** Segments that are missing between those that are there. */
  gaps: z.array(
    z.object({
      first: z.string(),
      last: z.string(),
      /** What cannot be recovered for want of them; `to` null: nothing after it, until there is another base backup. */
      lost: z.object({ from: lsn, to: lsn.nullable() }),
    }),
  ),
})

export const archivedLogView = z.object({
  destination: z.string(),
  segments: z.int(),
  storedBytes: z.int(),
  /** The segment that came last, and when its server gave it. */
  newest: z.object({ name: z.string(), archivedAt: z.string() }).nullable(),
  windows: z.array(recoveryWindowView),
})

export const recoveryWindowsView = z.object({
  connection: z.string(),
  systemIdentifier: z.string(),
  /** By destination that has an archive of it. */
  archives: z.array(archivedLogView),
  /** Destinations that did not say. */
  unknown: z.array(
    z.object({ destination: z.string(), code: z.string(), detail: z.string(), hint: z.string() }),
  ),
})

/** Of the newest timeline in the archive that reaches furthest. */
export const logStatusView = z.object({
  destination: z.string(),
  timeline: z.int(),
  /** From the newest base backup on; null: none reaches into this log. */
  from: lsn.nullable(),
  to: lsn.nullable(),
  /** When the server gave the last segment. */
  archivedAt: z.string().nullable(),
  /** Segments that are missing after the newest base backup make this; older ones do not. */
  gaps: z.int(),
})

export type RecoveryWindowView = z.infer<typeof recoveryWindowView>
export type ArchivedLogView = z.infer<typeof archivedLogView>
export type RecoveryWindowsView = z.infer<typeof recoveryWindowsView>
