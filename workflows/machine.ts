/**
 * Which machine carries out the steps. Any worker does, until something is staged: staged data lies on one machine, so
 * from then on every step goes to the task queue of that machine's own workers. One that nobody answers for any more is
 * given up after a while, and the work begins anew on another.
 */
import {
  ActivityCancellationType,
  ActivityFailure,
  type ActivityOptions,
  proxyActivities,
  TimeoutFailure,
} from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { Machine } from '../model/records.ts'

/** How many machines may be lost under one operation. */
const moves = 5
/** A machine that does not answer within this removes what it holds by itself, when a worker starts there. */
const leaveSeconds = 20

let current: Machine | undefined
const used: Machine[] = []

export type Steps = ReturnType<typeof proxyActivities<Activities>>

const routedTo = (machine: Machine, seconds: number, options: ActivityOptions): ActivityOptions => ({
  ...options,
  taskQueue: machine.queue,
  scheduleToStartTimeout: `${seconds}s`,
})

/** Steps that go where the operation is. */
export const placed = (options: ActivityOptions): Steps =>
  new Proxy({} as Steps, {
    get:
      (_none, name) =>
      (...args: unknown[]) => {
        const steps = proxyActivities<Activities>(
          current ? routedTo(current, current.waitSeconds, options) : options,
        )
        return (Reflect.get(steps, name) as (...args: unknown[]) => Promise<unknown>)(...args)
      },
  })

const short: ActivityOptions = {
  startToCloseTimeout: '10m',
  heartbeatTimeout: '10s',
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry: { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '15s' },
}

/**
 * Runs `work`, which stages, on one machine; from its beginning on another when that one is gone. Then `tell` gets the
 * words for it.
 */
export async function onOneMachine<T>(tell: (warning: string) => void, work: () => Promise<T>): Promise<T> {
  for (let left = moves; ; left--) {
    const machine = await proxyActivities<Activities>(short).machine()
    if (!used.some(({ queue }) => queue === machine.queue)) used.push(machine)
    current = machine
    try {
      return await work()
    } catch (error) {
      if (!isGone(error) || left === 0) throw error
      tell(
        `The machine ${machine.queue} had the staged data and did not answer for ${machine.waitSeconds} s: begun anew on another.`,
      )
    } finally {
      current = undefined
    }
  }
}

/** Nobody took the step from the machine's queue in time. */
const isGone = (error: unknown): boolean =>
  error instanceof ActivityFailure &&
  error.cause instanceof TimeoutFailure &&
  error.cause.timeoutType === 'SCHEDULE_TO_START'

/** Ends what still runs for the operation, and removes its staging, on every machine it was on. */
export async function leaveMachines(operationId: string): Promise<void> {
  await Promise.all(
    used.map(machine =>
      proxyActivities<Activities>(routedTo(machine, leaveSeconds, short))
        .cleanHost(operationId)
        .catch(() => {
          // Gone, or it cannot: its workers look for closed operations by themselves.
        }),
    ),
  )
}
