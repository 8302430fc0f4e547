/**
 * Schedules: what the catalog keeps of one, and what became of each time at which one came due. Pure types.
 *
 * schedule      when an operation is to be started by itself, and what becomes of it when it cannot be
 * due time      a moment at which a schedule comes due, before jitter; its identity is (schedule, due time)
 * run           what became of one due time: an operation, or a miss with its reason
 * starter       the short workflow that Temporal starts when a schedule comes due; it asks for the operation
 */
import type { CompressionRequest } from './compression.ts'
import type { DrillQuery, Image } from './records.ts'
import type { BackupType, OperationState, VerifyLevel } from './types.ts'

export type ScheduleKind = 'backup' | 'verify' | 'scrub' | 'sweep' | 'tiering' | 'drill'

/** What becomes of a due time while the former run of the same schedule still waits or works. */
export type Overlap = 'skip' | 'buffer-one' | 'queue'

export type ScheduleSpec =
  /** Five fields, as crontab(5) has them. Of days of the month and of the week, either one matches when both are given. */
  | { cron: string; timeZone: string }
  /** Times of day as `02:30`; on these days, or every day. Weekdays: 0 is Sunday. */
  | { at: string[]; weekdays?: number[]; days?: number[]; months?: number[]; timeZone: string }
  /** Since 1970-01-01T00:00Z plus the offset. */
  | { everySeconds: number; offsetSeconds: number }

/** What is to be run, as a request of that kind would name it; connection and destination are fields of their own. */
export interface BackupOptions {
  type?: BackupType
  format?: string
  jobs?: number
  compression?: CompressionRequest
  bandwidth?: string
  failover?: string | null
  encryptTo?: string[]
  unattended?: boolean
  labels?: Record<string, string>
}
export interface VerifyOptions {
  level?: VerifyLevel
}

export interface ScrubOptions {
  level?: VerifyLevel
  budgetBytes?: number
}

export interface DrillOptions {
  target?: string
  directory?: string
  quick?: boolean
  queries?: DrillQuery[]
  jobs?: number
  noOwner?: boolean
  bandwidth?: string
  maxSeconds?: number
  maxBytes?: number
  container?: Image
  /** Not a backup as it is: the end of the archived log, over its base backup. */
  endOfLog?: true
  walConfig?: string
}

export interface ScheduleRecord {
  id: string
  name: string
  kind: ScheduleKind
  /** null: of a scrub or a sweep, which are about every backup. */
  connection: string | null
  /** Of a verify or a drill: none is wherever the latest backup lies; of a scrub or a sweep: every one. */
  destinations: string[]
  options: BackupOptions | VerifyOptions | ScrubOptions | DrillOptions | Record<string, never>
  spec: ScheduleSpec
  jitterSeconds: number
  overlap: Overlap
  /** How late a due time is still taken up when nobody was there to do so in time. */
  catchUpSeconds: number
  /** How long a run waits for its server, once it was taken up. */
  startDeadlineSeconds: number
  startAt: string | null
  endAt: string | null
  paused: boolean
  note: string | null
  revision: number
  checkedUntil: string
  /** The schedule as Temporal was last told, as canonical text. */
  carried: string | null
  drift: { at: string; detail: string } | null
  requestKey: string | null
  createdAt: string
  updatedAt: string
}

/**
 * due      not taken up yet
 * waiting  taken up; its server is held by another operation
 * started  it is an operation now
 * missed   it will not run; `reason` says why
 */
export type RunState = 'due' | 'waiting' | 'started' | 'missed'

export type MissedReason =
  /** Nobody took it up within the catch-up window: worker, API or Temporal was down. */
  | 'not-taken-up'
  /** Taken up late, when the next one was due already: that one runs. */
  | 'superseded'
  /** The former run of the same schedule was not over. */
  | 'overlap'
  /** Its server was held until the start deadline. */
  | 'server-busy'
  /** The schedule was paused before it could start. */
  | 'paused'
  /** The operation could not be accepted; `detail` says why. */
  | 'refused'

export interface ScheduleRun {
  scheduleId: string
  dueAt: string
  /** The operation's id, known before there is one. */
  operationId: string
  state: RunState
  takenAt: string | null
  deadlineAt: string | null
  reason: MissedReason | null
  detail: string | null
  /** The operation that it waits for, or waited for. */
  holder: string | null
  /** Who triggered it; null: it came due. */
  triggeredBy: string | null
  /** Of the operation; null while there is none. */
  outcome: OperationState | null
}

/** The starter's input. The due time comes with the workflow's search attributes when Temporal's schedule starts it. */
export interface ScheduledInput {
  version: 1
  installation: string
  schedule: string
  scheduleId: string
  dueAt?: string
}

/** What a starter is told when it asks for its operation. */
export type DueAnswer =
  | { state: 'started'; operation: string; detail: string }
  | { state: 'waiting'; detail: string; askAgainSeconds: number }
  | { state: 'missed'; reason: MissedReason; detail: string }
  /** Nothing is owed for this time: another clock, an edited schedule, the second 02:30 of the day. */
  | { state: 'not-due'; detail: string }
