/** What tests of schedules share: a database of its own for each, and due times that lie a few seconds ahead. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ScheduleRunView, ScheduleView } from '../../model/schedule-schemas.ts'
import { makeShop } from '../support/shop.ts'
import { eventually, type Stack } from './stack.ts'

export type Detail = ScheduleView & { runs: ScheduleRunView[]; missed: ScheduleRunView[] }

/** Every `everySeconds`, next in `inSeconds` from now. */
export function dueIn(inSeconds: number, everySeconds = 3600) {
  const first = Math.floor(Date.now() / 1000) + inSeconds
  return {
    spec: { everySeconds, offsetSeconds: first % everySeconds },
    firstDueAt: new Date(first * 1000).toISOString(),
  }
}

/** A connection to a new small database, and a destination for its backups, both of this name. */
export async function addShop(stack: Stack, name: string): Promise<void> {
  const path = join(stack.directory, `${name}.db`)
  makeShop(path, { rows: 100 })
  await mkdir(join(stack.directory, `vault-${name}`))
  await stack.expectOk('POST', '/v1/destinations', { name, uri: join(stack.directory, `vault-${name}`) })
  await stack.expectOk('POST', '/v1/connections', { name, url: `sqlite:${path}`, method: 'logical' })
}

/** A schedule of backups of the database of this name. Returns the first due time. */
export async function addSchedule(
  stack: Stack,
  name: string,
  due: { inSeconds: number; everySeconds?: number },
  fields: Record<string, unknown> = {},
): Promise<string> {
  const { spec, firstDueAt } = dueIn(due.inSeconds, due.everySeconds)
  await stack.expectOk('POST', '/v1/schedules', {
    name,
    connection: name,
    destinations: [name],
    spec,
    ...fields,
  })
  return firstDueAt
}

export const detail = (stack: Stack, name: string): Promise<Detail> =>
  stack.expectOk<Detail>('GET', `/v1/schedules/${name}`)

/** The run of one due time, once `is` says so. */
export const runThat = (
  stack: Stack,
  name: string,
  dueAt: string,
  is: (run: ScheduleRunView) => boolean,
  seconds = 120,
): Promise<ScheduleRunView> =>
  eventually(
    `${name}, due ${dueAt}`,
    async () => (await detail(stack, name)).runs.find(run => run.dueAt === dueAt && is(run)),
    seconds,
  )

export const succeeded = (run: ScheduleRunView): boolean => run.outcome === 'succeeded'
export const missed = (run: ScheduleRunView): boolean => run.state === 'missed'
