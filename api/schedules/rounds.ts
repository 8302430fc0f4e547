/**
 * What keeps schedules true, round after round: every due time gets its row, every row is settled in time, and Temporal
 * carries what the catalog says. Nothing here needs to run only once: two API processes may do it side by side.
 */
import { writerIdentity } from '../../catalog/installation.ts'
import { boundedTimes, enterDueTimes, forgetOldRuns, pendingRuns } from '../../catalog/schedule-runs.ts'
import { findSchedule, listSchedules, noteCarried } from '../../catalog/schedules.ts'
import { hasCode } from '../../model/errors.ts'
import type { ScheduleRecord } from '../../model/schedules.ts'
import type { ApiContext } from '../context.ts'
import { type Carried, carriedOf, differences, installationOf } from './carried.ts'
import { miss, tooLate } from './start.ts'

/** Temporal wakes starters itself, within seconds; later than this it is taken for not having done so. */
const graceSeconds = 20
const keptRuns = 2000

export async function keepSchedules(context: ApiContext): Promise<void> {
  const schedules = await listSchedules(context.catalog)
  // What needs the catalog only comes first: it is true also while Temporal is away.
  for (const schedule of schedules) await attempt(context, schedule.name, () => account(context, schedule))
  const { installationId } = await writerIdentity(context.catalog)
  for (const { id, name } of schedules) {
    const reached = await attempt(context, name, async () => {
      const schedule = await findSchedule(context.catalog.db, { id })
      if (!schedule) return
      await carry(context, installationId, schedule)
      await wakeStarters(context, installationId, schedule)
    })
    if (!reached) return
  }
  await attempt(context, undefined, () => removeStrays(context, installationId))
}

/** False when Temporal does not answer. */
async function attempt(
  { log }: ApiContext,
  schedule: string | undefined,
  work: () => Promise<void>,
): Promise<boolean> {
  try {
    await work()
    return true
  } catch (error) {
    const unreachable = hasCode(error, 'temporal.unreachable')
    log[unreachable ? 'debug' : 'warn']('a schedule could not be kept', {
      ...(schedule === undefined ? {} : { schedule }),
      reason: error instanceof Error ? error.message : String(error),
    })
    return !unreachable
  }
}

/** Enters what came due and settles what is too late. */
async function account(context: ApiContext, schedule: ScheduleRecord): Promise<void> {
  const { catalog } = context
  const now = new Date()
  await enterDueTimes(catalog, schedule.id, now)
  for (const run of await pendingRuns(catalog, schedule.id)) {
    const late = await tooLate(context, schedule, run, now)
    if (late) await miss(context, schedule, run, late.reason, late.detail)
  }
  await forgetOldRuns(catalog, schedule.id, keptRuns)
}

/** Runs that may still start and whose starter should have asked by now: Temporal forgot it, or somebody ended it. */
async function wakeStarters(
  { catalog, temporal }: ApiContext,
  installation: string,
  schedule: ScheduleRecord,
): Promise<void> {
  const overdue = new Date(Date.now() - (schedule.jitterSeconds + graceSeconds) * 1000).toISOString()
  for (const run of await pendingRuns(catalog, schedule.id)) {
    if (run.state === 'waiting' || run.dueAt < overdue) {
      await temporal.schedules.wake(schedule, installation, run.dueAt)
    }
  }
}

/** Makes Temporal carry the schedule as the catalog has it. What somebody else changed there is brought back, and noted. */
export async function carry(
  { catalog, temporal, log }: ApiContext,
  installation: string,
  schedule: ScheduleRecord,
): Promise<void> {
  const now = new Date()
  const there = await temporal.schedules.look(schedule.name)
  if (boundedTimes(schedule, now.getTime(), null, 1).length === 0) {
    // Temporal forgets by itself what never comes due again.
    if (there) await temporal.schedules.remove(schedule.name)
    if (schedule.carried !== null) await noteCarried(catalog, schedule.id, null)
    return
  }
  const wanted = carriedOf(schedule, installation, now)
  const text = JSON.stringify(wanted)
  if (there && JSON.stringify(there) === text) {
    if (schedule.carried !== text) await noteCarried(catalog, schedule.id, text)
    return
  }
  const changed = driftOf(schedule, there)
  const drift = changed === undefined ? undefined : { at: now.toISOString(), detail: changed }
  await temporal.schedules.put(schedule, wanted, noteOf(schedule, drift))
  await noteCarried(catalog, schedule.id, text, drift)
  if (drift) log.warn('a schedule was brought back in Temporal', { schedule: schedule.name, ...drift })
}

/** How Temporal differs from what it was told last; undefined when it does not: then it is we who changed our mind. */
function driftOf({ carried }: ScheduleRecord, there: Carried | undefined): string | undefined {
  if (carried === null) return undefined
  if (!there) return 'Temporal had it no more: removed there, or its database was lost.'
  if (JSON.stringify(there) === carried) return undefined
  return `Changed in Temporal, not here: ${differences(JSON.parse(carried), there).join(', ')}.`
}

function noteOf({ paused, note }: ScheduleRecord, drift: ScheduleRecord['drift'] | undefined): string {
  const standing = 'Kept by Holdfast: change it with `holdfast schedule`; changes made here are taken back.'
  return [
    paused ? `Paused${note === null ? '' : `: ${note}`}.` : (note ?? ''),
    drift ? `Brought back ${drift.at}. ${drift.detail}` : '',
    standing,
  ]
    .filter(part => part !== '')
    .join(' ')
}

/** Schedules of ours in Temporal that the catalog does not know: removed while Temporal was away. */
async function removeStrays({ catalog, temporal, log }: ApiContext, installation: string): Promise<void> {
  for (const name of await temporal.schedules.names()) {
    if (await findSchedule(catalog.db, { name })) continue
    const there = await temporal.schedules.look(name)
    if (!there || installationOf(there) !== installation) continue
    await temporal.schedules.remove(name)
    log.info('a schedule that is gone was removed from Temporal', { schedule: name })
  }
}
