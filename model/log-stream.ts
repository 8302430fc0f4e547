/** The log of a server as it is streamed to a host and archived from there: what is wanted of it, and how far it is. Pure. */
import { z } from 'zod'
import { slugPattern } from './ids.ts'
import type { EngineName } from './types.ts'
import { logFileOf } from './wal.ts'

const bytes = z.int().nonnegative()
const lsn = z.string().regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/)
const time = z.iso.datetime()

const trouble = z.strictObject({
  code: z.string().max(100),
  detail: z.string().max(10_000),
  hint: z.string().max(10_000),
  since: time,
})
export type StreamTrouble = z.infer<typeof trouble>

/** How far it is, as the worker of its host last said. */
export const logStreamState = z.strictObject({
  at: time,
  /** The receiver runs. */
  receiving: z.boolean(),
  /** Why it is held although it could run: what it receives has no room. */
  held: z.enum(['spool', 'disk']).nullable(),
  timeline: z.int().positive().nullable(),
  /** Where the server is in its log; what of it was received; what of that is durable at every destination. */
  serverLsn: lsn.nullable(),
  receivedLsn: lsn.nullable(),
  archivedLsn: lsn.nullable(),
  archivedAt: time.nullable(),
  /** From `archivedLsn` to `serverLsn`, and for how long there has been something there. */
  lagBytes: bytes.nullable(),
  lagSeconds: bytes.nullable(),
  /** null: there is none just now, or the server did not say. */
  slot: z
    .strictObject({ active: z.boolean(), retainedBytes: bytes.nullable(), walStatus: z.string().nullable() })
    .nullable(),
  spoolBytes: bytes,
  freeBytes: bytes.nullable(),
  /** Of receiving, and of archiving what was received. */
  receiveTrouble: trouble.nullable(),
  archiveTrouble: trouble.nullable(),
  /** The last time that the server had removed what was not streamed yet. `after`: the last file that was received before. */
  lost: z.strictObject({ at: time, after: z.string().max(100).nullable() }).nullable(),
})
export type LogStreamState = z.infer<typeof logStreamState>

/** What becomes of the slot, and of what is remembered, when a stream is stopped. */
export const slotEnds = ['keep', 'drop', 'leave'] as const
export type SlotEnd = (typeof slotEnds)[number]

export interface LogStreamRecord {
  connection: string
  /** A file counts as archived once it is in all of them. */
  destinations: string[]
  /** Names of keys; none: what is archived is not encrypted. */
  recipients: string[]
  slot: string
  /** What was received and not archived may take so much; beyond it the server keeps it. */
  spoolLimitBytes: number
  /** What the slot makes the server keep before somebody is told. */
  slotLimitBytes: number
  wanted: 'running' | 'stopped'
  slotEnd: SlotEnd
  /** When it was stopped as wanted; null: it runs, or is to be. */
  stoppedAt: string | null
  state: LogStreamState | null
  createdAt: string
}

/** What its workflow is started with. */
export interface ArchiveLogsInput {
  version: 1
  connection: string
  engine: EngineName
  serverIdentity: string
  destinations: string[]
  /** Of the tools; `local`: of whichever machine takes it first. */
  host: string
  /** Of a host that has its own: its task queue. */
  hostQueue: string | null
  /** After so long a step ends and the next one begins. */
  turnSeconds: number
  /** After so many the workflow goes on under another run, with an empty history. */
  turnsPerRun: number
  /** The machine that has the spool, from the first step on. */
  machine?: { queue: string; waitSeconds: number }
}

/** Names that PostgreSQL takes for slots. */
export const slotPattern = /^[a-z0-9_]{1,63}$/
export const slotOf = (connection: string): string =>
  `holdfast_${connection.replaceAll('-', '_')}`.slice(0, 63)

/** Names its room in the staging directory of the host. */
export const spoolOf = (connection: string, systemIdentifier: string): string =>
  `logs-${connection}-${systemIdentifier}`
export const isSpoolOf = (operation: string, connection: string): boolean =>
  /^logs-(.*)-\d+$/.exec(operation)?.[1] === connection

export const logStreamInput = z.strictObject({
  destinations: z.array(z.string().regex(slugPattern)).min(1).max(16).optional(),
  /** Names of keys; empty: what is archived is not encrypted. */
  encryptTo: z.array(z.string().regex(slugPattern)).max(16).optional(),
  slot: z.string().regex(slotPattern, 'use 1 to 63 lower-case letters, digits and underscores').optional(),
  spoolLimitBytes: z
    .int()
    .min(64 << 20)
    .max(2 ** 50)
    .optional(),
  slotLimitBytes: z
    .int()
    .min(64 << 20)
    .max(2 ** 50)
    .optional(),
})
export const logStreamEnd = z.strictObject({ slot: z.enum(slotEnds).optional() })

export const logStreamView = z.object({
  connection: z.string(),
  host: z.string(),
  destinations: z.array(z.string()),
  /** Names of keys; none: what is archived is not encrypted. */
  recipients: z.array(z.string()),
  slot: z.string(),
  spoolLimitBytes: z.int(),
  slotLimitBytes: z.int(),
  /** `stopping`: asked for, and not done yet. */
  wanted: z.enum(['running', 'stopping', 'stopped']),
  state: logStreamState.nullable(),
  workflowId: z.string(),
  createdAt: z.string(),
})
export type LogStreamView = z.infer<typeof logStreamView>

export interface SpoolFile {
  name: string
  /** The receiver looks at it to know where to go on: it is archived, and removed later. */
  stays: boolean
}

/**
 * Of the files in a directory that a receiver writes to, those that are finished, in the order in which they are archived: by
 * timeline, its history first. `open`: the receiver may go on there; then what it begins with stays.
 */
export function finishedFiles(names: readonly string[], open: boolean): SpoolFile[] {
  const files = names.flatMap(name => {
    const file = logFileOf(name)
    return file === undefined || file.kind === 'backup' ? [] : [{ name, file }]
  })
  // As pg_receivewal finds where to go on: the highest place, of the highest timeline.
  const placeOf = (name: string) => `${name.slice(8, 24)} ${name.slice(0, 8)} ${name.length === 24 ? 1 : 0}`
  const places = files.filter(({ file }) => file.kind !== 'history').map(({ name }) => placeOf(name))
  const newest = places.sort().at(-1)
  const isNewest = (name: string) => open && placeOf(name) === newest
  return files
    .filter(({ name, file }) => file.kind !== 'partial' || !isNewest(name))
    .map(({ name, file }) => ({
      name,
      timeline: file.timeline,
      // Whoever begins on a timeline asks the server for its history unless it is there.
      stays: file.kind === 'history' ? open : isNewest(name),
      order: file.kind === 'history' ? '' : name,
    }))
    .sort((a, b) => a.timeline - b.timeline || (a.order < b.order ? -1 : 1))
    .map(({ name, stays }) => ({ name, stays }))
}

/** Room that is left to the machine, whatever the limit says. */
const leastFreeBytes = 256 << 20

/** Whether a receiver is held. One that is goes on when half of the limit is free again. */
export function heldBy(
  now: { spoolBytes: number; freeBytes: number },
  { spoolLimitBytes }: Pick<LogStreamRecord, 'spoolLimitBytes'>,
  before: LogStreamState['held'],
): LogStreamState['held'] {
  if (now.freeBytes < (before === 'disk' ? 2 : 1) * leastFreeBytes) return 'disk'
  return now.spoolBytes > (before === 'spool' ? 0.5 : 1) * spoolLimitBytes ? 'spool' : null
}
