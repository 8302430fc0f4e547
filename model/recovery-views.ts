/** What the API says of the log of a server: which places of it can be recovered, and from what. LSNs as PostgreSQL writes them. */
import { z } from 'zod'
import { slugPattern } from './ids.ts'

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

/** Whoever signs the files of an archive. */
export const archiversView = z.object({
  items: z.array(
    z.object({
      destination: z.string(),
      archiver: z.string(),
      /** Of its key: `wal init` says it on the database host. */
      fingerprint: z.string(),
      askedAt: z.string(),
      /** This installation vouches for it there. */
      vouched: z.boolean(),
    }),
  ),
  /** Destinations that did not say. */
  unknown: z.array(
    z.object({ destination: z.string(), code: z.string(), detail: z.string(), hint: z.string() }),
  ),
})
export const vouchInput = z.strictObject({
  archiver: z.string().regex(/^[A-Za-z0-9]{1,64}$/),
  fingerprint: z.string().regex(/^[\w-]{43}$/),
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

/** A time, or `forever`: until then what it needs stays at hand. */
const keepUntil = z.union([z.literal('forever'), z.iso.datetime({ offset: true })])
export const keptInput = z.strictObject({ keepUntil: keepUntil.nullable() })
export const restorePointInput = z.strictObject({
  name: z
    .string()
    .regex(slugPattern, 'use 1 to 63 lower-case letters, digits and dashes; begin with a letter or digit'),
  note: z.string().max(500).optional(),
  keepUntil: keepUntil.optional(),
})

export const restorePointView = z.object({
  connection: z.string(),
  name: z.string(),
  /** What the server calls it: a recovery's `recovery_target_name`. */
  serverName: z.string(),
  systemIdentifier: z.string(),
  timeline: z.int(),
  lsn,
  /** By the server's clock. */
  createdAt: z.string(),
  by: z.string(),
  note: z.string().nullable(),
  /** A time, or `forever`; null: what it needs is not kept for it. */
  keepUntil: z.string().nullable(),
})

export type ArchiversView = z.infer<typeof archiversView>
export type RestorePointView = z.infer<typeof restorePointView>
export type RecoveryWindowView = z.infer<typeof recoveryWindowView>
export type ArchivedLogView = z.infer<typeof archivedLogView>
export type RecoveryWindowsView = z.infer<typeof recoveryWindowsView>
