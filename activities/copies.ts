/**
 * Which copy of a backup is read: the first that answers and is whole. One that is not is passed over before the tool has got
 * a byte, or with all that was begun from it begun anew from the next; and that is said.
 */
import { errorClass, HoldfastError } from '../model/errors.ts'
import { isForeignId } from '../model/foreign.ts'
import type { KeySidecar, Manifest } from '../model/manifest.ts'
import { loadBackup } from '../storage/backups.ts'
import { boundTo } from '../storage/bound.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { loadForeign } from './foreign.ts'
import { logOf } from './log.ts'

/** What says where a backup lies. */
export interface Copies {
  operationId: string
  backupId: string
  /** The connection folder it was written under. */
  sourceConnection: string
  /** Destinations, in the order in which they are tried. */
  copies: string[]
}

/** Where there is another one, a copy that does not answer is not waited for longer. */
const answerSeconds = 20

/**
 * Does `work` with the first copy it can be done with. Errors that are the copy's pass it over; others are thrown. Throws
 * of all copies' errors the one that is most likely to pass.
 */
export async function fromCopies<T>(
  context: WorkerContext,
  turn: Turn,
  from: Copies,
  work: (destination: string) => Promise<T>,
  passesOver = isOfTheCopy,
): Promise<{ result: T; destination: string; warnings: string[] }> {
  const failures: { destination: string; error: HoldfastError }[] = []
  const log = logOf(context, from.operationId, {})
  for (const destination of from.copies) {
    try {
      const result = await work(destination)
      const warnings = failures.map(
        failed =>
          `The copy at ${failed.destination} was passed over (${failed.error.message}) for ${destination}.`,
      )
      for (const warning of warnings) await log('copies', warning)
      return { result, destination, warnings }
    } catch (error) {
      turn.signal.throwIfAborted()
      if (!(error instanceof HoldfastError) || !passesOver(error)) throw error
      failures.push({ destination, error })
    }
  }
  throw mostHopeful(failures.map(({ error }) => error))
}

/** Of one copy. Does not wait long for a store where there is another one. */
export async function loadCopy(
  context: WorkerContext,
  turn: Turn,
  { backupId, sourceConnection, copies }: Copies,
  destination: string,
): Promise<{ manifest: Manifest; keys: KeySidecar[] }> {
  const opened = await context.destination(destination)
  if (isForeignId(backupId)) return { manifest: await loadForeign(context, opened, backupId), keys: [] }
  const trusted = await context.catalog.trustedInstallations()
  if (copies.length === 1) return await loadBackup(opened, sourceConnection, backupId, trusted)
  const late = AbortSignal.timeout(answerSeconds * 1000)
  try {
    const bound = boundTo(AbortSignal.any([turn.signal, late]), opened)
    return await loadBackup(bound, sourceConnection, backupId, trusted)
  } catch (error) {
    if (!late.aborted || turn.signal.aborted) throw error
    throw new HoldfastError(
      'destination.unreachable',
      `Reading ${opened.uri}: it did not answer within ${answerSeconds} seconds.`,
      { cause: error },
    )
  }
}

/** Another copy may do where this one does not. */
export const isOfTheCopy = ({ code }: HoldfastError): boolean =>
  /^(destination|manifest|artifact|backup)\./.test(code) || code === 'key.missing'

/** For who asks what a copy is worth: its damage is the answer, and only one that cannot be asked is passed over. */
export const isAway = (error: HoldfastError): boolean =>
  error.code === 'destination.archived' ||
  (error.code.startsWith('destination.') && errorClass(error.code) !== 'permanent')

/** What is tried again or mended comes before what stays as it is. */
export function mostHopeful(errors: readonly HoldfastError[]): HoldfastError {
  const hopes = ['transient', 'throttled', 'needs-operator'] as const
  for (const hope of hopes) {
    const found = errors.find(error => errorClass(error.code) === hope)
    if (found) return found
  }
  return errors[0] ?? new HoldfastError('backup.not-found', 'There is no copy of the backup to read.')
}
