/** What verifications of a backup add up to. Pure. */
import { type VerifyLevel, verifyLevels } from './types.ts'

export interface Verified {
  at: string
  level: VerifyLevel
  ok: boolean
  detail: string
  /** When each level last found it whole; a deeper one proves what lies below it. */
  proven?: Partial<Record<VerifyLevel, string>>
}

const depth = (level: VerifyLevel): number => verifyLevels.indexOf(level)

/**
 * What is remembered after one more answer. Damage stays until a look that is as deep finds none: an object that is there is
 * not whole for that. In the same way a look at sizes does not take the place of one that read every byte.
 */
export function afterLook(known: Verified | null, now: Verified): Verified {
  const proven = { ...known?.proven }
  if (now.ok) {
    for (const level of verifyLevels) if (depth(level) <= depth(now.level)) proven[level] = now.at
  }
  const stands = known !== null && now.ok && depth(now.level) < depth(known.level)
  return { ...(stands ? known : now), proven }
}

/** When it was last found whole by this level or a deeper one; undefined: never. */
export const provenAt = (verified: Verified | null, level: VerifyLevel): string | undefined =>
  verified?.proven?.[level]
