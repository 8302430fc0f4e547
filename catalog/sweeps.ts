/**
 * What a sweep asks and is told: whose a folder at a store is, whether it may go now, what went. A sweep claims a folder before it
 * removes something there, by a pin of its own: while it has it, nobody is let begin to copy that backup there.
 */
import { createHash } from 'node:crypto'
import { type ErrorFacts, HoldfastError, isErrorCode } from '../model/errors.ts'
import { isSpoolOf } from '../model/log-stream.ts'
import type { SweptItem } from '../model/records.ts'
import { closedStates } from '../model/types.ts'
import { listDestinations, markReadOnly, readOwnDestination } from './destinations.ts'
import type { CatalogDatabase } from './dialect.ts'
import { hasWorker, listHosts } from './hosts.ts'
import { appendLog, readLog } from './log.ts'
import { listLogStreams } from './log-streams.ts'
import type { Catalog } from './open.ts'
import { isClosed, readOperation } from './operations.ts'
import { isInUse, oldestOpenSince } from './pins.ts'

const recentMs = 30 * 24 * 3600 * 1000
/** A statement takes a limited number of values. */
const some = 500

export type Standing =
  /** An operation is at work on it there, or it is to be copied there. */
  | { state: 'in use' }
  /** Every operation of ours that wrote there is closed. */
  | {
      state: 'ended'
      /** Attempts of ours were to be there; else it was only copied there, or read into the catalog. */
      attempted: boolean
      /** As the catalog has it, a whole copy lies there. */
      here: boolean
      /** The same of another destination. */
      elsewhere: boolean
    }
  /** `openSince`: when the oldest open operation began that uses or makes something at this destination. */
  | { state: 'unknown'; openSince: string | null }

/** The destinations and machines over SSH that this sweep is to go over. */
export async function planSweep(
  catalog: Catalog,
  operationId: string,
): Promise<{ destinations: string[]; hosts: string[]; only: boolean }> {
  const { input } = await readOperation(catalog, operationId)
  if (!('unknown' in input)) throw new HoldfastError('internal', `${operationId} is no sweep.`)
  if (input.destination !== null) {
    return {
      destinations: [(await readOwnDestination(catalog, input.destination)).name],
      hosts: [],
      only: true,
    }
  }
  return {
    destinations: (await listDestinations(catalog)).map(({ name }) => name),
    // One with a worker of its own is kept clear by that one.
    hosts: (await listHosts(catalog)).filter(host => !hasWorker(host)).map(({ name }) => name),
    only: false,
  }
}

/** One answer for each of these backups, in their order. To be asked after the store was looked at. */
export async function standings(
  catalog: Catalog,
  operationId: string,
  destination: string,
  backupIds: readonly string[],
): Promise<Standing[]> {
  const answers: Standing[] = []
  for (const backupId of backupIds) {
    answers.push(await standingOf(catalog.db, operationId, destination, backupId))
  }
  return answers
}

/**
 * The same of one, and in the same transaction it is claimed unless it is in use; the former claim of this sweep is given up.
 * Throws `operation.conflict` once the sweep is closed.
 */
export async function claimLeftovers(
  catalog: Catalog,
  operationId: string,
  destination: string,
  backupId: string,
): Promise<Standing> {
  return await catalog.transaction(async tx => {
    const sweep = await tx
      .selectFrom('operations')
      .select('state')
      .where('id', '=', operationId)
      .executeTakeFirst()
    if (!sweep || isClosed(sweep.state)) {
      throw new HoldfastError(
        'operation.conflict',
        `Sweep ${operationId} is closed; it removes nothing more.`,
      )
    }
    await tx.deleteFrom('pins').where('operation_id', '=', operationId).execute()
    const standing = await standingOf(tx, operationId, destination, backupId)
    if (standing.state !== 'in use') {
      await tx
        .insertInto('pins')
        .values({ operation_id: operationId, backup_id: backupId, destination })
        .execute()
    }
    return standing
  })
}

export async function unclaim(catalog: Catalog, operationId: string): Promise<void> {
  await catalog.db.deleteFrom('pins').where('operation_id', '=', operationId).execute()
}

async function standingOf(
  db: CatalogDatabase,
  operationId: string,
  destination: string,
  backupId: string,
): Promise<Standing> {
  const now = new Date().toISOString()
  if (await isInUse(db, { destination, backupId, now, but: operationId })) return { state: 'in use' }
  const attempts = await db
    .selectFrom('attempts')
    .leftJoin('operations', 'operations.id', 'attempts.operation_id')
    .select(['attempts.attempt_id', 'operations.state'])
    .where('attempts.backup_id', '=', backupId)
    .execute()
  if (attempts.some(({ state }) => state !== null && !isClosed(state))) return { state: 'in use' }
  const copies = await db
    .selectFrom('copies')
    .select(['destination', 'state'])
    .where('backup_id', '=', backupId)
    .execute()
  const attempted = await db
    .selectFrom('attempt_destinations')
    .innerJoin('attempts', 'attempts.attempt_id', 'attempt_destinations.attempt_id')
    .select('attempts.attempt_id')
    .where('attempts.backup_id', '=', backupId)
    .where('attempt_destinations.destination', '=', destination)
    .executeTakeFirst()
  if (attempted === undefined && copies.length === 0) {
    return { state: 'unknown', openSince: (await oldestOpenSince(db, destination)) ?? null }
  }
  const whole = copies.filter(({ state }) => state === 'committed').map(copy => copy.destination)
  return {
    state: 'ended',
    attempted: attempted !== undefined,
    here: whole.includes(destination),
    elsewhere: whole.some(name => name !== destination),
  }
}

/**
 * Backups of the last thirty days that closed operations were to make there and that are not there as far as the catalog knows:
 * one that was ended from outside may not have been marked as given up.
 */
export async function recentlyEnded(
  catalog: Catalog,
  destination: string,
): Promise<{ connection: string; backupId: string }[]> {
  const rows = await catalog.db
    .selectFrom('attempts')
    .innerJoin('attempt_destinations', 'attempt_destinations.attempt_id', 'attempts.attempt_id')
    .innerJoin('operations', 'operations.id', 'attempts.operation_id')
    .leftJoin('copies', 'copies.backup_id', 'attempts.backup_id')
    .select(['attempts.connection', 'attempts.backup_id'])
    .distinct()
    .where('attempt_destinations.destination', '=', destination)
    .where('operations.state', 'in', [...closedStates])
    .where('attempts.created_at', '>', new Date(Date.now() - recentMs).toISOString())
    .where('copies.backup_id', 'is', null)
    .execute()
  return rows.map(row => ({ connection: row.connection, backupId: row.backup_id }))
}

/** Of what lies in a staging directory. What is unknown is left out. To be asked after the machine was looked at. */
export async function statesOf(
  catalog: Catalog,
  operationIds: readonly string[],
): Promise<Record<string, 'open' | 'closed'>> {
  const states: Record<string, 'open' | 'closed'> = {}
  for (let start = 0; start < operationIds.length; start += some) {
    const rows = await catalog.db
      .selectFrom('operations')
      .select(['id', 'state'])
      .where('id', 'in', operationIds.slice(start, start + some))
      .execute()
    for (const { id, state } of rows) states[id] = isClosed(state) ? 'closed' : 'open'
  }
  // What of a log was received and not archived yet lies there, also while it is stopped.
  const streamed = await listLogStreams(catalog)
  for (const id of operationIds) {
    if (streamed.some(({ connection }) => isSpoolOf(id, connection))) states[id] = 'open'
  }
  return states
}

const lineOf = (item: SweptItem): string => {
  const what = item.what.replaceAll(/\s+/g, ' ')
  if (item.became === 'removed') return `removed ${what}`
  return `skipped ${what}: ${item.code}: ${item.detail.replaceAll(/\s+/g, ' ')}`
}

function itemOf(line: string): SweptItem[] {
  const [, became, rest = ''] = /^(removed|skipped) (.*)$/.exec(line) ?? []
  if (became === 'removed') return [{ became, what: rest }]
  const [, what, code, detail] = /^(.*?): ([a-z-]+\.[a-z-]+): (.*)$/.exec(rest) ?? []
  if (became !== 'skipped' || what === undefined || !isErrorCode(code)) return []
  return [{ became, what, code, detail: detail ?? '' }]
}

/**
 * Keeps what is being removed, or is left, at a place, in the operation's log; told twice, it is kept once. Answers how much
 * the sweep has told of this place so far, whoever told it.
 */
export async function noteSwept(
  catalog: Catalog,
  operationId: string,
  place: string,
  items: readonly SweptItem[],
): Promise<{ removed: number; skipped: number }> {
  if (items.length > 0) {
    const text = items.map(lineOf).join('\n')
    const id = createHash('sha256').update(`${place}\n${text}`).digest('hex')
    await appendLog(catalog, operationId, { id, at: new Date().toISOString(), source: place, text })
  }
  const { removed, skipped } = await sweptBy(catalog, operationId, place)
  return { removed: removed.length, skipped: skipped.length }
}

/** A place that could not be swept. */
export async function noteUnswept(
  catalog: Catalog,
  operationId: string,
  place: string,
  { code, detail }: Pick<ErrorFacts, 'code' | 'detail'>,
): Promise<void> {
  await noteSwept(catalog, operationId, place, [{ became: 'skipped', what: place, code, detail }])
  if (code === 'destination.read-only') await markReadOnly(catalog, place, true)
}

export interface Swept {
  removed: string[]
  skipped: { what: string; code: string; detail: string }[]
}

/** What a sweep has told, in its order. */
export async function sweptBy(catalog: Catalog, operationId: string, place?: string): Promise<Swept> {
  const removed = new Set<string>()
  const skipped = new Map<string, Swept['skipped'][number]>()
  for (let after = 0; ; ) {
    const entries = await readLog(catalog, operationId, after, some)
    for (const { source, text } of entries) {
      if (place !== undefined && source !== place) continue
      for (const item of text.split('\n').flatMap(itemOf)) {
        if (item.became === 'removed') removed.add(item.what)
        else skipped.set(item.what, { what: item.what, code: item.code, detail: item.detail })
      }
    }
    const last = entries.at(-1)
    if (last === undefined || entries.length < some) break
    after = last.seq
  }
  // What could not be removed in the end was told as removed before.
  for (const what of skipped.keys()) removed.delete(what)
  return { removed: [...removed], skipped: [...skipped.values()] }
}
