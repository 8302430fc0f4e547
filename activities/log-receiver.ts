/** The program that receives the log of a server into the spool: kept running, and held while there is no room for what it receives. */
import type { Command, CommandResult, SlotLook } from '../engines/engine.ts'
import { HoldfastError } from '../model/errors.ts'
import { heldBy } from '../model/log-stream.ts'
import { parseLsn } from '../model/wal.ts'
import type { Spool } from './log-spool.ts'
import type { StreamWork } from './log-work.ts'
import { expectSuccess, runCommand, runProbe } from './steps.ts'

export interface LogReceiver {
  /** Looks how it is and does what is to be done now. Throws why it does not receive. */
  look(): Promise<void>
  /** Ends it; the server keeps what comes. */
  stop(): Promise<void>
}

const askServerMs = 5000
const firstWaitMs = 500
const longestWaitMs = 15_000
/** Beside what waits, the segment that is written lies in the spool: less than this would hold the receiver for ever. */
const fewestSegments = 4
const usualSegmentBytes = 16 << 20
/** One that has run for so long was started well. */
const wellMs = 10_000

export function logReceiver(work: StreamWork, spool: Spool): LogReceiver {
  const { context, turn, connection, streaming, steps, state } = work
  const { host } = context
  const job = { operation: work.operation, step: 'receive', token: 'stream' }
  const title = `receive the log of ${connection.name}`
  let askedAt = 0
  let segmentBytes = usualSegmentBytes
  let startedAt = 0
  let startAfter = 0
  let waitMs = firstWaitMs
  /** Why the last one has ended; until the next one has run for a while. */
  let failure: unknown
  /** When the server was where in its log: for how long something has been waiting follows from it. */
  const places: { at: number; lsn: string }[] = []

  const askServer = async (): Promise<SlotLook> => {
    const { slot } = work.wanted
    const asked = streaming.look(connection.name, connection.settings, slot)
    let seen: SlotLook
    try {
      seen = asked.read(await runProbe(steps, 'slot', asked.commands))
    } catch (error) {
      state.slot = null
      throw error
    }
    askedAt = Date.now()
    if (seen.systemIdentifier !== connection.systemIdentifier) {
      throw new HoldfastError(
        'database.changed',
        `Connection ${connection.name} was made for server ${connection.systemIdentifier}; there now is ${seen.systemIdentifier}. Its log is not received.`,
      )
    }
    enter(seen)
    return seen
  }

  const enter = ({ lsn, timeline, slot, ...seen }: SlotLook) => {
    segmentBytes = seen.segmentBytes
    state.serverLsn = lsn
    state.timeline = timeline
    state.slot = slot && {
      active: slot.active,
      retainedBytes: slot.retainedBytes,
      walStatus: slot.walStatus,
    }
    state.receivedLsn = slot?.received ?? state.receivedLsn
    places.push({ at: Date.now(), lsn })
    // Of a long time only its beginning is needed.
    if (places.length > 1000) places.splice(1, 500)
    const { archivedLsn } = state
    if (archivedLsn === null) return
    while (places[0] && bytesBetween(archivedLsn, places[0].lsn) <= 0) places.shift()
    state.lagBytes = Math.max(0, bytesBetween(archivedLsn, lsn))
    state.lagSeconds = places[0] ? Math.round((Date.now() - places[0].at) / 1000) : 0
  }

  const command = async (name: string, made: Command, doing: string) => {
    turn.assertLease()
    expectSuccess(steps, { title: doing }, made, await runCommand(steps, name, made))
  }
  const { name, settings } = connection
  const makeSlot = () =>
    command('create-slot', streaming.createSlot(name, settings, work.wanted.slot), 'make the slot of the log')
  const dropSlot = () =>
    command('drop-slot', streaming.dropSlot(name, settings, work.wanted.slot), 'drop the lost slot')

  const start = async () => {
    const { slot } = work.wanted
    const { name: directory } = await spool.room()
    const receive = streaming.receive(name, settings, slot, directory)
    const secrets: Record<string, string> = {}
    for (const stage of receive.stages) {
      for (const [variable, ref] of Object.entries(stage.secretEnv ?? {})) {
        secrets[variable] = (await steps.secret(ref)) ?? ''
      }
    }
    turn.assertLease()
    await host.jobs.start(job, receive, { secrets, fence: turn.fence })
    startedAt = Date.now()
    askedAt = 0
  }

  /** What comes next is not there any more: it goes on where the server can, and the hole is seen in the archive. */
  const goOnAfterLoss = async () => {
    state.lost = { at: new Date().toISOString(), after: await spool.newRoom() }
  }

  const ended = async (result: CommandResult | undefined) => {
    const why = result && streaming.endedBecause(result)
    if (why === 'lost') await goOnAfterLoss()
    // From the slot's place on. A hole, should that be beyond, is seen in the archive.
    if (why === 'left') await spool.newRoom()
    // A receiver that nobody here knows, of a machine that was given up, most likely.
    if (why === 'taken') {
      const others = streaming.endOthers(name, settings, work.wanted.slot)
      await command('end-others', others, 'end another receiver of the same slot')
    }
    await host.jobs.forget(job)
    waitMs = Date.now() - startedAt > wellMs ? firstWaitMs : Math.min(waitMs * 2, longestWaitMs)
    startAfter = Date.now() + waitMs
    failure = undefined
    if (result === undefined) return
    try {
      expectSuccess(steps, { title }, streaming.receive(name, settings, work.wanted.slot, '.'), result)
    } catch (error) {
      failure = error
    }
  }

  const stop = async () => {
    await host.jobs.stop(job, turn.fence)
    await host.jobs.forget(job)
    state.receiving = false
  }

  /** Where there is no slot, it is made; one that the server has given up is made anew. */
  const begin = async () => {
    const { slot } = await askServer()
    if (slot?.walStatus === 'lost') {
      await goOnAfterLoss()
      await dropSlot()
    }
    if (slot === null || slot.walStatus === 'lost') await makeSlot()
    await start()
    state.receiving = true
  }

  return {
    stop,
    async look() {
      const { path } = await spool.room()
      state.spoolBytes = await spool.bytes()
      state.freeBytes = await host.files.freeBytes(path)
      state.held = heldBy(
        { spoolBytes: state.spoolBytes, freeBytes: state.freeBytes },
        { spoolLimitBytes: Math.max(work.wanted.spoolLimitBytes, fewestSegments * segmentBytes) },
        state.held,
      )
      const { state: life, result } = await host.jobs.status(job)
      state.receiving = life === 'running'
      if (state.held !== null) {
        if (life !== 'absent') await stop()
        if (Date.now() - askedAt > askServerMs) await askServer()
        throw noRoom(state.held, state.spoolBytes, state.freeBytes)
      }
      if (life === 'running') {
        if (Date.now() - startedAt > wellMs) failure = undefined
        if (Date.now() - askedAt > askServerMs && (await askServer()).slot?.walStatus === 'lost') await stop()
      } else if (life !== 'absent') await ended(result)
      else if (Date.now() > startAfter) await begin()
      if (failure !== undefined) throw failure
    },
  }
}

const noRoom = (held: 'spool' | 'disk', spoolBytes: number, freeBytes: number): HoldfastError =>
  new HoldfastError(
    'wal.spool-full',
    held === 'spool'
      ? `${megabytes(spoolBytes)} are received and not archived, which is the limit: no more is received until half of it is archived.`
      : `The disk of the spool has ${megabytes(freeBytes)} left: no more is received until there is room.`,
  )

const megabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MB`

/** From one place of the log to another. */
const bytesBetween = (from: string, to: string): number =>
  Number((parseLsn(to) ?? 0n) - (parseLsn(from) ?? 0n))
