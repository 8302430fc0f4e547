/** Schedules in words for people. Pure. */
import type { ScheduleSpec } from './schedules.ts'

const weekdayNames = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const monthNames = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

const listed = (words: readonly string[]): string =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`

/** `every day at 02:30, Europe/Berlin`; `every 6 h`; `cron 30 2 * * mon-fri, UTC`. */
export function wordsOf(spec: ScheduleSpec): string {
  if ('everySeconds' in spec) {
    const offset = spec.offsetSeconds === 0 ? '' : `, ${seconds(spec.offsetSeconds)} past`
    return `every ${seconds(spec.everySeconds)}${offset}`
  }
  if ('cron' in spec) return `cron ${spec.cron}, ${spec.timeZone}`
  const days = [
    ...(spec.weekdays ? [`every ${listed(spec.weekdays.map(day => weekdayNames[day] ?? ''))}`] : []),
    ...(spec.days ? [`on day ${listed(spec.days.map(String))} of the month`] : []),
    ...(spec.months ? [`in ${listed(spec.months.map(month => monthNames[month - 1] ?? ''))}`] : []),
  ]
  return `${days.length === 0 ? 'every day' : days.join(' ')} at ${listed(spec.at)}, ${spec.timeZone}`
}

/** `90 s`, `6 h`, `1 h 30 min`, `7 d`. */
export function seconds(count: number): string {
  if (count === 0) return '0 s'
  const parts: string[] = []
  let rest = count
  for (const [size, unit] of [
    [86_400, 'd'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's'],
  ] as const) {
    if (rest >= size) parts.push(`${Math.floor(rest / size)} ${unit}`)
    rest %= size
  }
  return parts.join(' ')
}
