/** A server is made to archive its log: plan, set, wait until it is in effect, and see a segment arrive. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { LogArchiving, SettingChange } from '../engines/engine.ts'
import { engineOf } from '../engines/index.ts'
import { systemIdentifierOf } from '../model/base-backups.ts'
import { HoldfastError, hasCode } from '../model/errors.ts'
import type { EnablePitrInput } from '../model/records.ts'
import { logFileKey, streamKey } from '../storage/wal/layout.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { newToken, type StoredArchivingPlan, stepContext, store, storedPlan } from './plan.ts'
import { expectSuccess, runCommand, runProbe, type StepContext } from './steps.ts'

export interface EnableSummary {
  title: string
  /** Names of settings that take effect with a restart. */
  restart: string[]
  warnings: string[]
}

/** Between a reload and its effect. */
const reloadMs = 15_000
const againMs = 500
/** PostgreSQL tries a file three times in a row. */
const failuresToBelieve = 3
/** A command that does not end, or an archiver that does nothing. */
const idleMs = 120_000

export async function planEnabling(
  context: WorkerContext,
  turn: Turn,
  input: EnablePitrInput,
): Promise<EnableSummary> {
  const known = await context.catalog.plan(input.operationId)
  if (known) return summarize(await storedPlan(context, input.operationId, 'enablePitr'))
  const token = newToken()
  const { archiving, settings, steps } = await around(context, turn, input, token)
  const asked = archiving.state(input.connection, settings)
  const state = asked.read(await runProbe(steps, 'archiving', asked.commands))
  const expected = systemIdentifierOf(input.serverIdentity)
  if (state.systemIdentifier !== expected) {
    throw new HoldfastError(
      'database.changed',
      `Connection ${input.connection} was made for server ${expected ?? input.serverIdentity}; there now is ${String(state.systemIdentifier)}.`,
    )
  }
  const planned = archiving.plan(input.connection, settings, input, state)
  const { plan } = await store<StoredArchivingPlan>(context, input.operationId, {
    kind: 'enablePitr',
    version: 1,
    token,
    ...planned,
    steps:
      planned.changes.length === 0
        ? []
        : [
            {
              id: 'set',
              title: wordsOf(planned.changes),
              run: planned.set,
              output: { to: 'none' },
              resume: 'restart',
            },
          ],
  })
  return summarize(plan)
}

const wordsOf = (changes: readonly SettingChange[]): string =>
  changes
    .map(({ name, to, restart }) => `${name} = ${to === '' ? "''" : to}${restart ? ' (restart)' : ''}`)
    .join(', ')

const summarize = ({ changes, destroys, warnings }: StoredArchivingPlan): EnableSummary => ({
  title: changes.length === 0 ? 'all is set already' : wordsOf(changes),
  restart: changes.filter(({ restart }) => restart).map(({ name }) => name),
  warnings: [...destroys, ...warnings],
})

interface Around {
  archiving: LogArchiving
  settings: unknown
  steps: StepContext
}

async function around(
  context: WorkerContext,
  turn: Turn,
  input: EnablePitrInput,
  token: string,
): Promise<Around> {
  const engine = engineOf(input.engine)
  if (engine.archiving === undefined) {
    throw new HoldfastError('wal.not-postgresql', `${engine.title} has no log that Holdfast archives.`)
  }
  const { settings } = await context.catalog.connection(input.connection)
  const steps = stepContext(context, turn, input.operationId, engine, token)
  return { archiving: engine.archiving, settings: engine.connection.parse(settings), steps }
}

async function planned(context: WorkerContext, turn: Turn, input: EnablePitrInput) {
  const plan = await storedPlan(context, input.operationId, 'enablePitr')
  return { plan, ...(await around(context, turn, input, plan.token)) }
}

/** Throws `wal.not-in-effect` for what a reload is enough for, and was not. */
export async function setArchiving(
  context: WorkerContext,
  turn: Turn,
  input: EnablePitrInput,
): Promise<void> {
  const { plan, steps, ...of } = await planned(context, turn, input)
  const [step] = plan.steps
  if (step === undefined) return
  turn.assertLease()
  expectSuccess(steps, step, step.run, await runCommand(steps, step.id, step.run))
  const soon = plan.changes.filter(({ restart }) => !restart)
  for (const until = Date.now() + reloadMs; ; ) {
    const waiting = await notInEffect({ ...of, steps }, input, soon)
    if (waiting.length === 0) return
    if (Date.now() > until) {
      throw new HoldfastError(
        'wal.not-in-effect',
        `${waiting.join(', ')} of ${input.connection}: set, read again by the server, and not in effect.`,
      )
    }
    await sleep(againMs, undefined, { signal: turn.signal })
  }
}

const notInEffect = async (
  { archiving, settings, steps }: Around,
  { connection }: EnablePitrInput,
  changes: readonly SettingChange[],
): Promise<string[]> => {
  const probe = archiving.notInEffect(connection, settings, changes)
  return probe.read(await runProbe(steps, 'effect', probe.commands))
}

/** Throws `wal.needs-restart` until the server was restarted with all of it. */
export async function expectInEffect(
  context: WorkerContext,
  turn: Turn,
  input: EnablePitrInput,
): Promise<void> {
  const { plan, ...of } = await planned(context, turn, input)
  let waiting: string[]
  try {
    waiting = await notInEffect(of, input, plan.changes)
  } catch (error) {
    if (!hasCode(error, 'database.unreachable')) throw error
    throw new HoldfastError(
      'wal.needs-restart',
      `${input.connection} does not answer just now: it may be restarting.`,
      { cause: error },
    )
  }
  if (waiting.length === 0) return
  throw new HoldfastError(
    'wal.needs-restart',
    `${waiting.join(', ')} of ${input.connection}: set, and in effect after a restart of the server.`,
  )
}

/** Ends a segment and waits for the archiver to have archived it. Throws `wal.failing`. */
export async function proveArchiving(
  context: WorkerContext,
  turn: Turn,
  input: EnablePitrInput,
): Promise<{ segment: string }> {
  const { archiving, settings, steps } = await planned(context, turn, input)
  const { connection } = input
  turn.assertLease()
  const ended = archiving.endSegment(connection, settings)
  const before = ended.read(await runProbe(steps, 'switch', ended.commands))
  const segment = before.segment ?? ''
  turn.progress({ note: segment })
  let last = before
  for (let since = Date.now(); ; ) {
    const probe = archiving.soFar(connection, settings)
    const now = probe.read(await runProbe(steps, 'archived', probe.commands))
    if ((now.lastArchived ?? '').slice(0, segment.length) >= segment) return { segment }
    if (now.archived !== last.archived) [since, last] = [Date.now(), now]
    const failed = now.failed - last.failed
    if (failed >= failuresToBelieve) {
      throw new HoldfastError(
        'wal.failing',
        `${connection} tried ${failed} times to archive ${now.lastFailed ?? segment}, in vain.`,
      )
    }
    if (Date.now() - since > idleMs) {
      throw new HoldfastError(
        'wal.failing',
        `${connection} ended ${segment} and archived nothing for ${idleMs / 1000} s.`,
      )
    }
    await sleep(againMs, undefined, { signal: turn.signal })
  }
}

export interface WhereArchived {
  /** Destinations that have the segment. */
  found: string[]
  /** They have the archive of this server, and not the segment. */
  without: string[]
  silent: { destination: string; detail: string }[]
}

/** Where the segment is; one destination that does not answer keeps no other. */
export async function findArchived(
  context: WorkerContext,
  { connection, serverIdentity, places }: EnablePitrInput,
  segment: string,
): Promise<WhereArchived> {
  const stream = { connection, systemIdentifier: systemIdentifierOf(serverIdentity) ?? '' }
  const answer: WhereArchived = { found: [], without: [], silent: [] }
  for (const name of places) {
    try {
      const destination = await context.destination(name)
      if ((await destination.stat(streamKey(stream))) === undefined) continue
      const there = await destination.stat(logFileKey(stream, segment))
      answer[there === undefined ? 'without' : 'found'].push(name)
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      answer.silent.push({ destination: name, detail: error.message })
    }
  }
  return answer
}

/** Returns what stays until the server is restarted. */
export async function takeBackArchiving(
  context: WorkerContext,
  turn: Turn,
  input: EnablePitrInput,
): Promise<string[]> {
  const { plan, archiving, steps } = await planned(context, turn, input)
  if (plan.changes.length === 0) return []
  turn.assertLease()
  const result = await runCommand(steps, 'take-back', plan.takeBack)
  expectSuccess(steps, { title: 'take back what was set' }, plan.takeBack, result)
  return archiving.leftBy(result, input.connection)
}
