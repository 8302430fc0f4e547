/** How people write durations, times and days on the command line. */
import { InvalidArgumentError } from 'commander'

const units: Record<string, number> = { s: 1, m: 60, min: 60, h: 3600, d: 86_400 }

/** `90s`, `15min`, `6h`, `1h30m`, `7d`. */
export function durationSeconds(text: string): number {
  const parts = [...text.matchAll(/(\d{1,9})(s|min|m|h|d)/g)]
  if (parts.length === 0 || parts.map(([part]) => part).join('') !== text) {
    throw new InvalidArgumentError('It must be a duration: 90s, 15min, 6h, 1h30m, 7d.')
  }
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (units[unit ?? ''] ?? 0), 0)
}

export const times = (text: string): string[] => text.split(',').map(part => part.trim())

const names = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']

export const weekdays = (text: string): number[] =>
  times(text).map(part => {
    const index = names.indexOf(part.toLowerCase().slice(0, 3))
    if (index < 0 || part.length < 3)
      throw new InvalidArgumentError(`"${part}" is none of ${names.join(', ')}.`)
    return index
  })

export const wholeNumbers = (text: string): number[] =>
  times(text).map(part => {
    if (!/^\d{1,2}$/.test(part)) throw new InvalidArgumentError(`"${part}" is no day or month.`)
    return Number(part)
  })

export function instant(text: string): string {
  const at = new Date(text)
  if (Number.isNaN(at.getTime()))
    throw new InvalidArgumentError(`"${text}" is no time; write 2026-12-01T00:00:00Z.`)
  return at.toISOString()
}
