/**
 * Which machine carries out the steps. Any worker does, until something is staged: staged data lies on one machine, so
 * from then on every step goes to the task queue of that machine's own workers. One that nobody answers for any more is
 * given up after a while, and the work begins anew on another.
 *
 * Where the host of the tools has a worker of its own, what touches the host goes to its task queue, and nothing else does:
 * it holds no more than that needs.
 */
import {
  ActivityCancellationType,
  ActivityFailure,
  type ActivityOptions,
  proxyActivities,
  TimeoutFailure,
} from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { HostWorker, Machine } from '../model/records.ts'
import { failureOf } from './facts.ts'
import { held } from './holding.ts'

/** How many machines may be lost under one operation. */
const moves = 5
/** A machine that does not answer within this removes what it holds by itself, when a worker starts there. */
const leaveSeconds = 20

let current: Machine | undefined
const used: Machine[] = []
/** Of the host of the tools. */
let own: HostWorker | undefined

/** What touches the host of the tools; activities/index.ts runs these on it. */
const onItsHost: ReadonlySet<string | symbol> = new Set<keyof Activities>([
  'plan',
  'writeCanary',
  'precheck',
  'stream',
  'runTool',
  'upload',
  'planRestore',
  'precheckRestore',
  'restoreSteps',
  'replay',
  'serveCopy',
  'prove',
  'swapStep',
  'recordKept',
  'dropKept',
  'undoRestore',
  'examine',
  'tearDown',
  'hook',
  'planEnabling',
  'setArchiving',
  'expectInEffect',
  'proveArchiving',
  'takeBackArchiving',
  'release',
  'machine',
  'cleanHost',
])

export type Steps = ReturnType<typeof proxyActivities<Activities>>

/** Called once, at the beginning of a workflow. */
export function servedBy(worker: HostWorker | undefined): void {
  own = worker
  if (worker) used.push({ queue: worker.queue, waitSeconds: worker.waitSeconds })
}

/** Whether a worker of the host's own carries out what touches it; nobody else can. */
export const isServed = (): boolean => own !== undefined

const routedTo = (
  { queue }: Pick<Machine, 'queue'>,
  seconds: number | 'no limit',
  options: ActivityOptions,
): ActivityOptions => ({
  ...options,
  taskQueue: queue,
  ...(seconds === 'no limit' ? {} : { scheduleToStartTimeout: `${seconds}s` }),
})

/** `patient`: waits for the worker of a host for as long as the options say. */
function placeFor(name: string | symbol, options: ActivityOptions, patient: boolean): ActivityOptions {
  if (own && !onItsHost.has(name)) return options
  if (current) return routedTo(current, current.waitSeconds, options)
  return own ? routedTo(own, patient ? 'no limit' : own.waitSeconds, options) : options
}

/** Steps that go where the operation is. Throws `host.no-worker` when the worker of the host does not come for one. */
export const placed = (options: ActivityOptions, patient = false): Steps =>
  new Proxy({} as Steps, {
    get:
      (_none, name) =>
      (...args: unknown[]) => {
        const chosen = placeFor(name, options, patient)
        const steps = proxyActivities<Activities>(chosen)
        const done = (Reflect.get(steps, name) as (...args: unknown[]) => Promise<unknown>)(...args)
        if (!own || chosen.taskQueue !== own.queue) return done
        const { host, waitSeconds } = own
        return done.catch(error => {
          throw isGone(error) ? noWorker(host, waitSeconds) : error
        })
      },
  })

const noWorker = (host: string, waitSeconds: number) =>
  failureOf(
    {
      code: 'host.no-worker',
      detail: `No worker on host ${host}: nobody there came for a step within ${waitSeconds} s.`,
      hint: `On that machine: \`holdfast worker --host ${host}\`. The operation goes on by itself then; at once with \`holdfast operation resume\`.`,
    },
    'transient',
  )

const short: ActivityOptions = {
  startToCloseTimeout: '10m',
  heartbeatTimeout: '10s',
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry: { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '15s' },
}

/** As patient as all cleaning up is; a host behind the machine may be away for good. */
const leaving: ActivityOptions = {
  ...short,
  scheduleToCloseTimeout: '1h',
  retry: { ...short.retry, maximumInterval: '5s' },
}

/**
 * Runs `work`, which stages, on one machine; from its beginning on another when that one is gone. Then `tell` gets the
 * words for it.
 */
export async function onOneMachine<T>(tell: (warning: string) => void, work: () => Promise<T>): Promise<T> {
  for (let left = moves; ; left--) {
    const machine = await held(() => placed(short).machine())
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
      proxyActivities<Activities>(routedTo(machine, leaveSeconds, leaving))
        .cleanHost(operationId)
        .catch(() => {
          // Gone, or it cannot: its workers look for closed operations by themselves.
        }),
    ),
  )
}
