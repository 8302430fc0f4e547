/**
 * A starter asks for the operation of a due time. The row of the due time decides: asked twice, by a starter that was
 * reset or by two of them, it answers with the same operation. What cannot start now waits; what cannot start in time is
 * missed, with the reason.
 */
import { listBackups } from '../../catalog/backups.ts'
import {
  enterDueTimes,
  findRun,
  formerRun,
  giveRunBack,
  missRun,
  newerDueTime,
  noteWaiting,
  startRun,
  takeUpRun,
} from '../../catalog/schedule-runs.ts'
import { findSchedule } from '../../catalog/schedules.ts'
import { isDue } from '../../model/due.ts'
import { errorClass, HoldfastError } from '../../model/errors.ts'
import type { OperationRecord } from '../../model/records.ts'
import type {
  BackupOptions,
  DrillOptions,
  DueAnswer,
  MissedReason,
  ScheduleRecord,
  ScheduleRun,
  ScrubOptions,
  VerifyOptions,
} from '../../model/schedules.ts'
import { closedStates } from '../../model/types.ts'
import type { ApiContext } from '../context.ts'
import { newDrill, unlimited } from '../drills.ts'
import { newBackup, newVerify } from '../routes/backups.ts'
import { newScrub } from '../routes/scrub.ts'
import { newTiering } from '../routes/tiering.ts'
import { conflictOf, isOver, newOperationId, startWorkflow } from '../submit.ts'
import { newSweep } from '../sweeping.ts'

/** At most; a starter that waits longer than its wish is told so by the next answer. */
const askAgainSeconds = 120

export async function startDue(
  context: ApiContext,
  due: { scheduleId: string; dueAt: string },
): Promise<DueAnswer> {
  const { catalog } = context
  const schedule = await findSchedule(catalog.db, { id: due.scheduleId })
  if (!schedule) return { state: 'not-due', detail: 'There is no such schedule any more.' }
  const dueAt = new Date(due.dueAt)
  const now = new Date()
  if (dueAt > now && !schedule.paused && isDue(schedule.spec, dueAt.getTime())) {
    // Temporal's clock is ahead of ours.
    const ahead = (dueAt.getTime() - now.getTime()) / 1000
    return waiting(`Due in ${ahead.toFixed(1)} s by the clock of the API.`, ahead)
  }
  await enterDueTimes(catalog, schedule.id, now)
  const run = await findRun(catalog, schedule.id, dueAt.toISOString())
  if (!run) {
    return {
      state: 'not-due',
      detail: `Schedule ${schedule.name} did not come due at ${dueAt.toISOString()}. To run it now: \`holdfast schedule trigger ${schedule.name}\`.`,
    }
  }
  return settled(run) ?? (await takeUp(context, schedule, run, now))
}

function settled(run: ScheduleRun): DueAnswer | undefined {
  if (run.state === 'started') {
    return { state: 'started', operation: run.operationId, detail: `It is operation ${run.operationId}.` }
  }
  if (run.state === 'missed') {
    return { state: 'missed', reason: run.reason ?? 'not-taken-up', detail: run.detail ?? '' }
  }
  return undefined
}

/** What keeps a run from starting for good, by the clock; undefined while it may still start. */
export async function tooLate(
  { catalog }: Pick<ApiContext, 'catalog'>,
  schedule: ScheduleRecord,
  run: ScheduleRun,
  now: Date,
): Promise<{ reason: MissedReason; detail: string } | undefined> {
  if (run.state === 'waiting') {
    if (run.deadlineAt === null || now.toISOString() <= run.deadlineAt) return undefined
    return {
      reason: 'server-busy',
      detail: `It waited until ${run.deadlineAt} and could not start: ${run.detail ?? 'nobody asked again'}`,
    }
  }
  const lateSeconds = (now.getTime() - Date.parse(run.dueAt)) / 1000 - schedule.jitterSeconds
  if (lateSeconds > schedule.catchUpSeconds) {
    return {
      reason: 'not-taken-up',
      detail: `Nobody took it up within ${schedule.catchUpSeconds} s: worker, API or Temporal was down.`,
    }
  }
  const newer = await newerDueTime(catalog, schedule.id, run.dueAt)
  return newer === undefined
    ? undefined
    : { reason: 'superseded', detail: `It was taken up late; the one due at ${newer} stands for it.` }
}

async function takeUp(
  context: ApiContext,
  schedule: ScheduleRecord,
  run: ScheduleRun,
  now: Date,
): Promise<DueAnswer> {
  const { catalog } = context
  const late = await tooLate(context, schedule, run, now)
  if (late) return await miss(context, schedule, run, late.reason, late.detail)
  if (run.state === 'due') {
    const deadline = new Date(now.getTime() + schedule.startDeadlineSeconds * 1000)
    await takeUpRun(catalog, run, now.toISOString(), deadline.toISOString())
  }
  const former = await formerRun(catalog, schedule.id, run.dueAt)
  if (former && isOpen(former)) return await overlap(context, schedule, run, former)

  let operation: OperationRecord
  try {
    operation = await operationOf(context, schedule, run.operationId)
  } catch (error) {
    return await cannotStart(context, schedule, run, error)
  }
  const holder = await context.temporal.holder(operation.workflowId)
  if (holder && !(await isOver(catalog, holder))) {
    const conflict = await conflictOf(context, operation, holder)
    return await wait(context, run, conflict.message, holder.operationId ?? null)
  }
  return await begin(context, run, operation)
}

const isOpen = ({ state, outcome }: ScheduleRun): boolean =>
  state === 'waiting' || (outcome !== null && !(closedStates as readonly string[]).includes(outcome))

/** Two runs of one schedule are never at work at once. */
async function overlap(
  context: ApiContext,
  schedule: ScheduleRecord,
  run: ScheduleRun,
  former: ScheduleRun,
): Promise<DueAnswer> {
  const holder = former.state === 'started' ? former.operationId : null
  const what = holder === null ? 'still waits' : `is still at work (${holder})`
  const detail = `The run due at ${former.dueAt} ${what}.`
  // With one in the buffer the next one is one too many.
  const full =
    schedule.overlap === 'skip' || (schedule.overlap === 'buffer-one' && former.state === 'waiting')
  return full
    ? await miss(context, schedule, run, 'overlap', detail)
    : await wait(context, run, detail, holder)
}

/** The row first, then the workflow, as for every operation: what dies in between, the reconciler finishes. */
async function begin(context: ApiContext, run: ScheduleRun, operation: OperationRecord): Promise<DueAnswer> {
  const { catalog, starting, log } = context
  starting.add(operation.id)
  try {
    if (!(await startRun(catalog, run, operation))) {
      const other = await findRun(catalog, run.scheduleId, run.dueAt)
      return (other && settled(other)) ?? waiting('Somebody else starts it.', 2)
    }
    const started = await startWorkflow(context, operation).catch(error => {
      log.warn('a scheduled operation was accepted but its start is not confirmed', {
        operation: operation.id,
        reason: error instanceof Error ? error.message : String(error),
      })
      return 'ours' as const
    })
    if (started !== 'ours') {
      const { message } = await conflictOf(context, operation, started)
      await giveRunBack(catalog, operation.id, message, started.operationId ?? null)
      return waiting(message)
    }
    return { state: 'started', operation: operation.id, detail: `It is operation ${operation.id}.` }
  } finally {
    starting.delete(operation.id)
  }
}

const waiting = (detail: string, seconds = askAgainSeconds): DueAnswer => ({
  state: 'waiting',
  detail,
  askAgainSeconds: Math.max(1, Math.min(seconds, askAgainSeconds)),
})

async function wait(
  { catalog }: ApiContext,
  run: ScheduleRun,
  detail: string,
  holder: string | null,
): Promise<DueAnswer> {
  await noteWaiting(catalog, run, detail, holder)
  return waiting(detail)
}

async function cannotStart(
  context: ApiContext,
  schedule: ScheduleRecord,
  run: ScheduleRun,
  error: unknown,
): Promise<DueAnswer> {
  const passing =
    !(error instanceof HoldfastError) || ['transient', 'throttled'].includes(errorClass(error.code))
  if (passing || error.code === 'internal') throw error
  return await miss(context, schedule, run, 'refused', `${error.code}: ${error.message}`)
}

/** Settles a run as missed, and says so. */
export async function miss(
  { catalog, log }: ApiContext,
  schedule: ScheduleRecord,
  run: ScheduleRun,
  reason: MissedReason,
  detail: string,
): Promise<DueAnswer> {
  if (await missRun(catalog, run, reason, detail)) {
    log.warn('a scheduled run was missed', { schedule: schedule.name, dueAt: run.dueAt, reason, detail })
    return { state: 'missed', reason, detail }
  }
  const other = await findRun(catalog, run.scheduleId, run.dueAt)
  return (other && settled(other)) ?? { state: 'missed', reason, detail }
}

/** The operation that a schedule asks for, as it would be accepted now. Throws what a request for it would be refused with. */
export async function operationOf(
  context: ApiContext,
  schedule: Pick<ScheduleRecord, 'kind' | 'connection' | 'destinations' | 'options'>,
  id = newOperationId(),
): Promise<OperationRecord> {
  const { connection, destinations } = schedule
  const [destination] = destinations
  if (schedule.kind === 'scrub') {
    const where = destination === undefined ? {} : { destination }
    return await newScrub(context, { ...(schedule.options as ScrubOptions), ...where }, true, id)
  }
  if (schedule.kind === 'sweep') {
    return await newSweep(
      context,
      { ...(destination === undefined ? {} : { destination }), unattended: true },
      id,
    )
  }
  if (schedule.kind === 'tiering') return await newTiering(context, destination ?? '', true, id)
  if (connection === null) throw new HoldfastError('internal', 'A schedule lost its connection.')
  if (schedule.kind === 'drill') {
    const { endOfLog, walConfig, ...options } = schedule.options as DrillOptions
    const from = destination === undefined ? {} : { from: destination }
    const what = endOfLog
      ? { moment: { connection, to: { kind: 'latest' as const }, walConfig } }
      : { backup: `${connection}:latest` }
    return await newDrill(context, { ...what, ...options, ...from }, unlimited, id)
  }
  if (schedule.kind === 'backup') {
    const options = schedule.options as BackupOptions
    const where = destinations.length === 0 ? {} : { destinations }
    // Nobody watches: it parks rather than fails, unless the schedule says otherwise.
    return await newBackup(context, { connection, ...where, unattended: true, ...options }, id)
  }
  const backups = await listBackups(context.catalog, { connection, committed: true }, undefined, 200)
  const latest = backups.find(backup =>
    backup.copies.some(
      copy => copy.state === 'committed' && (destination === undefined || copy.destination === destination),
    ),
  )
  if (!latest) {
    const where = destination === undefined ? '' : ` at ${destination}`
    throw new HoldfastError('backup.not-found', `There is no backup of ${connection}${where} to verify.`)
  }
  const from = destination === undefined ? {} : { from: destination }
  return newVerify(context, latest, { ...(schedule.options as VerifyOptions), ...from }, id)
}
