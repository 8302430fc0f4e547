/** How a destination is asked to keep what is written to it: words of requests and of stored settings. Not imported by workflows. */
import { z } from 'zod'

/** Until so many days after it was written an object cannot be removed. */
export const objectLock = z.strictObject({
  /** `governance`: whom the store allows it may end the lock early; `compliance`: nobody may, the owner of the account neither. */
  mode: z.enum(['governance', 'compliance']),
  days: z.int().min(1).max(36_500),
})

export type ObjectLock = z.infer<typeof objectLock>

/** The end of a lock that begins now. */
export const lockEnd = ({ days }: ObjectLock): Date => new Date(Date.now() + days * 86_400_000)
