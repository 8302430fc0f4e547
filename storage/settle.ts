/**
 * Putting what must be there once: put if absent, where the store can; a lost answer or a lost race is settled by reading back.
 */
import { HoldfastError } from '../model/errors.ts'
import type { CallOptions, Destination } from './destination.ts'

/**
 * Returns the bytes that are there afterwards, ours or the winner's. Where the store has no conditional put, the last of
 * two racing writers wins; either is whole. Throws the put's error when nothing is there.
 */
export async function putOnce(
  destination: Destination,
  key: string,
  body: Uint8Array,
  options: CallOptions & { lasting?: boolean } = {},
): Promise<{ body: Uint8Array; ours: boolean }> {
  const { conditionalPut } = destination.capabilities
  let failure: unknown
  try {
    const there = conditionalPut ? undefined : await destination.read(key, options)
    if (there !== undefined) return { body: there, ours: same(there, body) }
    await destination.put(key, body, conditionalPut ? { ...options, ifAbsent: true } : options)
    if (conditionalPut) return { body, ours: true }
  } catch (error) {
    options.signal?.throwIfAborted()
    failure = error
  }
  const there = await destination.read(key, options)
  if (there !== undefined) return { body: there, ours: same(there, body) }
  throw (
    failure ??
    new HoldfastError('destination.corrupted', `Writing ${key}: it is not there after it was written.`)
  )
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0
