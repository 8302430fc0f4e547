/** Schemas of schedules in the public API. Used by api/ (validation, OpenAPI) and cli/ (types). */
import { z } from 'zod'
import { dueTimes, timeZoneNamed } from './due.ts'
import {
  backupInput,
  destinationNames,
  drillOptions,
  pitrInput,
  scrubOptions,
  slug,
  verifyInput,
} from './inputs.ts'
import type { ScheduleSpec } from './schedules.ts'

const minute = 60
const day = 24 * 60 * minute

const timeZone = z
  .string()
  .max(64)
  .transform((text, context) => {
    const name = timeZoneNamed(text)
    if (name !== undefined) return name
    context.addIssue('not a time zone: use a name of the IANA database, e.g. Europe/Berlin or UTC')
    return z.NEVER
  })

const list = (first: number, last: number) =>
  z
    .array(z.int().min(first).max(last))
    .min(1)
    .max(last - first + 1)

/** One of `cron`, `at` and `everySeconds`, with what belongs to it. */
const spec = z
  .strictObject({
    /** Five fields, as crontab(5) has them. */
    cron: z.string().min(1).max(200).optional(),
    /** Times of day, e.g. `02:30`; on these days, or every day. */
    at: z
      .array(z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'use a time of day, 00:00 to 23:59'))
      .min(1)
      .max(48)
      .optional(),
    /** 0 is Sunday. */
    weekdays: list(0, 6).optional(),
    days: list(1, 31).optional(),
    months: list(1, 12).optional(),
    /** Needed with `cron` and `at`. */
    timeZone: timeZone.optional(),
    everySeconds: z
      .int()
      .min(minute, 'must be at least 60: nothing is to be had more often')
      .max(366 * day)
      .optional(),
    /** After 1970-01-01T00:00Z. */
    offsetSeconds: z.int().min(0).optional(),
  })
  .transform((given, context): ScheduleSpec => {
    const wrong = (path: string[], message: string) => {
      context.addIssue({ code: 'custom', path, message })
      return z.NEVER
    }
    const { cron, at, weekdays, days, months, timeZone, everySeconds, offsetSeconds } = given
    if ([cron, at, everySeconds].filter(part => part !== undefined).length !== 1) {
      return wrong([], 'give one of cron, at (times of day) and everySeconds')
    }
    const alone = (fields: Record<string, unknown>, needs: string) =>
      Object.entries(fields).flatMap(([field, value]) =>
        value === undefined ? [] : [[field, needs] as const],
      )
    const strangers = [
      ...(at === undefined ? alone({ weekdays, days, months }, 'at') : []),
      ...(everySeconds === undefined
        ? alone({ offsetSeconds }, 'everySeconds')
        : alone({ timeZone }, 'cron or at')),
    ]
    for (const [field, needs] of strangers) return wrong([field], `goes with ${needs} only`)
    if (everySeconds !== undefined) {
      if ((offsetSeconds ?? 0) >= everySeconds)
        return wrong(['offsetSeconds'], 'must be less than everySeconds')
      return { everySeconds, offsetSeconds: offsetSeconds ?? 0 }
    }
    if (timeZone === undefined)
      return wrong(['timeZone'], 'name the zone of these times, e.g. Europe/Berlin or UTC')
    const made: ScheduleSpec =
      cron === undefined
        ? {
            at: at ?? [],
            ...(weekdays ? { weekdays } : {}),
            ...(days ? { days } : {}),
            ...(months ? { months } : {}),
            timeZone,
          }
        : { cron, timeZone }
    try {
      if (dueTimes(made, Date.now(), Number.POSITIVE_INFINITY, 1).length > 0) return made
      return wrong(cron === undefined ? [] : ['cron'], 'never comes due: there is no such day')
    } catch (error) {
      return wrong(['cron'], error instanceof Error ? error.message : String(error))
    }
  })

/** Of a drill: the latest backup, or with the archived log over it up to its end. */
const scheduledDrill = drillOptions.extend({
  endOfLog: z.literal(true).optional(),
  walConfig: pitrInput.shape.walConfig,
})

/** As for a backup, or a verification, by hand; connection and destination are fields of the schedule. */
const backupOptions = backupInput.omit({ connection: true, destinations: true, dryRun: true })
export const optionsOfKind = {
  backup: backupOptions,
  verify: verifyInput,
  scrub: scrubOptions,
  sweep: z.strictObject({}),
  tiering: z.strictObject({}),
  drill: scheduledDrill.refine(
    ({ endOfLog, container }) => endOfLog === undefined || container === undefined,
    { path: ['container'], message: 'log is replayed by the programs of the host' },
  ),
} as const
const options = z.strictObject({
  ...backupOptions.shape,
  ...verifyInput.shape,
  ...scrubOptions.shape,
  ...scheduledDrill.shape,
})

const editable = {
  /** Of a backup all of them in one pass; of the others at most one. Absent: the only one there is; of a verify or a drill: wherever the latest backup lies; of a scrub or a sweep: every one. */
  destinations: destinationNames.optional(),
  spec,
  /** Starts up to this much later, by a different amount each time. */
  jitterSeconds: z.int().min(0).max(day).optional(),
  /** When it comes due again while its former run still waits or works. */
  overlap: z.enum(['skip', 'buffer-one', 'queue']).optional(),
  /** How late it is still started when nobody was there to do so; later, it is reported as missed. */
  catchUpSeconds: z
    .int()
    .min(minute)
    .max(7 * day)
    .optional(),
  /** How long a run waits for its server; then it is reported as missed. */
  startDeadlineSeconds: z.int().min(0).max(day).optional(),
  startAt: z.iso.datetime({ offset: true }).nullable().optional(),
  endAt: z.iso.datetime({ offset: true }).nullable().optional(),
  paused: z.boolean().optional(),
  note: z.string().max(500).nullable().optional(),
}

export const scheduleInput = z.strictObject({
  name: slug,
  kind: z.enum(['backup', 'verify', 'scrub', 'sweep', 'tiering', 'drill']).optional(),
  /** Not of a scrub, a sweep or a tiering, which are about every backup. */
  connection: slug.optional(),
  ...editable,
  options: options.optional(),
})
/** Name, kind and connection stay what they are. */
export const scheduleEdit = z.strictObject({
  ...editable,
  spec: spec.optional(),
  /** `[]`: as if it had been absent. */
  destinations: z.union([z.array(slug).max(0), destinationNames]).optional(),
  options: options.optional(),
})

export const pauseInput = z.strictObject({ note: z.string().max(500).optional() })

export const scheduleRunView = z.object({
  dueAt: z.string(),
  /** `due`: not taken up yet; `waiting`: for its server. */
  state: z.enum(['due', 'waiting', 'started', 'missed']),
  operation: z.string().nullable(),
  /** State of the operation. */
  outcome: z.string().nullable(),
  reason: z.string().nullable(),
  detail: z.string().nullable(),
  /** The operation that it waits for, or waited for. */
  holder: z.string().nullable(),
  takenAt: z.string().nullable(),
  deadlineAt: z.string().nullable(),
  triggeredBy: z.string().nullable(),
})

export const scheduleView = z.object({
  name: z.string(),
  kind: z.enum(['backup', 'verify', 'scrub', 'sweep', 'tiering', 'drill']),
  /** null: of a scrub, a sweep or a tiering. */
  connection: z.string().nullable(),
  destinations: z.array(z.string()),
  options: z.record(z.string(), z.unknown()),
  spec: z.union([
    z.object({ cron: z.string(), timeZone: z.string() }),
    z.object({
      at: z.array(z.string()),
      weekdays: z.array(z.int()).optional(),
      days: z.array(z.int()).optional(),
      months: z.array(z.int()).optional(),
      timeZone: z.string(),
    }),
    z.object({ everySeconds: z.int(), offsetSeconds: z.int() }),
  ]),
  /** The spec for people. */
  words: z.string(),
  jitterSeconds: z.int(),
  overlap: z.enum(['skip', 'buffer-one', 'queue']),
  catchUpSeconds: z.int(),
  startDeadlineSeconds: z.int(),
  startAt: z.string().nullable(),
  endAt: z.string().nullable(),
  paused: z.boolean(),
  note: z.string().nullable(),
  revision: z.int(),
  /** Due times to come; none while paused. */
  next: z.array(z.string()),
  lastRun: scheduleRunView.nullable(),
  lastMissed: scheduleRunView.nullable(),
  /** When Temporal was last found to hold something else, and what; it was brought back. */
  drift: z.object({ at: z.string(), detail: z.string() }).nullable(),
  createdAt: z.string(),
  updatedAt: z.string(),
})

export const scheduleDetail = scheduleView.extend({
  /** Newest first. */
  runs: z.array(scheduleRunView),
  missed: z.array(scheduleRunView),
})

export type ScheduleInput = z.infer<typeof scheduleInput>
export type ScheduleView = z.infer<typeof scheduleView>
export type ScheduleRunView = z.infer<typeof scheduleRunView>
