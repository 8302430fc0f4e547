import { HoldfastError } from '../model/errors.ts'

/** Largest object that `put` writes and `read` reads whole, in bytes. */
export const maxSmallBytes = 16 * 1024 * 1024

/** What `put` is given. Throws `request.invalid`. */
export function expectSmall(key: string, body: Uint8Array): void {
  if (body.length <= maxSmallBytes) return
  throw new HoldfastError(
    'request.invalid',
    `"${key}" has ${body.length} bytes; put takes ${maxSmallBytes} at most.`,
  )
}

/** What `read` is to throw for an object of this size, before it reads it; undefined when it may. `object`: in words. */
export const tooLargeToRead = (object: string, bytes: number): HoldfastError | undefined =>
  bytes > maxSmallBytes
    ? new HoldfastError(
        'request.too-large',
        `${object} has ${bytes} bytes; only ${maxSmallBytes} are read at once.`,
      )
    : undefined
