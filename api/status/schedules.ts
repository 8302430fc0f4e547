/** A database's backup schedules on the status screen: what comes next, what was missed, whether they are kept. */

import type { Catalog } from '../../catalog/open.ts'
import { boundedTimes, listRuns } from '../../catalog/schedule-runs.ts'
import { wordsOf } from '../../model/schedule-words.ts'
import type { ScheduleRecord, ScheduleRun } from '../../model/schedules.ts'
import type { DatabaseStatus, StatusProblem } from '../../model/views.ts'

export interface Scheduled {
  schedule: ScheduleRecord
  lastMissed: ScheduleRun | undefined
}

/** Those of backups; verifying keeps nothing. */
export async function scheduledBackups(
  catalog: Catalog,
  schedules: readonly ScheduleRecord[],
): Promise<Scheduled[]> {
  const found: Scheduled[] = []
  for (const schedule of schedules) {
    if (schedule.kind !== 'backup') continue
    const [lastMissed] = await listRuns(catalog, schedule.id, { missed: true, limit: 1 })
    found.push({ schedule, lastMissed })
  }
  return found
}

export const shownSchedule = (
  { schedule, lastMissed }: Scheduled,
  now: Date,
): DatabaseStatus['schedules'][number] => ({
  name: schedule.name,
  words: wordsOf(schedule.spec),
  paused: schedule.paused,
  next: schedule.paused ? null : (boundedTimes(schedule, now.getTime(), null, 1)[0] ?? null),
  lastMissed: lastMissed ? { dueAt: lastMissed.dueAt, reason: lastMissed.reason ?? '' } : null,
})

/** A backup that was due has this long before it is called late. */
const graceMs = 2 * 3600_000

/**
 * What the schedules promised and did not keep since the latest backup that can be restored began. `undefined` for
 * `latestAt`: there is none.
 */
export function brokenPromises(
  { schedule, lastMissed }: Scheduled,
  latestAt: string | undefined,
  now: Date,
  underWay: boolean,
): StatusProblem[] {
  const { name, paused, note, createdAt } = schedule
  const since = latestAt ?? createdAt
  const command = `holdfast schedule show ${name}`
  const problem = (level: StatusProblem['level'], code: string, detail: string, hint: string) =>
    ({ level, code, detail, hint, command }) as const
  if (paused) {
    const why = note === null ? '' : `: ${note}`
    return [
      problem(
        'warning',
        'schedule.paused',
        `Schedule ${name} is paused${why}.`,
        'Resume it when its reason is gone.',
      ),
    ]
  }
  const missed = lastMissed !== undefined && lastMissed.dueAt > since ? lastMissed : undefined
  if (missed !== undefined) {
    const why = missed.detail ?? missed.reason ?? ''
    const detail = `Schedule ${name} missed its run of ${missed.dueAt}: ${why}`
    return [problem('warning', 'schedule.missed', detail, 'Make one now, or wait for the next.')]
  }
  const due = boundedTimes(schedule, Date.parse(since), new Date(now.getTime() - graceMs), 100)
  if (due.length === 0 || underWay) return []
  const times =
    due.length === 1 ? 'a backup was due' : `${due.length < 100 ? due.length : 'over 100'} backups were due`
  const detail = `Since the latest backup that can be restored, ${times} by schedule ${name}.`
  return [problem('warning', 'schedule.behind', detail, 'See what became of its runs.')]
}
