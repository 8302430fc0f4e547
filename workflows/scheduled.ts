/**
 * Starters: what Temporal's schedules start when one comes due. A starter owns nothing. It asks the API for the operation
 * of its due time, waits while that is not to be had, and ends; the API remembers, so that a starter may be killed, reset
 * or started twice.
 */
import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common'
import {
  proxyActivities,
  setCurrentDetails,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { DueAnswer, ScheduledInput } from '../model/schedules.ts'
import { connectionAttribute, operationAttribute, stateAttribute } from './attributes.ts'

/** Set by Temporal: the time at which the schedule came due, before jitter. */
const dueAttribute = defineSearchAttributeKey('TemporalScheduledStartTime', SearchAttributeType.DATETIME)

/** Outlasts every catch-up window and every wait: it is the API that says when a run is missed. */
const { startDue } = proxyActivities<Activities>({
  startToCloseTimeout: '2m',
  scheduleToCloseTimeout: '30 days',
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '30s' },
})

const longestPauseSeconds = 120

export const scheduledBackup = (input: ScheduledInput): Promise<DueAnswer> => whenDue(input)
export const scheduledDrill = (input: ScheduledInput): Promise<DueAnswer> => whenDue(input)
export const scheduledScrub = (input: ScheduledInput): Promise<DueAnswer> => whenDue(input)
export const scheduledSweep = (input: ScheduledInput): Promise<DueAnswer> => whenDue(input)
export const scheduledTiering = (input: ScheduledInput): Promise<DueAnswer> => whenDue(input)
export const scheduledVerify = (input: ScheduledInput): Promise<DueAnswer> => whenDue(input)

async function whenDue(input: ScheduledInput): Promise<DueAnswer> {
  const dueAt = input.dueAt ?? workflowInfo().typedSearchAttributes.get(dueAttribute)?.toISOString()
  if (dueAt === undefined) {
    return { state: 'not-due', detail: 'Nobody said for which time this was started.' }
  }
  for (let pauseSeconds = 2; ; pauseSeconds = Math.min(pauseSeconds * 2, longestPauseSeconds)) {
    const answer = await startDue({ ...input, dueAt })
    show(input.schedule, dueAt, answer)
    if (answer.state !== 'waiting') return answer
    await sleep(Math.min(pauseSeconds, answer.askAgainSeconds) * 1000)
  }
}

function show(schedule: string, dueAt: string, answer: DueAnswer): void {
  setCurrentDetails(`**${schedule}**, due ${dueAt}: ${answer.state}\n\n${answer.detail}`)
  // A Temporal that does not know our attributes got none at the start.
  if (workflowInfo().typedSearchAttributes.get(connectionAttribute) === undefined) return
  upsertSearchAttributes([
    { key: stateAttribute, value: answer.state },
    ...(answer.state === 'started' ? [{ key: operationAttribute, value: answer.operation }] : []),
  ])
}
