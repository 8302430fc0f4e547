/** The way to Temporal's Schedules, and to starters. Every call may throw `temporal.unreachable`. */
import {
  type Client,
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  WorkflowExecutionAlreadyStartedError,
} from '@temporalio/client'
import { taskQueue } from '../model/ids.ts'
import type { ScheduleRecord } from '../model/schedules.ts'
import { connectionAttribute } from '../workflows/attributes.ts'
import {
  type Carried,
  carriedFrom,
  optionsOf,
  scheduleIdOf,
  starterIdOf,
  starterInput,
  starterSummary,
  starterTypes,
} from './schedules/carried.ts'

export interface TemporalSchedules {
  /** What Temporal carries under this name; undefined when nothing. */
  look(name: string): Promise<Carried | undefined>
  /** Makes it so, whether there was one or not. */
  put(schedule: ScheduleRecord, carried: Carried, note: string): Promise<void>
  /** It being gone already is fine. */
  remove(name: string): Promise<void>
  /** Names of all schedules under our prefix. */
  names(): Promise<string[]>
  /** Starts the starter of one due time, if it does not run. */
  wake(schedule: ScheduleRecord, installation: string, dueAt: string): Promise<void>
}

type Call = <T>(what: string, ask: () => Promise<T>) => Promise<T>

export function openSchedules(
  client: Client,
  call: Call,
  attributes: { ready(): Promise<boolean>; lost(error: unknown): void },
): TemporalSchedules {
  /** A Temporal that lost its database has to be told our search attributes again: the next try does. */
  const using = async (act: (withAttributes: boolean) => Promise<void>): Promise<void> => {
    try {
      await act(await attributes.ready())
    } catch (error) {
      attributes.lost(error)
      throw error
    }
  }
  const handle = (name: string) => client.schedule.getHandle(scheduleIdOf(name))
  return {
    look: name =>
      call(`asking for schedule ${name}`, async () => {
        try {
          return carriedFrom(await handle(name).describe())
        } catch (error) {
          if (error instanceof ScheduleNotFoundError) return undefined
          throw error
        }
      }),

    put: (schedule, carried, note) =>
      using(withAttributes =>
        call(`telling Temporal of schedule ${schedule.name}`, async () => {
          const options = optionsOf(carried, note, withAttributes ? schedule.connection : null)
          try {
            await client.schedule.create({ scheduleId: scheduleIdOf(schedule.name), ...options })
          } catch (error) {
            if (!(error instanceof ScheduleAlreadyRunning)) throw error
            await handle(schedule.name).update(() => options)
          }
        }),
      ),

    remove: name =>
      call(`removing schedule ${name} from Temporal`, async () => {
        try {
          await handle(name).delete()
        } catch (error) {
          if (!(error instanceof ScheduleNotFoundError)) throw error
        }
      }),

    names: () =>
      call("listing Temporal's schedules", async () => {
        const prefix = scheduleIdOf('')
        const found: string[] = []
        for await (const { scheduleId, action } of client.schedule.list()) {
          const ours = Object.values<string>(starterTypes).includes(action?.workflowType ?? '')
          if (ours && scheduleId.startsWith(prefix)) found.push(scheduleId.slice(prefix.length))
        }
        return found
      }),

    wake: (schedule, installation, dueAt) =>
      using(withAttributes =>
        call(`waking the starter of schedule ${schedule.name}`, async () => {
          try {
            await client.workflow.start(starterTypes[schedule.kind], {
              taskQueue,
              workflowId: `${starterIdOf(schedule.name)}-${dueAt.replace(/\.\d+Z$/, 'Z')}`,
              args: [{ ...starterInput(schedule, installation), dueAt }],
              workflowIdConflictPolicy: 'FAIL',
              workflowIdReusePolicy: 'ALLOW_DUPLICATE',
              staticSummary: starterSummary(schedule),
              ...(withAttributes && schedule.connection !== null
                ? { typedSearchAttributes: [{ key: connectionAttribute, value: schedule.connection }] }
                : {}),
            })
          } catch (error) {
            if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error
          }
        }),
      ),
  }
}
