/**
 * Watches how servers archive their log: asks each of them now and again, lists its archives less often, has somebody told of what
 * is new, and answers a hole that nobody could mend with a base backup, and a recovered copy that has become the server.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { listConnections, type StoredConnection } from '../catalog/connections.ts'
import { findLogStream } from '../catalog/log-streams.ts'
import { readWatched, recordWatched } from '../catalog/log-watch.ts'
import { engineOf } from '../engines/index.ts'
import { systemIdentifierOf } from '../model/base-backups.ts'
import { HoldfastError } from '../model/errors.ts'
import {
  type Alarm,
  gapToAnswer,
  isWatched,
  type LogLook,
  type LogSeen,
  type SeenGap,
  timelineToLookAt,
  type Watched,
  watched,
} from '../model/log-alarms.ts'
import { askArchiving } from './archiving.ts'
import type { ApiContext } from './context.ts'
import { recoveryWindowsOf } from './recovery-windows.ts'
import { furthest } from './status/log.ts'
import { beginBase, isMade, renewedOn } from './unasked-base.ts'

/** A long archive takes many requests to list. */
const looksPerListing = 12
/** A server that does not answer takes a minute: the others do not wait for it. */
const sideBySide = 8

/** A server that does not answer keeps nobody from ending this process: its look is made again. */
const endingMs = 2000

/** Returned is what ends it. */
export function startLogWatch(context: ApiContext): () => Promise<void> {
  const ending = new AbortController()
  const rounds = (async () => {
    for (;;) {
      await sleep(context.settings.logWatchSeconds * 1000, undefined, { signal: ending.signal })
      await everyLog(context).catch(error => {
        context.log.error('watching logs failed', { reason: reasonOf(error) })
      })
    }
  })()
  return async () => {
    ending.abort()
    const ended = rounds.catch(() => {
      // It was told to end.
    })
    await Promise.race([ended, sleep(endingMs)])
  }
}

/** One of the processes is enough. */
async function everyLog(context: ApiContext): Promise<void> {
  if (!(await context.catalog.presence.lead())) return
  const connections = (await listConnections(context.catalog)).filter(
    ({ engine, serverIdentity }) =>
      engineOf(engine).archiving !== undefined && systemIdentifierOf(serverIdentity) !== undefined,
  )
  const next = connections.values()
  const each = async () => {
    for (const connection of next) {
      await lookAtLog(context, connection).catch(error => {
        context.log.warn('the log of a server could not be watched', {
          connection: connection.name,
          reason: reasonOf(error),
        })
      })
    }
  }
  await Promise.all(Array.from({ length: sideBySide }, each))
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

async function lookAtLog(context: ApiContext, connection: StoredConnection): Promise<void> {
  const { catalog, settings } = context
  const before = await readWatched(catalog, connection.name)
  const at = new Date().toISOString()
  const listAfterMs = looksPerListing * settings.logWatchSeconds * 1000
  const list = before?.listedAt == null || Date.parse(at) - Date.parse(before.listedAt) >= listAfterMs
  const stream = await findLogStream(catalog, connection.name)
  const look: LogLook = {
    at,
    ...(stream?.wanted === 'running' ? { stream } : {}),
    server: await askArchiving(context, connection).catch(quietly),
    log: list ? await seenLog(context, connection) : undefined,
  }
  if (!isWatched(before, look)) return
  const now = watched(before, look)
  const gap = gapToAnswer(before, now)
  if (gap) now.base = await answeredWith(context, connection, gap, now.base)
  const timeline = timelineToLookAt(before, now)
  if (timeline !== undefined) now.renewed = await renewedOn(context, connection, timeline, now.renewed)
  now.alarms = await toldOf(context, connection.name, now.alarms, now.base)
  await toldOfMended(context, connection.name, before, now)
  await recordWatched(catalog, connection.name, now)
}

const quietly = (error: unknown): undefined => {
  if (!(error instanceof HoldfastError)) throw error
}

/** undefined: a destination that may have it did not answer. */
async function seenLog(
  context: ApiContext,
  connection: StoredConnection,
): Promise<LogSeen | null | undefined> {
  const { archives, unknown } = await recoveryWindowsOf(context, connection)
  const best = furthest(archives)
  if (best === undefined) return unknown.length > 0 ? undefined : null
  const { destination, to, gap } = best
  return {
    destination,
    hasBase: to !== null,
    gap: gap === undefined ? null : { destination, first: gap.first, from: gap.lost.from },
  }
}

/** What nobody was told of is told once; where Temporal does not answer, with the next look. */
async function toldOf(
  context: ApiContext,
  connection: string,
  alarms: readonly Alarm[],
  base: Watched['base'],
): Promise<Alarm[]> {
  const told: Alarm[] = []
  for (const alarm of alarms) {
    const { code, since } = alarm
    const made = code === 'wal.gap' && base ? ` Backup operation ${base.operation} was started for it.` : ''
    const detail = `${connection}: ${alarm.detail}${made}`
    const done = alarm.told || (await tell(context, 'log.alarm', connection, { code, detail, since }))
    told.push({ ...alarm, told: done })
  }
  return told
}

async function toldOfMended(
  context: ApiContext,
  connection: string,
  before: Watched | undefined,
  now: Watched,
): Promise<void> {
  for (const { code, since, told } of before?.alarms ?? []) {
    if (!told || now.alarms.some(one => one.code === code)) continue
    const lost = code === 'wal.gap' && before?.log?.gap ? lostWords(before.log.gap) : ''
    const detail = `${connection}: ${code}, since ${since}, is over.${lost}`
    await tell(context, 'log.mended', connection, { code, detail, since })
  }
}

const lostWords = ({ from }: SeenGap): string =>
  ` What was committed after ${from} and before the new base backup, or before the hole was filled, see \`holdfast pitr windows\`.`

async function tell(
  { temporal, log }: ApiContext,
  event: 'log.alarm' | 'log.mended',
  connection: string,
  { code, detail, since }: { code: Alarm['code']; detail: string; since: string },
): Promise<boolean> {
  const error = new HoldfastError(code, detail).facts()
  log[event === 'log.alarm' ? 'warn' : 'info'](detail, { connection, code })
  try {
    const title = `log of ${connection}`
    await temporal.tellSomebody(`${event}/${connection}/${code}/${since}`, {
      event,
      operation: '',
      title,
      connection,
      error,
    })
    return true
  } catch (failure) {
    log.warn('nobody could be told', { connection, code, reason: reasonOf(failure) })
    return false
  }
}

/**
 * The base backup that a gap is answered with; one that was not made is begun again. Of a connection without physical backups there
 * is none, and the alarm says what is missing.
 */
async function answeredWith(
  context: ApiContext,
  connection: StoredConnection,
  gap: SeenGap,
  former: Watched['base'],
): Promise<Watched['base']> {
  if (connection.method !== 'physical') return null
  if (former && former.gap.first === gap.first && former.gap.destination === gap.destination) {
    if (await isMade(context, former.operation)) return former
  }
  const operation = await beginBase(context, connection, {
    action: 'base backup after a gap in the log',
    label: ['log-gap', gap.first],
    detail: { missing: gap.first, destination: gap.destination, lostFrom: gap.from },
  })
  return operation === undefined ? null : { gap, operation }
}
