/**
 * Keeps the log of a server streamed: a receiver runs on the host of its connection as a detached job, and what it has finished
 * goes to the destinations from its spool. Everything here may die at any moment: the receiver goes on without its worker, the
 * server keeps by the slot what was not received, and a file leaves the spool only once it is durable at every destination.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { engineOf } from '../engines/index.ts'
import { systemIdentifierOf } from '../model/base-backups.ts'
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { ArchiveLogsInput, LogStreamRecord, LogStreamState, StreamTrouble } from '../model/log-stream.ts'
import { spoolOf } from '../model/log-stream.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { logReceiver } from './log-receiver.ts'
import { openSpool } from './log-spool.ts'
import type { StreamWork } from './log-work.ts'
import { stepContext } from './plan.ts'
import { expectSuccess, runCommand } from './steps.ts'

/** How a step of a stream has ended. */
export interface StreamTurn {
  /** `unwanted`: it is to be stopped, or is not there any more. */
  ended: 'time' | 'unwanted'
  state: LogStreamState | null
}

const noteMs = 2000
const restMs = 500
/** After trouble with a destination. */
const longestRestMs = 10_000

/** Until its time is over, or somebody wants it stopped. */
export async function streamLog(
  context: WorkerContext,
  turn: Turn,
  input: ArchiveLogsInput,
): Promise<StreamTurn> {
  const wanted = await context.catalog.logStream(input.connection)
  if (wanted?.wanted !== 'running') return { ended: 'unwanted', state: wanted?.state ?? null }
  const over = new AbortController()
  const until = Date.now() + input.turnSeconds * 1000
  const signal = AbortSignal.any([turn.signal, over.signal])
  const work = await workOf(context, turn, input, wanted)
  const spool = openSpool(work)
  const receiver = logReceiver(work, spool)
  let ended: StreamTurn['ended'] = 'time'

  const going = () => !signal.aborted && Date.now() < until
  const noting = async () => {
    for (;;) {
      const answer = await noted(work)
      turn.progress({ note: words(work.state) })
      if (answer === 'unwanted') ended = answer
      if (answer === 'unwanted' || !going()) return over.abort()
      await rest(noteMs, signal)
    }
  }
  const receiving = async () => {
    while (going()) {
      await bearing(work, 'receiveTrouble', () => receiver.look())
      await rest(restMs, signal)
    }
  }
  const archiving = async () => {
    for (let wait = restMs; going(); ) {
      const well = await bearing(work, 'archiveTrouble', () => spool.archive(going))
      wait = well ? restMs : Math.min(wait * 2, longestRestMs)
      await rest(wait, signal)
    }
  }
  const parts = [noting(), receiving(), archiving()].map(part =>
    part.catch(error => {
      over.abort()
      throw error
    }),
  )
  const ends = await Promise.allSettled(parts)
  turn.signal.throwIfAborted()
  const failed = ends.find(end => end.status === 'rejected')
  if (failed) throw failed.reason
  await noted(work)
  return { ended, state: work.state }
}

/** Ends the receiver and archives what it has finished; then what was wanted of the slot. May be run again. */
export async function endStream(
  context: WorkerContext,
  turn: Turn,
  input: ArchiveLogsInput,
): Promise<'ended' | 'wanted'> {
  const wanted = await context.catalog.logStream(input.connection)
  if (wanted === null) {
    // Of a catalog that was lost: nobody would archive what goes on to be received. What was received stays.
    const operation = spoolOf(input.connection, systemIdentifierOf(input.serverIdentity) ?? '')
    await context.host.stopOperation(operation)
    return 'ended'
  }
  const work = await workOf(context, turn, input, wanted)
  const spool = openSpool(work)
  await logReceiver(work, spool).stop()
  const { slotEnd } = wanted
  if (wanted.wanted === 'running') return 'wanted'
  let left: unknown
  await bearing(work, 'archiveTrouble', async () => {
    await spool
      .archive(() => !turn.signal.aborted, slotEnd)
      .catch(error => {
        left = error
        throw error
      })
  })
  await noted(work)
  // What stays in the spool is archived when it goes on.
  if (slotEnd !== 'keep') {
    if (left !== undefined) throw left
    if (slotEnd === 'drop') {
      turn.assertLease()
      const drop = work.streaming.dropSlot(work.connection.name, work.connection.settings, wanted.slot)
      const title = `drop the slot ${wanted.slot}`
      expectSuccess(work.steps, { title }, drop, await runCommand(work.steps, 'drop-slot', drop))
    }
    await context.host.stopOperation(work.operation)
    await context.host.removeOperation(work.operation)
  }
  await context.catalog.endLogStream(wanted.connection, slotEnd)
  return 'ended'
}

async function workOf(
  context: WorkerContext,
  turn: StreamWork['turn'],
  input: ArchiveLogsInput,
  wanted: LogStreamRecord,
): Promise<StreamWork> {
  const { settings, serverIdentity } = await context.catalog.connection(input.connection)
  const engine = engineOf(input.engine)
  const systemIdentifier = systemIdentifierOf(serverIdentity)
  if (engine.archiving === undefined || systemIdentifier === undefined) {
    throw new HoldfastError('wal.not-postgresql', `${engine.title} has no log that Holdfast archives.`)
  }
  const operation = spoolOf(input.connection, systemIdentifier)
  return {
    context,
    turn,
    connection: { name: input.connection, settings, systemIdentifier },
    streaming: engine.archiving.streaming,
    steps: stepContext(context, turn, operation, engine, 'stream'),
    operation,
    wanted,
    state: { ...(wanted.state ?? nothingYet), at: new Date().toISOString() },
  }
}

const nothingYet: Omit<LogStreamState, 'at'> = {
  receiving: false,
  held: null,
  timeline: null,
  serverLsn: null,
  receivedLsn: null,
  archivedLsn: null,
  archivedAt: null,
  lagBytes: null,
  lagSeconds: null,
  slot: null,
  spoolBytes: 0,
  freeBytes: null,
  receiveTrouble: null,
  archiveTrouble: null,
  lost: null,
}

/** The API being away hinders nobody who receives. */
async function noted(work: StreamWork): Promise<'wanted' | 'unwanted'> {
  const { state, context } = work
  state.at = new Date().toISOString()
  try {
    const wanted = await context.catalog.noteLogStream(work.wanted.connection, state)
    if (wanted !== null) work.wanted = wanted
    return wanted?.wanted === 'running' ? 'wanted' : 'unwanted'
  } catch (error) {
    if (!hasCode(error, 'api.unreachable')) throw error
    return 'wanted'
  }
}

/** Trouble is said and borne: it keeps the other part from nothing. Not that another run has this step. */
async function bearing(
  work: StreamWork,
  which: 'receiveTrouble' | 'archiveTrouble',
  act: () => Promise<void>,
): Promise<boolean> {
  try {
    await act()
    work.state[which] = null
    return true
  } catch (error) {
    work.turn.signal.throwIfAborted()
    work.turn.assertLease()
    if (!(error instanceof HoldfastError)) throw error
    if (hasCode(error, 'destination.denied')) work.context.forgetDestinations()
    work.state[which] = troubleOf(error, work.state[which])
    return false
  }
}

function troubleOf(error: HoldfastError, before: StreamTrouble | null): StreamTrouble {
  const { code, detail, hint } = error.facts()
  return { code, detail, hint, since: before?.since ?? new Date().toISOString() }
}

const rest = (ms: number, signal: AbortSignal): Promise<void> =>
  sleep(ms, undefined, { signal }).catch(() => undefined)

/** As Temporal shows it beside the step. */
const words = ({ receiving, receivedLsn, archivedLsn, spoolBytes }: LogStreamState): string =>
  [
    receiving ? 'receiving' : 'not receiving',
    receivedLsn === null ? '' : `received ${receivedLsn}`,
    archivedLsn === null ? '' : `archived ${archivedLsn}`,
    `${Math.round(spoolBytes / 2 ** 20)} MB in the spool`,
  ]
    .filter(Boolean)
    .join(', ')
