/**
 * Requests without a valid credential: each is a refusal that belongs into the audit, but whoever sends a million of them
 * must not fill the catalog. The first ones of each address (for each user whose password they try) have
 * rows of their own, the rest of a minute one row together.
 */
import type { AuditEntry } from '../catalog/audit.ts'

const windowMs = 60_000
const rowsPerAddress = 10
const addressesPerWindow = 100

export interface Strangers {
  /** Whether this refusal gets a row of its own; else it is counted. */
  admit(entry: AuditEntry): boolean
  /** Rows for what was counted in windows that are over; `all`: also in the one under way. */
  counted(all?: boolean): AuditEntry[]
}

export function createStrangers(now: () => number = Date.now): Strangers {
  interface Seen {
    since: number
    admitted: number
    more: number
    last: AuditEntry
  }
  const seen = new Map<string, Seen>()
  return {
    admit(entry) {
      const known = `${entry.actor.address} ${entry.detail.user ?? ''}`
      // Beyond this many, the rest counts as one.
      const address = seen.has(known) || seen.size < addressesPerWindow ? known : 'others'
      const of = seen.get(address) ?? { since: now(), admitted: 0, more: 0, last: entry }
      seen.set(address, of)
      if (of.admitted < rowsPerAddress && address !== 'others') {
        of.admitted += 1
        return true
      }
      of.more += 1
      of.last = entry
      return false
    },
    counted(all = false) {
      const rows: AuditEntry[] = []
      for (const [address, { since, more, last }] of seen) {
        if (!all && now() - since < windowMs) continue
        seen.delete(address)
        if (more === 0) continue
        const actor = address === 'others' ? { name: 'nobody' } : last.actor
        rows.push({ ...last, actor, detail: { ...last.detail, times: more } })
      }
      return rows
    },
  }
}
