/** Bringing back from an archive what a restore or a verification is going to read. */
import { HoldfastError } from '../model/errors.ts'
import type { Manifest } from '../model/manifest.ts'
import { artifactKey } from '../storage/backups.ts'
import type { Destination } from '../storage/destination.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { type Copies, fromCopies, loadCopy } from './copies.ts'

/** What of a backup cannot be read yet. */
export interface Frozen {
  /** Of the copy that is brought back. */
  destination: string
  objects: number
  bytes: number
  /** How long the store usually takes, from asking on. */
  hours: number
}

/** A copy of the store's stays readable for so long: for a restore, and a second one when the first went wrong. */
const thawedDays = 7

/** null: there is a copy that can be read, or none that answers. Else it is the first of them. */
export async function lookForFrozen(
  open: (destination: string) => Promise<Destination>,
  { copies, backupId, sourceConnection }: Omit<Copies, 'operationId'>,
  manifest: Manifest,
  ask: (destination: Destination, key: string) => Promise<void> = async () => {},
): Promise<Frozen | null> {
  const keys = manifest.artifacts.map(entry => artifactKey(sourceConnection, backupId, entry))
  let first: { frozen: Frozen; opened: Destination; archived: string[] } | undefined
  for (const name of copies) {
    try {
      const opened = await open(name)
      const found = await frozenAt(opened, name, keys)
      if (found === undefined) continue
      if (found.frozen.objects === 0) return null
      first ??= { ...found, opened }
    } catch (error) {
      // Another copy may answer; what is wrong with this one is said by whoever reads it.
      if (!(error instanceof HoldfastError)) throw error
    }
  }
  if (first === undefined) return null
  for (const key of first.archived) await ask(first.opened, key)
  return first.frozen
}

/** undefined: something of it is not there, so that nobody can read it. */
async function frozenAt(
  opened: Destination,
  destination: string,
  keys: readonly string[],
): Promise<{ frozen: Frozen; archived: string[] } | undefined> {
  const frozen: Frozen = { destination, objects: 0, bytes: 0, hours: 0 }
  const archived: string[] = []
  for (const key of keys) {
    const found = await opened.stat(key)
    if (found === undefined) return undefined
    if (found.frozen === undefined || opened.classes === undefined) continue
    frozen.objects += 1
    frozen.bytes += found.bytes
    frozen.hours = Math.max(frozen.hours, opened.classes.thawHours(found.storageClass ?? ''))
    if (found.frozen === 'archived') archived.push(key)
  }
  return { frozen, archived }
}

/**
 * Asks the store for what is archived, and tells what is still away. Asked again it changes nothing: the store knows what
 * was asked for, so that it may die at any point.
 */
export async function thawBackup(context: WorkerContext, turn: Turn, from: Copies): Promise<Frozen | null> {
  const { result: manifest } = await fromCopies(
    context,
    turn,
    from,
    async name => (await loadCopy(context, turn, from, name)).manifest,
  )
  const frozen = await lookForFrozen(context.destination, from, manifest, async (destination, key) => {
    turn.assertLease()
    await destination.classes?.thaw(key, thawedDays)
  })
  // It may not go back by itself: the next tiering looks where it is.
  if (frozen) await context.catalog.recordTier(from.backupId, frozen.destination, null)
  return frozen
}

export const frozenWords = ({ objects, hours }: Pick<Frozen, 'objects' | 'hours'>): string =>
  `${objects} object${objects === 1 ? '' : 's'} in an archive; bringing ${objects === 1 ? 'it' : 'them'} back usually takes ${hours} hours`
