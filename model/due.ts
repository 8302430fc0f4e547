/**
 * When a schedule comes due: arithmetic over calendars and time zones. Pure.
 *
 * A time of day is a promise of one run on each of its days. On the day that has 02:30 twice it means the first; on the
 * day that has none it means as long after midnight as ever, 03:30 (RFC 5545, 3.3.5). Every hour (`*`) is no time of day:
 * such a rule follows the clock through both hours, as cron does.
 */
import { parseCron } from './cron.ts'
import type { ScheduleSpec } from './schedules.ts'

/** Days of the year and times of day; a day matches all of `days`, `months` and `weekdays`. */
export interface Rule {
  minutes: number[]
  /** All 24: every hour, also one that comes twice. */
  hours: number[]
  days: number[]
  months: number[]
  /** 0 is Sunday. */
  weekdays: number[]
}

export const allHours = 24
const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** A rule that matches no day within this time never comes due. Leap days are at most eight years apart. */
const horizonMs = 8 * 366 * dayMs
/** More than come due, by the minute, while a clock is put back. */
const overlapping = 24 * 60

export const span = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index)

/** Throws RangeError with a sentence for people when a cron line is not one. */
export function rulesOf(spec: ScheduleSpec): Rule[] {
  if ('cron' in spec) return parseCron(spec.cron)
  if ('everySeconds' in spec) return []
  return spec.at.map(text => {
    const [hour, minute] = text.split(':').map(Number)
    return {
      minutes: [minute ?? 0],
      hours: [hour ?? 0],
      days: spec.days ?? span(1, 31),
      months: spec.months ?? span(1, 12),
      weekdays: spec.weekdays ?? span(0, 6),
    }
  })
}

/** Due times after `after` up to and including `until`, oldest first, at most `limit`. Milliseconds since 1970. */
export function dueTimes(
  spec: ScheduleSpec,
  after: number,
  until: number,
  limit = Number.POSITIVE_INFINITY,
): number[] {
  if ('everySeconds' in spec) return steps(spec, after, until, limit)
  const rules = rulesOf(spec)
  const zone = openZone(spec.timeZone)
  const times = new Set<number>()
  const last = Math.min(until, after + horizonMs)
  // Local dates from the one before `after`'s, in whatever zone, to the one after `until`'s.
  for (let date = Math.floor(after / dayMs) * dayMs - dayMs; date <= last + dayMs; date += dayMs) {
    // Where the clock changes, two dates may overlap: enough is only what the date before had.
    if (times.size >= limit + overlapping) break
    for (const rule of rules) {
      for (const time of timesOn(zone, rule, date)) if (time > after && time <= last) times.add(time)
    }
  }
  return [...times].sort((a, b) => a - b).slice(0, limit)
}

export const isDue = (spec: ScheduleSpec, time: number): boolean =>
  dueTimes(spec, time - 1, time, 1).length === 1

function steps(
  { everySeconds, offsetSeconds }: { everySeconds: number; offsetSeconds: number },
  after: number,
  until: number,
  limit: number,
): number[] {
  const every = everySeconds * 1000
  const offset = offsetSeconds * 1000
  const times: number[] = []
  let time = (Math.floor((after - offset) / every) + 1) * every + offset
  for (; time <= until && times.length < limit; time += every) times.push(time)
  return times
}

const matches = (rule: Rule, date: Date): boolean =>
  rule.months.includes(date.getUTCMonth() + 1) &&
  rule.days.includes(date.getUTCDate()) &&
  rule.weekdays.includes(date.getUTCDay())

/** `date`: midnight of the local date, as if it were UTC. */
function timesOn(zone: Zone, rule: Rule, date: number): number[] {
  if (!matches(rule, new Date(date))) return []
  const everyHour = rule.hours.length === allHours
  const steady = zone.steady(date)
  return rule.hours.flatMap(hour =>
    rule.minutes.flatMap(minute => {
      const local = date + hour * hourMs + minute * 60_000
      const real = steady === undefined ? zone.instants(local) : [local - steady]
      if (everyHour) return real
      return real[0] ?? zone.shifted(local)
    }),
  )
}

/**
 * Due times that no calendar finds by looking at the clock: those moved out of a missing hour, and those in an hour that
 * comes twice, of which Temporal's calendars know the one or the other, depending on the zone.
 */
export function oddTimes(spec: ScheduleSpec, after: number, until: number): number[] {
  if ('everySeconds' in spec) return []
  const rules = rulesOf(spec)
  const zone = openZone(spec.timeZone)
  const odd = new Set<number>()
  for (const date of zone.changes(after, until)) {
    for (const time of dueTimes(spec, date - dayMs, date + 2 * dayMs)) {
      const local = time + zone.offset(time)
      const shown = rules.some(rule => showsOn(rule, new Date(local)))
      if (!shown || zone.instants(local).length > 1) odd.add(time)
    }
  }
  return [...odd].sort((a, b) => a - b)
}

const showsOn = (rule: Rule, local: Date): boolean =>
  matches(rule, local) &&
  rule.hours.includes(local.getUTCHours()) &&
  rule.minutes.includes(local.getUTCMinutes())

interface Zone {
  /** Milliseconds that the zone's clock is ahead of UTC at this instant. */
  offset(instant: number): number
  /** The instants at which the zone's clock shows this: none in a gap, two in a repeated hour, in order. */
  instants(local: number): number[]
  /** The offset all through a local date; undefined when the clock may change then. Asking the zone is slow. */
  steady(date: number): number | undefined
  /** What a local time in a gap means: the clock as it went before the change. */
  shifted(local: number): number
  /** Local dates on which the clock changes. */
  changes(after: number, until: number): number[]
}

const zones = new Map<string, Zone>()

function openZone(name: string): Zone {
  const known = zones.get(name)
  if (known) return known
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: name,
    calendar: 'iso8601',
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  })
  const offset = (instant: number): number => {
    const part: Record<string, number> = {}
    for (const { type, value } of format.formatToParts(instant)) part[type] = Number(value)
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part
    return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(instant / 1000) * 1000
  }
  // Zones are at most 14 hours from UTC: the change that matters lies between a day before and a day after.
  const around = (local: number): [number, number] => [offset(local - dayMs), offset(local + dayMs)]
  const zone: Zone = {
    offset,
    instants(local) {
      const found = new Set(
        around(local)
          .map(ahead => local - ahead)
          .filter(instant => instant + offset(instant) === local),
      )
      return [...found].sort((a, b) => a - b)
    },
    steady(date) {
      const [before, later] = [offset(date - dayMs), offset(date + 2 * dayMs)]
      return before === later ? before : undefined
    },
    shifted: local => local - around(local)[0],
    changes(after, until) {
      const dates: number[] = []
      for (let date = Math.floor(after / dayMs) * dayMs - dayMs; date <= until + dayMs; date += dayMs) {
        const [before, later] = around(date + dayMs / 2)
        if (before !== later) dates.push(date)
      }
      return dates
    },
  }
  zones.set(name, zone)
  return zone
}

/** The name as the zone database spells it; undefined when there is no such zone. An offset is no zone. */
export function timeZoneNamed(name: string): string | undefined {
  if (!/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/.test(name)) return undefined
  try {
    const { timeZone } = new Intl.DateTimeFormat('en-US', { timeZone: name }).resolvedOptions()
    if (timeZone.toLowerCase() === name.toLowerCase()) return timeZone
    // An alias is kept as it was typed; the zone database knows it with capitals only.
    return name.split('/').every(part => /^[A-Z]/.test(part)) ? name : undefined
  } catch {
    return undefined
  }
}
