/** The steps as workflows call them: names, time limits, how often they are tried, and what holds them up. */
import { ActivityCancellationType, proxyActivities, proxyLocalActivities } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import { held } from './holding.ts'
import { isServed, leaveMachines, placed, type Steps } from './machine.ts'

/** Steps that wait for whoever paused the operation, and park it where an operator is needed. */
const holding = (steps: Steps): Steps =>
  new Proxy(steps, {
    get: (target, name) => {
      const step = Reflect.get(target, name) as (...args: unknown[]) => Promise<unknown>
      return (...args: unknown[]) => held(() => step(...args))
    },
  })

/** Longer than the worker's heartbeat of one second and any pause of its event loop; see activities/boundary.ts. */
const heartbeatTimeout = '10s'

/** Said here, as left out it means the opposite: what is cleaned up afterwards must not still be worked on. */
const cancellationType = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED

/** Seconds of work: probes, plans, small objects. */
export const quick = holding(
  placed({
    startToCloseTimeout: '5m',
    scheduleToCloseTimeout: '30m',
    heartbeatTimeout,
    cancellationType,
    retry: { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '15s', maximumAttempts: 12 },
  }),
)

/** Moves a database's bytes: as long as it takes, tried again after each kill. */
export const long = holding(
  placed({
    startToCloseTimeout: '7 days',
    heartbeatTimeout,
    cancellationType,
    retry: { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '30s', maximumAttempts: 20 },
  }),
)

/** As long as it takes, and never held up: what the operator wants run after a failure. */
const withoutHold = {
  startToCloseTimeout: '2 days',
  heartbeatTimeout,
  cancellationType,
  retry: { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '30s', maximumAttempts: 20 },
} as const
export const unheld = placed(withoutHold)
/** The same on one machine; one that nobody answers for is not waited for. */
export const unheldAt = (queue: string): Steps =>
  proxyActivities<Activities>({ ...withoutHold, taskQueue: queue, scheduleToStartTimeout: '30s' })

/**
 * Cleaning up: patient, because what it leaves behind somebody has to find, and soon after a host or a store is back. Never
 * held up.
 */
export const patient = placed(
  {
    startToCloseTimeout: '10m',
    scheduleToCloseTimeout: '1h',
    heartbeatTimeout,
    cancellationType,
    retry: { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '5s' },
  },
  true,
)

/** Ends what still runs for the operation on its host, and removes its staging. */
export const cleanHost = (operationId: string): Promise<void> =>
  isServed() ? leaveMachines(operationId) : patient.cleanHost(operationId)

/** Tells what somebody waits for, for as long as it takes: that the operation stands still, and that it goes on. */
export const telling = proxyActivities<Activities>({
  startToCloseTimeout: '1m',
  heartbeatTimeout,
  cancellationType,
  retry: { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '30s' },
})

const fewTimes = {
  startToCloseTimeout: '1m',
  scheduleToCloseTimeout: '5m',
  heartbeatTimeout,
  cancellationType,
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '30s', maximumAttempts: 3 },
} as const

/** Tries a few times; the operation does not depend on it. */
export const attempted = proxyActivities<Activities>(fewTimes)
/** The same where the operation is. */
export const attemptedThere = placed(fewTimes)

/** Tells the catalog; nothing waits for it but the end. */
export const local = proxyLocalActivities<Activities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '200ms', backoffCoefficient: 2, maximumInterval: '5s', maximumAttempts: 5 },
})
