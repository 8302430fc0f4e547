import type { Replayed } from '../model/replayed.ts'

/** Decimal units, as disks and clouds are sold. */
export function bytes(count: number): string {
  if (count < 1000) return `${count} B`
  const units = ['kB', 'MB', 'GB', 'TB', 'PB']
  let value = count
  let unit = -1
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000
    unit += 1
  }
  return `${value.toPrecision(3)} ${units[unit]}`
}

/** How many: "1 check", "7 checks". */
export const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`

/** A length of time in the largest unit that says it exactly. */
export function duration(seconds: number): string {
  const units = [
    ['day', 86_400],
    ['hour', 3600],
    ['minute', 60],
  ] as const
  const [unit, size] = units.find(([, length]) => seconds >= length && seconds % length === 0) ?? [
    'second',
    1,
  ]
  const count = seconds / size
  return counted(count, unit)
}

/** Where the replay of a log has ended. */
export const stopped = ({ stoppedAt, lsn, timeline }: Replayed): string =>
  [stoppedAt ?? 'the end of the log', lsn === null ? '' : `read to ${lsn}`, `timeline ${timeline}`]
    .filter(Boolean)
    .join(', ')
