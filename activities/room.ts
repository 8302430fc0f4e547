/**
 * Room in staging. What an operation is still going to write there is promised to it in the catalog, so that two that begin at
 * once do not count on the same free bytes. Every run of a step that stages asks anew: the machine may have rebooted, or be
 * another one. A promise ends with the step, and with its operation at the latest, whatever became of the worker.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Host } from '../hosts/host.ts'
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { StagingClaim, StagingPromise, StagingRoom } from '../model/records.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'

/** So often it is told how much of a promise is written. What was written since counts twice until then, which errs on the safe side. */
const tellEveryMs = 5000
const namedPromises = 3

export const sized = (bytes: number) =>
  bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`

/** What is asked for, of which host's staging. */
export interface Need {
  operationId: string
  purpose: StagingClaim['purpose']
  bytes: number
}

/** Who else was promised something there, and is it enough? */
export type AskRoom = (
  found: Pick<StagingClaim, 'fileSystem' | 'bytes' | 'writtenBytes' | 'freeBytes'>,
) => Promise<StagingRoom>

/** As an operation asks. */
export const askAs =
  (context: Pick<WorkerContext, 'catalog'>, need: Need, how: StagingClaim['how']): AskRoom =>
  found =>
    context.catalog.claimStaging({ ...found, operationId: need.operationId, purpose: need.purpose, how })

/**
 * How much is free, in words. Throws `staging.full` where it is too little in any case, and `staging.promised` where it would
 * do if others had not been promised some of it.
 */
export async function expectRoom(
  host: Host,
  need: { bytes: number; writtenBytes?: number },
  ask: AskRoom,
): Promise<string> {
  const bytes = Math.ceil(need.bytes)
  const writtenBytes = need.writtenBytes ?? 0
  const missing = Math.max(0, bytes - writtenBytes)
  const fileSystem = await fileSystemOf(host)
  const freeBytes = await host.files.freeBytes(host.stagingRoot)
  const where = `${host.stagingRoot} on host ${host.name}`
  const context = { host: host.name, path: host.stagingRoot, freeBytes, neededBytes: missing }
  if (freeBytes < missing) {
    throw new HoldfastError(
      'staging.full',
      `Staging has ${sized(freeBytes)} free in ${where}; the staged copy needs about ${sized(missing)}.`,
      { context },
    )
  }
  const { granted, promised } = await ask({ fileSystem, bytes, writtenBytes, freeBytes })
  const words = promisedWords(promised)
  if (!granted) {
    throw new HoldfastError(
      'staging.promised',
      `Of ${sized(freeBytes)} free in ${where} ${words}; the staged copy needs about ${sized(missing)}.`,
      { context },
    )
  }
  return promised.length === 0
    ? `${sized(freeBytes)} free in ${where}`
    : `Of ${sized(freeBytes)} free in ${where} ${words}`
}

function promisedWords(promised: readonly StagingPromise[]): string {
  const bytes = sized(promised.reduce((sum, one) => sum + one.bytes, 0))
  const named = promised.slice(0, namedPromises).map(one => `${one.operation} (${one.connection})`)
  const others = promised.length - named.length
  return `${bytes} are promised to ${named.join(', ')}${others > 0 ? ` and ${others} more` : ''}`
}

/**
 * Of all machines; the same for two staging directories on one disk. A machine has another name for it after each boot, when
 * nothing of what ran before it runs any more.
 */
async function fileSystemOf({ name, files, stagingRoot }: Host): Promise<string> {
  const boot = await files.readSmall('/proc/sys/kernel/random/boot_id').catch(() => undefined)
  const device = (await files.stat(stagingRoot))?.inode.split(':')[0] ?? stagingRoot
  return `${boot?.trim() || name}:${device}`.slice(0, 200)
}

/**
 * Runs what writes to staging. Before anything of it is there, the room is asked for, and `staging.full` or `staging.promised`
 * thrown; what has begun goes on.
 */
export async function withRoom<T>(
  context: Pick<WorkerContext, 'catalog'>,
  turn: Turn,
  host: Host,
  need: Need,
  work: () => Promise<T>,
): Promise<T> {
  if (need.bytes === 0) return await work()
  const directory = host.stagingDir(need.operationId)
  const written = async () => await host.files.size(directory)
  const begun = await written()
  if (begun === 0) await expectRoom(host, need, askAs(context, need, 'ask'))
  else await tell(begun)
  const ended = new AbortController()
  const telling = tellNowAndThen()
  const toldAll = async () => {
    ended.abort()
    await telling
  }
  const release = async () => {
    turn.assertLease()
    await context.catalog.releaseStaging(need.operationId, need.purpose)
  }
  try {
    const done = await work()
    await toldAll()
    await release()
    return done
  } catch (error) {
    await toldAll()
    // It may stand still for days now. Where something is left it goes on with that, and needs the rest.
    const emptied = !turn.signal.aborted && (await written().catch(() => undefined)) === 0
    if (emptied) await release().catch(() => {})
    throw error
  }

  async function tell(writtenBytes: number): Promise<void> {
    turn.assertLease()
    const found = {
      fileSystem: await fileSystemOf(host),
      bytes: Math.ceil(need.bytes),
      writtenBytes,
      freeBytes: 0,
    }
    await askAs(context, need, 'tell')(found)
  }
  async function tellNowAndThen(): Promise<void> {
    while (!ended.signal.aborted) {
      await sleep(tellEveryMs, undefined, { signal: ended.signal }).catch(() => {})
      // The promise stands as it was told last; the step does not depend on it.
      if (!ended.signal.aborted)
        await written()
          .then(tell)
          .catch(() => {})
    }
  }
}

/** What a full disk leaves somebody to guess: whose, where, and how much there is. */
export async function placedTrouble(host: Host, error: unknown): Promise<unknown> {
  if (!hasCode(error, 'staging.full', 'staging.quota', 'staging.permission', 'staging.read-only'))
    return error
  // A check, or who was nearer to it, has said so.
  if (error.context.host !== undefined || error.context.check !== undefined) return error
  const room = hasCode(error, 'staging.full', 'staging.quota')
  const freeBytes = room ? await host.files.freeBytes(host.stagingRoot).catch(() => undefined) : undefined
  const free = freeBytes === undefined ? '' : `; the file system has ${sized(freeBytes)} free`
  return new HoldfastError(
    error.code,
    `${error.message.replace(/\.?$/, '.')} Staging is ${host.stagingRoot} on host ${host.name}${free}.`,
    {
      hint: error.hint,
      context: {
        ...error.context,
        host: host.name,
        path: host.stagingRoot,
        ...(freeBytes === undefined ? {} : { freeBytes }),
      },
      cause: error,
    },
  )
}
