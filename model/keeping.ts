/** How a destination is asked to keep what is written to it: words of requests and of stored settings. Not imported by workflows. */
import { z } from 'zod'

/** Until so many days after it was written an object cannot be removed. */
export const objectLock = z.strictObject({
  /** `governance`: whom the store allows it may end the lock early; `compliance`: nobody may, the owner of the account neither. */
  mode: z.enum(['governance', 'compliance']),
  days: z.int().min(1).max(36_500),
})

/** In which class of the store artifacts lie from which age on: each tier after the one before it, and colder. */
export const tierList = z
  .array(
    z.strictObject({
      afterDays: z.int().min(1).max(36_500),
      class: z.string().regex(/^[A-Za-z][A-Za-z0-9_]{0,39}$/),
    }),
  )
  .min(1)
  .max(5)

export type Tier = z.infer<typeof tierList>[number]

/** undefined: too young for any. `colder`: the classes that come after it. */
export function dueTier(
  tiers: readonly Tier[],
  since: string,
  at: string,
): { class: string; colder: string[] } | undefined {
  const days = (Date.parse(at) - Date.parse(since)) / 86_400_000
  const index = tiers.findLastIndex(({ afterDays }) => days >= afterDays)
  const due = tiers[index]
  return due && { class: due.class, colder: tiers.slice(index + 1).map(tier => tier.class) }
}

export type ObjectLock = z.infer<typeof objectLock>

/** The end of a lock that begins now. */
export const lockEnd = ({ days }: ObjectLock): Date => new Date(Date.now() + days * 86_400_000)
