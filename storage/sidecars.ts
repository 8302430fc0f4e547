/** What the key sidecars of a backup say: whom it opens for, and the way to its data keys. The newest is asked first. */
import { HoldfastError } from '../model/errors.ts'
import type { KeySidecar, Manifest } from '../model/manifest.ts'
import type { Json } from '../model/types.ts'
import { wrappedFor } from './wrap.ts'

type Encrypted = Pick<Manifest, 'backupId' | 'attemptId' | 'artifacts'>

/** Each way that one artifact's data key was wrapped, newest sidecar first. */
export const wrappedKeysOf = (
  { attemptId }: Pick<Manifest, 'attemptId'>,
  sidecars: readonly KeySidecar[],
  artifact: string,
): Record<string, Json>[] =>
  sidecars
    .filter(sidecar => sidecar.attemptId === attemptId)
    .flatMap(sidecar => sidecar.artifacts.filter(({ name }) => name === artifact))
    .map(({ jwe }) => jwe)

/** Ids of the keys that open the whole backup; empty where nothing is encrypted. */
export function openersOf(manifest: Encrypted, sidecars: readonly KeySidecar[]): string[] {
  const each = manifest.artifacts
    .filter(({ encryption }) => encryption !== null)
    .map(({ name }) => new Set(wrappedKeysOf(manifest, sidecars, name).flatMap(wrappedFor)))
  return [...(each[0] ?? [])].filter(kid => each.every(kids => kids.has(kid)))
}

/**
 * The artifact's data key by whichever sidecar opens; null for one that is not encrypted. When none does, what is thrown is
 * what somebody can mend: a locked key before one that is not there.
 */
export async function dataKeyFrom(
  manifest: Encrypted,
  sidecars: readonly KeySidecar[],
  artifact: string,
  unwrap: (jwe: Record<string, Json>) => Promise<Uint8Array>,
): Promise<Uint8Array | null> {
  if (!manifest.artifacts.find(({ name }) => name === artifact)?.encryption) return null
  const failures: unknown[] = []
  for (const jwe of wrappedKeysOf(manifest, sidecars, artifact)) {
    try {
      return await unwrap(jwe)
    } catch (error) {
      failures.push(error)
    }
  }
  const telling = (error: unknown) => error instanceof HoldfastError && error.code !== 'key.missing'
  throw (
    failures.find(telling) ??
    failures[0] ??
    new HoldfastError('key.missing', `Backup ${manifest.backupId} has no key sidecar for "${artifact}".`)
  )
}
