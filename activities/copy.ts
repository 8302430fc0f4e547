/**
 * Copying a backup to another destination. Whoever dies leaves an open upload there, and the next one goes on with it. A copy
 * that is given up is not marked as deleted: the backup lives elsewhere, and may be copied again.
 */
import { HoldfastError } from '../model/errors.ts'
import type { Manifest } from '../model/manifest.ts'
import type { CopyInput } from '../model/records.ts'
import {
  abortUploads,
  backupPrefix,
  committedAtOf,
  expectUndeleted,
  readKeySidecars,
  removeOtherAttempts,
  settled,
} from '../storage/backups.ts'
import { commitCopy, copyArtifact, copyKeySidecars } from '../storage/copy.ts'
import type { Destination } from '../storage/destination.ts'
import { openersOf } from '../storage/sidecars.ts'
import type { Turn } from './boundary.ts'
import { backupFacts } from './commit.ts'
import type { WorkerContext } from './context.ts'
import { fromCopies, isOfTheCopy, loadCopy } from './copies.ts'
import { writerEpoch } from './epoch.ts'
import type { PausableTurn } from './pausing.ts'

export interface Copied {
  /** The copy that was read. */
  from: string
  /** Bytes that went over the line in this run; parts sent before a crash are not sent again. */
  sentBytes: number
  warnings: string[]
}

/** The target takes objects, is ours, and does not hold it as deleted; one copy can be read. */
export async function precheckCopy(context: WorkerContext, turn: Turn, input: CopyInput): Promise<void> {
  const to = await context.destination(input.destination)
  if (await isThere(to, input)) return
  await to.check({ signal: turn.signal })
  await writerEpoch(context, input.destination)
  await expectUndeleted(to, input.sourceConnection, input.backupId)
  await fromCopies(context, turn, input, name => loadCopy(context, turn, input, name))
}

export async function copyArtifacts(
  context: WorkerContext,
  turn: PausableTurn,
  input: CopyInput,
): Promise<Copied> {
  const target = await context.destination(input.destination)
  if (await isThere(target, input)) return { from: input.copies[0] ?? '', sentBytes: 0, warnings: [] }
  await writerEpoch(context, input.destination)
  const { to, isTargets } = blaming(target)
  const { result, destination, warnings } = await fromCopies(
    context,
    turn,
    input,
    name => copyFrom(context, turn, input, name, to),
    error => !isTargets(error) && isOfTheCopy(error),
  )
  return { from: destination, sentBytes: result, warnings }
}

async function copyFrom(
  context: WorkerContext,
  turn: PausableTurn,
  input: CopyInput,
  name: string,
  to: Destination,
): Promise<number> {
  const { manifest } = await loadCopy(context, turn, input, name)
  const from = await context.destination(name)
  const totalBytes = manifest.artifacts.reduce((sum, entry) => sum + entry.storedBytes, 0)
  let before = 0
  let sent = 0
  for (const entry of manifest.artifacts) {
    turn.assertLease()
    const { sentBytes } = await copyArtifact({
      from,
      to,
      key: `${backupPrefix(input.sourceConnection, input.backupId)}${entry.object}`,
      entry,
      signal: turn.signal,
      pausing: turn.pausing,
      onProgress: bytes => turn.progress({ bytes: before + bytes, totalBytes, note: `from ${name}` }),
    })
    before += entry.storedBytes
    sent += sentBytes
  }
  return sent
}

/** Everything else of the backup, the manifest last. */
export async function commitCopied(
  context: WorkerContext,
  turn: Turn,
  input: CopyInput,
  from: string,
): Promise<void> {
  const to = await context.destination(input.destination)
  if (await isThere(to, input)) return
  await writerEpoch(context, input.destination)
  const source = await context.destination(from)
  turn.assertLease()
  await copyKeySidecars(source, to, await attemptFolder(context, turn, input, from), turn.signal)
  turn.assertLease()
  await commitCopy(source, to, input.sourceConnection, input.backupId)
}

/**
 * From the row on, whoever adds keys to a backup adds them to this copy, too. What was added before it was known is fetched
 * once more after that.
 */
export async function recordCopied(
  context: WorkerContext,
  turn: Turn,
  input: CopyInput,
  from: string,
): Promise<void> {
  const to = await context.destination(input.destination)
  const manifest = await committedIn(to, input)
  if (!manifest) {
    throw new HoldfastError('manifest.missing', `Backup ${input.backupId} is not committed in ${to.uri}.`)
  }
  const { destination, sourceConnection: connection, backupId } = input
  const committedAt = await committedAtOf(to, connection, backupId)
  await context.catalog.recordBackup(backupFacts(manifest, null), [{ destination, committedAt }])
  if (from !== destination) {
    const folder = `${backupPrefix(connection, backupId)}${manifest.attemptId}/`
    await copyKeySidecars(await context.destination(from), to, folder, turn.signal)
  }
  const openers = openersOf(manifest, await readKeySidecars(to, connection, backupId, manifest.attemptId))
  await context.catalog.recordOpeners({ destination, connection, backupId }, openers)
}

/** What other tries have left there. */
export async function cleanupCopied(context: WorkerContext, input: CopyInput): Promise<void> {
  const to = await context.destination(input.destination)
  const manifest = await committedIn(to, input)
  if (!manifest) return
  await removeOtherAttempts(to, input.sourceConnection, input.backupId, manifest.attemptId)
  await abortUploads(to, backupPrefix(input.sourceConnection, input.backupId))
}

/**
 * Answers true when it is there after all. Objects that are whole stay: a commit that is still on its way makes them a copy as
 * good as any, and a sweep finds them otherwise.
 */
export async function giveUpCopied(context: WorkerContext, turn: Turn, input: CopyInput): Promise<boolean> {
  const to = await context.destination(input.destination)
  if (await isThere(to, input)) {
    await recordCopied(context, turn, input, input.copies[0] ?? input.destination)
    return true
  }
  turn.assertLease()
  await abortUploads(to, backupPrefix(input.sourceConnection, input.backupId))
  return false
}

async function committedIn(to: Destination, input: CopyInput): Promise<Manifest | undefined> {
  const state = await settled(to, input.sourceConnection, input.backupId)
  if (state.state !== 'committed') return undefined
  const { signature: _signature, ...manifest } = state.signed
  return manifest
}

const isThere = async (to: Destination, input: CopyInput): Promise<boolean> =>
  (await committedIn(to, input)) !== undefined

async function attemptFolder(context: WorkerContext, turn: Turn, input: CopyInput, from: string) {
  const { manifest } = await loadCopy(context, turn, input, from)
  return `${backupPrefix(input.sourceConnection, input.backupId)}${manifest.attemptId}/`
}

/** A copying has two stores: an error of the target says nothing of the copy that is read. */
function blaming(target: Destination): { to: Destination; isTargets(error: HoldfastError): boolean } {
  const blamed = new WeakSet<HoldfastError>()
  const blame = (error: unknown): never => {
    if (error instanceof HoldfastError) blamed.add(error)
    throw error
  }
  const to = new Proxy(target, {
    get(store, name) {
      const method: unknown = Reflect.get(store, name)
      if (typeof method !== 'function') return method
      return (...args: unknown[]) => {
        const result: unknown = method.apply(store, args)
        return result instanceof Promise ? result.catch(blame) : result
      }
    },
  })
  return { to, isTargets: error => blamed.has(error) || error.code === 'destination.corrupted' }
}
