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

const sizes: Record<string, number> = {
  '': 1,
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
}

/** `50GB`, `200MiB`, `1.5TB`. */
export function byteCount(text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,15}(?:\.\d{1,3})?) ?([kMGT]i?B|B|)$/.exec(text) ?? []
  const size = sizes[unit]
  if (number === '' || size === undefined)
    throw new InvalidArgumentError('It must be a size: 50GB, 200MiB, 1.5TB.')
  return Math.round(Number(number) * size)
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
