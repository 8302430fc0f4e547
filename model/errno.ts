/** What a call to the operating system failed with. */
import { constants } from 'node:os'

/**
 * Its name, as `ENOSPC`. Node has no name for a quota that is used up: libuv does not know it ("Unknown system error -122").
 */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  if ('errno' in error && error.errno === -constants.errno.EDQUOT) return 'EDQUOT'
  return 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
