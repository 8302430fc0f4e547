/** What is said of an object that the store keeps from being removed. */
import { HoldfastError } from '../model/errors.ts'
import type { Protection } from './destination.ts'

/** Whether it keeps the object from being removed now. */
export const isProtected = (protection: Protection | undefined): boolean =>
  protection?.legalHold === true || (protection?.lockedUntil?.getTime() ?? 0) > Date.now()

/** `protection`: what the store tells of it, if it does. */
export function lockedObject(object: string, protection: Protection | undefined): HoldfastError {
  const until = protection?.lockedUntil?.toISOString()
  const why = [
    ...(until === undefined ? [] : [`it is locked until ${until}`]),
    ...(protection?.legalHold ? ['it is under a legal hold'] : []),
  ]
  return new HoldfastError(
    'destination.locked',
    `${object} cannot be removed: ${why.join(', and ') || 'the store says that it is locked'}.`,
    {
      context: {
        ...(until === undefined ? {} : { lockedUntil: until }),
        ...(protection?.legalHold ? { legalHold: true } : {}),
      },
    },
  )
}

/**
 * An object that was to be locked and is not is none of ours: some stores take the words and forget them. `seen`: what the store
 * says of it. Throws `destination.misconfigured`.
 */
export function expectProtection(
  object: string,
  seen: Protection | undefined,
  asked: { locked: boolean; held: boolean },
): void {
  const locked = !asked.locked || seen?.lockedUntil !== undefined
  const held = !asked.held || seen?.legalHold === true
  if (locked && held) return
  throw new HoldfastError(
    'destination.misconfigured',
    `${object} was to be ${locked ? 'under a legal hold' : 'locked'}, and the store did not do it.`,
    {
      hint: 'The store knows no such locks, or its bucket or container was not made for them: use one that was, or take objectLock and legalHold off the destination.',
    },
  )
}
