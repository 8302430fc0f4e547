/** What a server says of archiving its log. */
import { z } from 'zod'
import { logFileOf, segmentNumber } from './wal.ts'

/** Who archives the log of a server. */
export const archivers = ['holdfast', 'pgbackrest', 'wal-g', 'barman', 'other', 'nobody'] as const

export const archiverNames: Record<(typeof archivers)[number], string> = {
  holdfast: 'Holdfast',
  pgbackrest: 'pgBackRest',
  'wal-g': 'WAL-G',
  barman: 'Barman',
  other: 'another program',
  nobody: 'nobody',
}

export const archivingFacts = z.object({
  mode: z.string(),
  /** Who archives. The command itself may hold a secret and stays on the server. */
  by: z.enum(archivers),
  timeoutSeconds: z.int(),
  /** Settings that were changed and wait for a restart. */
  pendingRestart: z.array(z.string()),
  segmentBytes: z.int(),
  /** The segment that is written; null on a standby. */
  current: z.string().nullable(),
  lastArchived: z.string().nullable(),
  /** Since nothing was archived, if the last try failed. */
  failingSeconds: z.int().nullable(),
  /** Tries that failed, since the server's statistics were reset. */
  failed: z.int(),
  /** What pg_wal holds; null where the role may not look. */
  walBytes: z.int().nullable(),
  maxWalBytes: z.int(),
  /** null where the role may not know, or it is another machine's. */
  dataDirectory: z.string().nullable(),
})
export type ArchivingFacts = z.infer<typeof archivingFacts>

/** Segments that wait without anybody being told: a burst of writing is no trouble. */
export const usualBacklog = 16

/** Finished and not archived; undefined: nobody can say. */
export function waitingSegments({ current, lastArchived, segmentBytes }: ArchivingFacts): number | undefined {
  const last = lastArchived === null ? undefined : logFileOf(lastArchived)
  if (current === null || last === undefined || last.kind === 'history') return undefined
  const now = segmentNumber(current, segmentBytes)
  const then = segmentNumber(last.segment, segmentBytes)
  return now === undefined || then === undefined ? undefined : Math.max(0, Number(now - then) - 1)
}
