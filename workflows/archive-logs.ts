import {
  ActivityCancellationType,
  ActivityFailure,
  type ActivityOptions,
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  isCancellation,
  proxyActivities,
  setHandler,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { StreamTurn } from '../activities/log-stream.ts'
import type { ErrorFacts } from '../model/errors.ts'
import type { ArchiveLogsInput } from '../model/log-stream.ts'
import { factsOf } from './facts.ts'

/** It was wanted otherwise meanwhile: look now. */
export const againSignal = defineSignal('again')
/** How far the stream was when its last step ended, and why that one failed. */
export const stateQuery = defineQuery<{ state: StreamTurn['state']; failure: ErrorFacts | null }>('state')

const pauseSeconds = 30
const cancellationType = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED

/** What is in its way may pass, or be mended: it is tried again for as long as somebody wants the log. */
const options: ActivityOptions = {
  heartbeatTimeout: '10s',
  cancellationType,
  retry: { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '10s' },
}

/**
 * Keeps the log of one server archived by streaming it, for as long as the catalog wants it, step after step, and run after run.
 * Takes no lock: it goes on beside whatever is done with the server.
 */
export async function archiveLogs(input: ArchiveLogsInput): Promise<void> {
  let asked = 0
  let last: StreamTurn['state'] = null
  let failure: ErrorFacts | null = null
  setHandler(againSignal, () => {
    asked += 1
  })
  setHandler(stateQuery, () => ({ state: last, failure }))
  let { machine } = input
  for (let turns = 1; ; turns += 1) {
    const before = asked
    try {
      if (input.host === 'local' && machine === undefined) machine = await anyMachine().machine()
      const there = placedAt(input, machine)
      const turn = await there.streamLog(input)
      last = turn.state
      failure = null
      if (turn.ended === 'unwanted' && (await there.endLog(input)) === 'ended') return
    } catch (error) {
      if (isCancellation(error) || CancellationScope.current().consideredCancelled) {
        const there = placedAt(input, machine)
        await CancellationScope.nonCancellable(() => there.endLog(input))
        throw error
      }
      // Its spool stays with it: where several machines serve, what it had received and not archived is missing until it is back.
      if (isGone(error)) machine = undefined
      else {
        failure = factsOf(error)
        await condition(() => asked > before, pauseSeconds * 1000)
      }
    }
    if (turns >= input.turnsPerRun || workflowInfo().continueAsNewSuggested) {
      const { machine: _former, ...same } = input
      await continueAsNew<typeof archiveLogs>({ ...same, ...(machine ? { machine } : {}) })
    }
  }
}

const anyMachine = () => proxyActivities<Activities>({ ...options, startToCloseTimeout: '1m' })

/** Where the tools of the connection run, and where its spool is. */
function placedAt({ hostQueue, turnSeconds }: ArchiveLogsInput, machine: ArchiveLogsInput['machine']) {
  const timed: ActivityOptions = { ...options, startToCloseTimeout: `${turnSeconds + 600}s` }
  if (hostQueue !== null) return proxyActivities<Activities>({ ...timed, taskQueue: hostQueue })
  if (machine === undefined) return proxyActivities<Activities>(timed)
  return proxyActivities<Activities>({
    ...timed,
    taskQueue: machine.queue,
    scheduleToStartTimeout: `${machine.waitSeconds}s`,
  })
}

/** Nobody took the step from the machine's queue in time. */
const isGone = (error: unknown): boolean =>
  error instanceof ActivityFailure &&
  error.cause instanceof TimeoutFailure &&
  error.cause.timeoutType === 'SCHEDULE_TO_START'
