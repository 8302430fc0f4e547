/** Lines of crontab(5): five fields, names, ranges, lists, steps, `@daily` and its like. Pure. */
import type { Rule } from './due.ts'

interface Field {
  name: string
  first: number
  last: number
  names?: readonly string[]
}

const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']
const weekdays = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']

const fields = [
  { name: 'minute', first: 0, last: 59 },
  { name: 'hour', first: 0, last: 23 },
  { name: 'day of the month', first: 1, last: 31 },
  { name: 'month', first: 1, last: 12, names: months },
  // 7 is Sunday, too.
  { name: 'day of the week', first: 0, last: 7, names: weekdays },
] as const satisfies Field[]

const nicknames: Record<string, string> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
}

/** Throws RangeError with a sentence for people. Two rules when either of two kinds of day is to match. */
export function parseCron(line: string): Rule[] {
  const text = line.trim()
  const parts = (nicknames[text.toLowerCase()] ?? text).split(/\s+/)
  if (parts.length !== 5) {
    throw new RangeError(
      'a cron line has five fields: minute, hour, day of the month, month, day of the week',
    )
  }
  const [minutes = [], hours = [], days = [], inMonths = [], week = []] = fields.map((field, index) =>
    values(field, parts[index] ?? ''),
  )
  const rule: Rule = {
    minutes,
    hours,
    days,
    months: inMonths,
    weekdays: [...new Set(week.map(day => day % 7))].sort((a, b) => a - b),
  }
  const [, , dayField = '*', , weekField = '*'] = parts
  // crontab(5): restricted both, a day matches when either does. A field that begins with * is not restricted.
  if (dayField.startsWith('*') || weekField.startsWith('*')) return [rule]
  const everyDay = Array.from({ length: 31 }, (_, index) => index + 1)
  return [
    { ...rule, weekdays: [0, 1, 2, 3, 4, 5, 6] },
    { ...rule, days: everyDay },
  ]
}

function values(field: Field, text: string): number[] {
  const found = new Set<number>()
  for (const item of text.split(',')) {
    const match = /^(\*|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:\/(\d{1,3}))?$/i.exec(item)
    if (!match) throw new RangeError(`${field.name}: "${item}" is no value, range or step`)
    const [, whole, from, to, stepText] = match
    const step = stepText === undefined ? 1 : Number(stepText)
    if (step === 0) throw new RangeError(`${field.name}: a step of 0 goes nowhere`)
    const first = whole === '*' ? field.first : numberIn(field, from ?? '')
    // `5/15` is `5-last/15`.
    const last =
      to !== undefined ? numberIn(field, to) : whole === '*' || stepText !== undefined ? field.last : first
    if (last < first) throw new RangeError(`${field.name}: "${item}" ends before it begins`)
    for (let value = first; value <= last; value += step) found.add(value)
  }
  return [...found].sort((a, b) => a - b)
}

function numberIn(field: Field, text: string): number {
  const named = field.names?.indexOf(text.toLowerCase()) ?? -1
  if (named >= 0) return named + (field.first === 1 ? 1 : 0)
  const value = /^\d{1,2}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= field.first && value <= field.last)) {
    throw new RangeError(`${field.name}: "${text}" is not between ${field.first} and ${field.last}`)
  }
  return value
}
