/**
 * Guessing passwords is made slow, and survives a restart. Each try is counted before it is looked at, so that many at once
 * are as slow as one after the other.
 *
 * Counted are the tries on a user from one address, from one address, and on a user from everywhere. Who has logged in from an
 * address before is held up there only by wrong tries on that very user from that very address: nobody elsewhere can lock
 * anybody out, and tokens know no limit.
 */
import { HoldfastError } from '../model/errors.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'

interface Limit {
  /** Tries without a pause. */
  free: number
  /** The pause doubles with each try, from a second up to this. */
  longestSeconds: number
}

const pairLimit: Limit = { free: 5, longestSeconds: 900 }
const addressLimit: Limit = { free: 20, longestSeconds: 900 }
const userLimit: Limit = { free: 50, longestSeconds: 60 }

const dayMs = 86_400_000
/** For so long an address counts as one from which a user logs in. */
const knownDays = 90

export interface CountedTry {
  /** The password was right: this try counts no more. */
  succeeded(): Promise<void>
}

/** Throws `request.rate-limited` when it is too early for another try. */
export async function countTry(catalog: Catalog, user: string, address: string): Promise<CountedTry> {
  const key = (...parts: string[]) => catalog.box.fingerprint(JSON.stringify(['password tries', ...parts]))
  const pair = key('pair', user, address)
  const known = key('known', user, address)
  const wider: [string, Limit][] = [
    [key('address', address), addressLimit],
    [key('user', user), userLimit],
  ]
  const now = Date.now()
  const counted = await catalog.transaction(async tx => {
    const before = await readTries(tx, known)
    const isKnown = before !== undefined && now - Date.parse(before.last_at) < knownDays * dayMs
    const limits: [string, Limit][] = [[pair, pairLimit], ...(isKnown ? [] : wider)]
    const rows: Awaited<ReturnType<typeof readTries>>[] = []
    for (const [one] of limits) rows.push(await readTries(tx, one))
    const until = Math.max(0, ...rows.map(row => Date.parse(row?.blocked_until ?? '') || 0))
    if (until > now) return until
    for (const [index, [one, limit]] of limits.entries()) {
      const row = rows[index]
      const fresh = row !== undefined && now - Date.parse(row.last_at) < dayMs
      await writeTries(tx, one, (fresh ? row.tries : 0) + 1, limit, now)
    }
    return limits
  })
  if (typeof counted === 'number') throw tooMany(Math.ceil((counted - now) / 1000))
  return {
    async succeeded() {
      await catalog.transaction(async tx => {
        await tx.deleteFrom('password_tries').where('key', '=', pair).execute()
        for (const [one, limit] of counted.slice(1)) {
          const row = await readTries(tx, one)
          if (row) await writeTries(tx, one, Math.max(0, row.tries - 1), limit, Date.now())
        }
        await writeTries(tx, known, 0, pairLimit, Date.now())
      })
    },
  }
}

export function tooMany(seconds: number): HoldfastError {
  return new HoldfastError(
    'request.rate-limited',
    `Too many tries; the next one is possible in ${seconds} s.`,
    {
      context: { retryAfterSeconds: seconds },
    },
  )
}

export async function forgetTries(catalog: Catalog): Promise<void> {
  const before = (days: number) => new Date(Date.now() - days * dayMs).toISOString()
  await catalog.db
    .deleteFrom('password_tries')
    .where('last_at', '<', before(1))
    .where('tries', '>', 0)
    .execute()
  await catalog.db.deleteFrom('password_tries').where('last_at', '<', before(knownDays)).execute()
}

const readTries = (tx: CatalogDatabase, key: string) =>
  tx.selectFrom('password_tries').selectAll().where('key', '=', key).executeTakeFirst()

async function writeTries(tx: CatalogDatabase, key: string, tries: number, limit: Limit, now: number) {
  const pause =
    tries > limit.free ? Math.min(limit.longestSeconds, 2 ** Math.min(20, tries - limit.free - 1)) : 0
  const row = {
    tries,
    last_at: new Date(now).toISOString(),
    blocked_until: pause === 0 ? null : new Date(now + pause * 1000).toISOString(),
  }
  await tx
    .insertInto('password_tries')
    .values({ key, ...row })
    .onConflict(conflict => conflict.column('key').doUpdateSet(row))
    .execute()
}
