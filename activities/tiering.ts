/** Artifacts move into colder classes of their store. Manifests, keys and markers stay at hand. */
import { errorClass, HoldfastError } from '../model/errors.ts'
import type { TieringInput, TierMove } from '../model/records.ts'
import { backupPrefix, settled } from '../storage/backups.ts'
import { boundTo } from '../storage/bound.ts'
import { missingObject } from '../storage/classes.ts'
import type { Destination } from '../storage/destination.ts'
import { verifyManifest } from '../storage/manifest.ts'
import type { WorkerContext } from './context.ts'
import { writerEpoch } from './epoch.ts'
import type { PausableTurn } from './pausing.ts'

export interface Moved {
  /** Backups, of those that were due when this run began. */
  moved: number
  /** In use, or brought back from an archive not long ago: for another time. */
  passed: number
  left: { backup: string; code: string; detail: string }[]
  /** More than `left` names. */
  leftCount: number
}

/** What is named one by one: Temporal's histories are not for lists of thousands. */
const namedOnes = 50

/**
 * Goes over what is due. What was moved is known to the catalog and is not due any more, so whoever is killed here goes on where it
 * stopped. A backup that cannot be moved keeps no other one.
 */
export async function moveTiers(
  context: WorkerContext,
  turn: PausableTurn,
  input: TieringInput,
): Promise<Moved> {
  const destination = await context.destination(input.destination)
  const stop = AbortSignal.any([turn.signal, turn.pausing])
  const due = await context.catalog.dueMoves(input.operationId)
  const trusted = await context.catalog.trustedInstallations()
  const answer: Moved = { moved: 0, passed: 0, left: [], leftCount: 0 }
  for (const [index, move] of due.entries()) {
    stop.throwIfAborted()
    turn.progress({ note: `${index} of ${due.length} backups` })
    try {
      const moved = await moveOne(context, turn, input, boundTo(stop, destination), move, trusted)
      if (moved) answer.moved += 1
      else answer.passed += 1
    } catch (error) {
      if (!(error instanceof HoldfastError) || !isAboutTheBackup(error)) throw error
      answer.leftCount += 1
      const { code, message } = error
      if (answer.left.length < namedOnes) answer.left.push({ backup: move.backupId, code, detail: message })
    }
  }
  return answer
}

/** Of this backup alone; anything else stands in the way of all of them. */
const isAboutTheBackup = ({ code }: HoldfastError): boolean =>
  /^(artifact|manifest|backup)\./.test(code) ||
  code === 'destination.locked' ||
  (code.startsWith('destination.object') && errorClass(code) === 'permanent')

async function moveOne(
  context: WorkerContext,
  turn: PausableTurn,
  { destination: name }: TieringInput,
  destination: Destination,
  { backupId, connection, to, colder }: TierMove,
  trusted: Record<string, Record<string, string>>,
): Promise<boolean> {
  if (!(await context.catalog.mayMove(name, backupId))) return false
  const state = await settled(destination, connection, backupId)
  if (state.state !== 'committed') return false
  const { artifacts } = await verifyManifest(state.signed, trusted)
  await writerEpoch(context, name)
  for (const { object } of artifacts) {
    const key = `${backupPrefix(connection, backupId)}${object}`
    const there = await destination.stat(key)
    if (there === undefined) throw missingObject(`${destination.uri}/${key}`)
    // Somebody paid for bringing it back, and is not through with it.
    if (there.thawed) return false
    // In an archive, by whatever way it came there, it is as cold as it gets.
    if (there.frozen || colder.includes(there.storageClass ?? '')) continue
    turn.assertLease()
    await destination.move?.(key, to)
  }
  await context.catalog.recordTier(backupId, name, to)
  return true
}
