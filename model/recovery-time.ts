/** Moments that a recovery stops at: to the microsecond, and with a zone. Pure. */
import type { RecoveryOrder } from './records.ts'

/** As PostgreSQL takes it, in UTC with the microseconds that were given; undefined: no such moment, or one without a zone. */
export function instantOf(text: string): string | undefined {
  const parts =
    /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?(?:(Z)|([+-]\d{2})(?::?(\d{2}))?)$/.exec(
      text,
    )
  if (!parts) return undefined
  const [, date, minutes, seconds = '00', fraction = '', , hours = '+00', rest = '00'] = parts
  const at = Date.parse(`${date}T${minutes}:${seconds}${hours}:${rest}`)
  // A 31 June is the first of July to some.
  const day = Date.parse(`${date}T00:00:00Z`)
  if (Number.isNaN(at) || Number.isNaN(day) || !new Date(day).toISOString().startsWith(date ?? '')) {
    return undefined
  }
  const [whole = ''] = new Date(at).toISOString().split('.')
  return `${whole}${fraction === '' ? '' : `.${fraction}`}Z`
}

/** "time 2026-11-22T03:14:00Z", "latest". */
export function targetWords({ target }: Pick<RecoveryOrder, 'target'>): string {
  const [where] = Object.entries(target).flatMap(([name, value]) =>
    name === 'kind' || typeof value !== 'string' ? [] : [value],
  )
  return `${target.kind}${where === undefined ? '' : ` ${where}`}`
}
