/**
 * What the destinations say right now: do they answer, and is this backup there. Nothing is written, and a store that
 * does not answer costs seconds, not minutes.
 */

import { destinationSecrets, type StoredDestination } from '../../catalog/destinations.ts'
import { resolveSecrets } from '../../catalog/secret-references.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { BackupRecord } from '../../model/records.ts'
import type { ArchivedLogView } from '../../model/recovery-views.ts'
import type { StatusProblem } from '../../model/views.ts'
import { readKeySidecars, settled } from '../../storage/backups.ts'
import { boundTo } from '../../storage/bound.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { wrappedFor } from '../../storage/wrap.ts'
import type { ApiContext } from '../context.ts'
import { archiveIn } from '../recovery-windows.ts'

/** For one question; a destination that left one unanswered is not asked again in this round. */
const patienceMs = 5000

export interface Look {
  /** undefined: it answers. */
  trouble: StatusProblem | undefined
  /** undefined: not known, as it does not answer. */
  isThere(backup: BackupRecord): Promise<boolean | undefined>
  /** Ids of the keys that open the backup; undefined: not known. */
  keysOf(backup: BackupRecord): Promise<string[] | undefined>
  /** The archived log of a server; null: it has none. undefined: not known, as it does not answer or has a long list. */
  logOf(
    stream: { connection: string; systemIdentifier: string },
    bases: readonly BackupRecord[],
  ): Promise<ArchivedLogView | null | undefined>
  close(): Promise<void>
}

export async function lookAt(context: ApiContext, destination: StoredDestination): Promise<Look> {
  let opened: Destination | undefined
  const signal = AbortSignal.timeout(patienceMs)
  try {
    const secrets = await resolveSecrets(await destinationSecrets(context.catalog, destination.name))
    opened = await openDestination(destination, secrets, { shellOn: context.shellOn })
    const store = opened
    // Written when the destination was added: a directory without it may be a disk that is not mounted.
    if ((await answered(boundTo(signal, store).read('installation.json'), signal)) === undefined) {
      throw new HoldfastError(
        'destination.missing',
        `${destination.uri} answers, but holds no installation.json: it is empty, or another place than it was.`,
      )
    }
    let silent = false
    const ask = async <T>(question: (here: Destination) => Promise<T>): Promise<T | undefined> => {
      if (silent) return undefined
      const own = AbortSignal.timeout(patienceMs)
      try {
        return await answered(question(boundTo(own, store)), own)
      } catch (error) {
        silent ||= own.aborted
        if (error instanceof HoldfastError || own.aborted) return undefined
        throw error
      }
    }
    const { close } = opened
    return {
      trouble: undefined,
      isThere: async ({ connection, id }) => {
        const found = await ask(here => settled(here, connection, id))
        return found && found.state === 'committed'
      },
      keysOf: async ({ connection, id, manifest }) => {
        const sidecars = await ask(here => readKeySidecars(here, connection, id, manifest.attemptId))
        return sidecars?.flatMap(sidecar => sidecar.artifacts.flatMap(({ jwe }) => wrappedFor(jwe)))
      },
      logOf: async (stream, bases) => {
        if (silent) return undefined
        // A long list is no silence: what else is asked of it is answered.
        const own = AbortSignal.timeout(patienceMs)
        try {
          return (
            (await answered(archiveIn(destination.name, boundTo(own, store), stream, bases), own)) ?? null
          )
        } catch (error) {
          if (error instanceof HoldfastError || own.aborted) return undefined
          throw error
        }
      },
      close: () => close(),
    }
  } catch (error) {
    await opened?.close()
    if (!(error instanceof HoldfastError) && !signal.aborted) throw error
    return {
      trouble: troubleOf(destination, error),
      isThere: notKnown,
      keysOf: notKnown,
      logOf: notKnown,
      close: notKnown,
    }
  }
}

const notKnown = async () => undefined

/** A store's client may not listen to the signal while it resolves a name or tries again. */
async function answered<T>(question: Promise<T>, signal: AbortSignal): Promise<T> {
  question.catch(() => {})
  return await Promise.race([
    question,
    new Promise<never>((_, reject) => {
      if (signal.aborted) reject(signal.reason)
      else signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    }),
  ])
}

function troubleOf({ name, uri }: StoredDestination, error: unknown): StatusProblem {
  const { code, detail, hint } =
    error instanceof HoldfastError
      ? error.facts()
      : new HoldfastError(
          'destination.unreachable',
          `${uri} did not answer within ${patienceMs / 1000} seconds.`,
        ).facts()
  return {
    level: 'critical',
    code,
    detail: `Destination ${name}: ${detail}`,
    hint,
    command: `holdfast destination check ${name}`,
  }
}
