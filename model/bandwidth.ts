/**
 * Limits of bandwidth as people write them, and how one is shared. `10MB/s` · `08:00-18:00 Europe/Berlin 10MB/s, otherwise 50MB/s`:
 * the first window that it is now counts; outside of all of them what has no window; where nothing does, there is no limit.
 */
import { HoldfastError } from './errors.ts'

interface Window {
  /** Minutes of the day; one that ends before it begins goes over midnight. */
  from: number
  to: number
  timeZone: string
}

interface Rule {
  /** null: always. */
  window: Window | null
  /** null: no limit. */
  bytesPerSecond: number | null
}

/** What a lasting limit can be about: all that goes to and comes from a destination, or passes a host. */
export const limitedKinds = ['destination', 'host'] as const
/** An operation has its own from when it was asked for, and may get another one while it is open. */
export type LimitedKind = (typeof limitedKinds)[number] | 'operation'

const units: Record<string, number> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
}
/** Less is a mistake: parts of some MiB would take hours, and stores give up. */
const leastBytesPerSecond = 10_000

const wrong = (text: string, why: string): never => {
  throw new HoldfastError('request.invalid', `The limit "${text.slice(0, 200)}" cannot be used: ${why}.`, {
    hint: 'Write 10MB/s, or 08:00-18:00 Europe/Berlin 10MB/s, otherwise none.',
  })
}

/** Throws `request.invalid`, saying why. */
export function parseLimit(text: string): Rule[] {
  const rules = text.split(',').map(part => parseRule(text, part.trim().replace(/^otherwise\s+/i, '')))
  const always = rules.findIndex(rule => rule.window === null)
  if (always !== -1 && always < rules.length - 1) wrong(text, 'what holds at all other times comes last')
  return rules
}

function parseRule(text: string, part: string): Rule {
  const match = /^(?:(\d\d):(\d\d)-(\d\d):(\d\d)\s+(?:([A-Za-z][A-Za-z0-9_+/-]*)\s+)?)?(\S+)$/.exec(part)
  if (!match) return wrong(text, `"${part}" is no rate and no window with one`)
  const [, h1, m1, h2, m2, timeZone = 'UTC', rate = ''] = match
  const bytesPerSecond = parseRate(text, rate)
  if (h1 === undefined) return { window: null, bytesPerSecond }
  const [from, to] = [Number(h1) * 60 + Number(m1), Number(h2) * 60 + Number(m2)]
  if (from >= 1440 || to > 1440 || Number(m1) > 59 || Number(m2) > 59) wrong(text, 'a day has 24:00 hours')
  if (from === to) wrong(text, 'a window ends at another time than it begins')
  try {
    clockOf(timeZone)
  } catch {
    wrong(text, `there is no time zone "${timeZone}"`)
  }
  return { window: { from, to, timeZone }, bytesPerSecond }
}

function parseRate(text: string, rate: string): number | null {
  if (/^none$/i.test(rate)) return null
  const match = /^(\d+(?:\.\d+)?)([kmg]?i?b)\/s$/i.exec(rate)
  const unit = units[(match?.[2] ?? '').toLowerCase()]
  if (!match || unit === undefined) return wrong(text, `"${rate}" is no rate such as 10MB/s`)
  const bytesPerSecond = Math.round(Number(match[1]) * unit)
  if (bytesPerSecond < leastBytesPerSecond) wrong(text, 'the least is 10kB/s')
  if (bytesPerSecond > Number.MAX_SAFE_INTEGER) wrong(text, 'it is beyond all networks')
  return bytesPerSecond
}

const clockOf = (timeZone: string) =>
  new Intl.DateTimeFormat('en-GB', { timeZone, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })

/** Bytes per second that the rules allow at this moment; null: as many as there can be. */
export function limitAt(rules: readonly Rule[], at: Date): number | null {
  return rules.find(rule => rule.window === null || isWithin(rule.window, at))?.bytesPerSecond ?? null
}

function isWithin({ from, to, timeZone }: Window, at: Date): boolean {
  const [hours, minutes] = clockOf(timeZone).format(at).split(':').map(Number)
  const now = (hours ?? 0) * 60 + (minutes ?? 0)
  return from < to ? now >= from && now < to : now >= from || now < to
}

/**
 * Divides a limit among those who transfer. Who wants less than an equal share gets what it wants; the others share the
 * rest equally. `wanted`: bytes per second by transfer; null: as many as there are. Their sum is never more than the limit.
 */
export function fairShares(limit: number, wanted: ReadonlyMap<string, number | null>): Map<string, number> {
  const shares = new Map<string, number>()
  let left = limit
  const modest = [...wanted].sort(([, a], [, b]) => (a ?? Infinity) - (b ?? Infinity))
  modest.forEach(([transfer, want], index) => {
    const share = Math.min(want ?? Infinity, left / (modest.length - index))
    shares.set(transfer, Math.floor(share))
    left -= share
  })
  return shares
}
