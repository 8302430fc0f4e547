/**
 * Several destinations of one backup. Whoever asks does so at each; one that cannot is lost for this pass and gets its copy
 * afterwards, as long as another one can.
 */
import type { HoldfastError } from '../model/errors.ts'
import type { BackupInput, Lost } from '../model/records.ts'
import { borne, isOfDestination } from '../storage/retry.ts'
import type { Turn } from './boundary.ts'
import { mostHopeful } from './copies.ts'

/** Where there is another one, a store in trouble is not waited for longer. */
const patienceSeconds = 20

/** One after another, in their order. Throws when none can: what is most likely to pass. */
export async function atEach<T>(
  turn: Pick<Turn, 'signal'>,
  destinations: readonly string[],
  act: (destination: string) => Promise<T>,
): Promise<{ done: Map<string, T>; lost: Lost[] }> {
  const { done, failures } = await tryEach(turn, destinations, act)
  if (done.size === 0 && failures.size > 0) throw mostHopeful([...failures.values()])
  return { done, lost: lostOf(failures) }
}

/** The same where others may stand in: that none can is an answer. */
export async function tryEach<T>(
  turn: Pick<Turn, 'signal'>,
  destinations: readonly string[],
  act: (destination: string) => Promise<T>,
): Promise<{ done: Map<string, T>; failures: Map<string, HoldfastError> }> {
  const done = new Map<string, T>()
  const failures = new Map<string, HoldfastError>()
  for (const destination of destinations) {
    try {
      done.set(
        destination,
        await (destinations.length > 1
          ? borne(patienceSeconds, turn.signal, () => act(destination))
          : act(destination)),
      )
    } catch (error) {
      turn.signal.throwIfAborted()
      if (!isOfDestination(error)) throw error
      failures.set(destination, error)
    }
  }
  return { done, failures }
}

export const lostOf = (failures: ReadonlyMap<string, HoldfastError>): Lost[] =>
  [...failures].map(([destination, { code, message }]) => ({ destination, code, detail: message }))

/** Wherever it may lie: where it was asked to, and where it may have gone instead. */
export const placesOf = ({ destinations, failover }: BackupInput): string[] => [
  ...new Set([...destinations, ...Object.values(failover)]),
]

/** What stands in for those that are lost, and is not used yet. */
export const standIns = (
  { failover }: BackupInput,
  lost: readonly Lost[],
  used: readonly string[],
): string[] =>
  [...new Set(lost.flatMap(({ destination }) => failover[destination] ?? []))].filter(
    name => !used.includes(name),
  )
