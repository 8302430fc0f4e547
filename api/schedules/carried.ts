/**
 * A schedule as Temporal carries it. The catalog's row says what is due; Temporal's Schedule wakes a starter at those
 * times. One form, made from the row and read back from Temporal, so that the two can be compared.
 */
import type { ScheduleDescription, ScheduleOptions, ScheduleUpdateOptions } from '@temporalio/client'
import type { CalendarSpec, CalendarSpecDescription } from '@temporalio/client/lib/schedule-types.js'
import { oddTimes, rulesOf, span } from '../../model/due.ts'
import { taskQueue } from '../../model/ids.ts'
import type { ScheduledInput, ScheduleRecord } from '../../model/schedules.ts'
import { connectionAttribute } from '../../workflows/attributes.ts'

export const scheduleIdOf = (name: string): string => `schedule/${name}`
/** Temporal appends `-<due time>`; a starter of our own is named alike, so that there is one of each. */
export const starterIdOf = (name: string): string => `scheduled/${name}`
export const starterTypes = {
  backup: 'scheduledBackup',
  verify: 'scheduledVerify',
  scrub: 'scheduledScrub',
  sweep: 'scheduledSweep',
  tiering: 'scheduledTiering',
  drill: 'scheduledDrill',
} as const

interface Calendar {
  seconds: number[]
  minutes: number[]
  hours: number[]
  days: number[]
  months: number[]
  weekdays: number[]
  /** Empty: every year; nothing else is ours. */
  years: number[]
}

export interface Carried {
  calendars: Calendar[]
  intervals: { everySeconds: number; offsetSeconds: number }[]
  skipped: number
  timeZone: string
  startAt: string | null
  endAt: string | null
  jitterSeconds: number
  overlap: string
  catchUpSeconds: number
  pauseOnFailure: boolean
  paused: boolean
  remaining: number | null
  workflow: { type: string; id: string; taskQueue: string; args: unknown[]; summary: string }
}

const monthNames = [
  'JANUARY',
  'FEBRUARY',
  'MARCH',
  'APRIL',
  'MAY',
  'JUNE',
  'JULY',
  'AUGUST',
  'SEPTEMBER',
  'OCTOBER',
  'NOVEMBER',
  'DECEMBER',
] as const
const weekdayNames = ['SUNDAY', 'MONDAY', 'TUESDAY', 'WEDNESDAY', 'THURSDAY', 'FRIDAY', 'SATURDAY'] as const

/** Temporal takes nothing shorter. */
const leastCatchUpSeconds = 10
const aheadDays = 400
/** More are not told: Temporal forgets these, and they are started by the reconciler instead. */
const mostOddTimes = 100

/** Who makes the starter's input: the same for Temporal's schedule and for a starter of our own. */
export const starterInput = ({ name, id }: ScheduleRecord, installation: string): ScheduledInput => ({
  version: 1,
  installation,
  schedule: name,
  scheduleId: id,
})

export function starterSummary({ name, kind, connection, destinations }: ScheduleRecord): string {
  const where = destinations.join(', ')
  const what =
    connection === null
      ? where || 'every destination'
      : `${connection}${where && (kind === 'backup' ? ` → ${where}` : ` at ${where}`)}`
  return `${name}: ${kind} ${what}, when due`
}

/** One moment as an interval: as long as from 1970 until then, so that it is next due as long after it again. */
const moment = (time: number) => ({ everySeconds: time / 1000, offsetSeconds: 0 })

const known = new Map<string, number[]>()

/** Asked in each round, for the same answer. */
function oddFrom(spec: ScheduleRecord['spec'], from: number): number[] {
  const key = JSON.stringify([spec, from])
  const odd = known.get(key) ?? oddTimes(spec, from, from + aheadDays * 86_400_000).slice(0, mostOddTimes)
  if (known.size >= 1000) known.clear()
  known.set(key, odd)
  return odd
}

export function carriedOf(schedule: ScheduleRecord, installation: string, now: Date): Carried {
  const { spec } = schedule
  // By the month, so that what Temporal is told does not change from one round to the next.
  const from = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1)
  const odd = oddFrom(spec, from)
  return {
    calendars: rulesOf(spec).map(rule => ({ seconds: [0], ...rule, years: [] })),
    intervals:
      'everySeconds' in spec
        ? [{ everySeconds: spec.everySeconds, offsetSeconds: spec.offsetSeconds }]
        : odd.map(moment),
    skipped: 0,
    timeZone: 'everySeconds' in spec ? 'UTC' : spec.timeZone,
    startAt: schedule.startAt,
    endAt: schedule.endAt,
    jitterSeconds: schedule.jitterSeconds,
    // Starters may overlap: it is they who wait, and who report what they cannot start.
    overlap: 'ALLOW_ALL',
    catchUpSeconds: Math.max(leastCatchUpSeconds, schedule.catchUpSeconds),
    pauseOnFailure: false,
    paused: schedule.paused,
    remaining: null,
    workflow: {
      type: starterTypes[schedule.kind],
      id: starterIdOf(schedule.name),
      taskQueue,
      args: [starterInput(schedule, installation)],
      summary: starterSummary(schedule),
    },
  }
}

/** What Temporal says it carries. */
export function carriedFrom({ spec, action, policies, state }: ScheduleDescription): Carried {
  return {
    calendars: (spec.calendars ?? []).map(calendarFrom),
    intervals: (spec.intervals ?? []).map(({ every, offset }) => ({
      everySeconds: every / 1000,
      offsetSeconds: (offset ?? 0) / 1000,
    })),
    skipped: spec.skip?.length ?? 0,
    timeZone: spec.timezone ?? '',
    startAt: spec.startAt?.toISOString() ?? null,
    endAt: spec.endAt?.toISOString() ?? null,
    jitterSeconds: (spec.jitter ?? 0) / 1000,
    overlap: policies.overlap ?? '',
    catchUpSeconds: policies.catchupWindow / 1000,
    pauseOnFailure: policies.pauseOnFailure,
    paused: state.paused,
    remaining: state.remainingActions ?? null,
    workflow: {
      type: action.workflowType,
      id: action.workflowId ?? '',
      taskQueue: action.taskQueue,
      args: [...(action.args ?? [])],
      summary: action.staticSummary ?? '',
    },
  }
}

/** Whose it is, as its starters' input says; undefined when somebody changed that, too. */
export function installationOf({ workflow }: Carried): string | undefined {
  const [input] = workflow.args
  const known = input !== null && typeof input === 'object' && 'installation' in input
  return known && typeof input.installation === 'string' ? input.installation : undefined
}

const values = <Name>(
  ranges: { start: Name; end: Name; step: number }[],
  numberOf: (name: Name) => number,
): number[] =>
  [
    ...new Set(
      ranges.flatMap(({ start, end, step }) =>
        span(numberOf(start), numberOf(end)).filter(value => (value - numberOf(start)) % step === 0),
      ),
    ),
  ].sort((a, b) => a - b)

const itself = (value: number): number => value

const calendarFrom = (calendar: CalendarSpecDescription): Calendar => ({
  seconds: values(calendar.second, itself),
  minutes: values(calendar.minute, itself),
  hours: values(calendar.hour, itself),
  days: values(calendar.dayOfMonth, itself),
  months: values(calendar.month, name => monthNames.indexOf(name) + 1),
  weekdays: values(calendar.dayOfWeek, name => weekdayNames.indexOf(name)),
  years: values(calendar.year, itself),
})

const calendarTo = (calendar: Calendar): CalendarSpec => ({
  second: calendar.seconds,
  minute: calendar.minutes,
  hour: calendar.hours,
  dayOfMonth: calendar.days,
  month: calendar.months.flatMap(month => monthNames[month - 1] ?? []),
  dayOfWeek: calendar.weekdays.flatMap(day => weekdayNames[day] ?? []),
})

/** As Temporal's client takes it. `connection`: for the search attribute of its starters, where Temporal knows ours. */
export function optionsOf(
  carried: Carried,
  note: string,
  connection: string | null,
): Omit<ScheduleOptions & ScheduleUpdateOptions, 'scheduleId'> {
  const { workflow } = carried
  return {
    spec: {
      calendars: carried.calendars.map(calendarTo),
      intervals: carried.intervals.map(({ everySeconds, offsetSeconds }) => ({
        every: everySeconds * 1000,
        offset: offsetSeconds * 1000,
      })),
      timezone: carried.timeZone,
      jitter: carried.jitterSeconds * 1000,
      ...(carried.startAt === null ? {} : { startAt: new Date(carried.startAt) }),
      ...(carried.endAt === null ? {} : { endAt: new Date(carried.endAt) }),
    },
    action: {
      type: 'startWorkflow',
      workflowType: workflow.type,
      workflowId: workflow.id,
      taskQueue: workflow.taskQueue,
      args: workflow.args,
      staticSummary: workflow.summary,
      ...(connection === null
        ? {}
        : { typedSearchAttributes: [{ key: connectionAttribute, value: connection }] }),
    },
    policies: { overlap: 'ALLOW_ALL', catchupWindow: carried.catchUpSeconds * 1000, pauseOnFailure: false },
    state: { paused: carried.paused, note },
  }
}

/** Which fields of the schedule somebody changed, in words. */
export function differences(before: Carried, now: Carried): string[] {
  const named: [string, (carried: Carried) => unknown][] = [
    ['times', ({ calendars, intervals, skipped }) => [calendars, intervals, skipped]],
    ['time zone', ({ timeZone }) => timeZone],
    ['start or end', ({ startAt, endAt }) => [startAt, endAt]],
    ['jitter', ({ jitterSeconds }) => jitterSeconds],
    ['policies', ({ overlap, catchUpSeconds, pauseOnFailure }) => [overlap, catchUpSeconds, pauseOnFailure]],
    ['pause', ({ paused }) => paused],
    ['remaining actions', ({ remaining }) => remaining],
    ['action', ({ workflow }) => workflow],
  ]
  return named.flatMap(([word, of]) => (JSON.stringify(of(before)) === JSON.stringify(of(now)) ? [] : [word]))
}
