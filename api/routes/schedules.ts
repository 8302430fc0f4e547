import { randomBytes } from 'node:crypto'
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { readConnection } from '../../catalog/connections.ts'
import { readDestination } from '../../catalog/destinations.ts'
import { writerIdentity } from '../../catalog/installation.ts'
import { boundedTimes, changeSchedule, listRuns, recordTriggered } from '../../catalog/schedule-runs.ts'
import {
  findSchedule,
  insertSchedule,
  listSchedules,
  readSchedule,
  removeSchedule,
} from '../../catalog/schedules.ts'
import { HoldfastError } from '../../model/errors.ts'
import { readable } from '../../model/ids.ts'
import {
  optionsOfKind,
  pauseInput,
  type ScheduleInput,
  type ScheduleView,
  scheduleDetail,
  scheduleEdit,
  scheduleInput,
  scheduleRunView,
  scheduleView,
} from '../../model/schedule-schemas.ts'
import { wordsOf } from '../../model/schedule-words.ts'
import type { ScheduleKind, ScheduleRecord, ScheduleRun } from '../../model/schedules.ts'
import { accepted, page } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { assertMayDrill, expectImageFits } from '../drills.ts'
import { fieldsOf, InvalidRequest } from '../problem.ts'
import { assertUnlimited, assertWithin, within } from '../reach.ts'
import { requires } from '../roles.ts'
import { carry } from '../schedules/rounds.ts'
import { operationOf } from '../schedules/start.ts'
import { submit, submittedBefore } from '../submit.ts'
import { operationViewOf } from '../views.ts'
import {
  body,
  cursorOf,
  cursorQuery,
  json,
  limitQuery,
  nameParam,
  noQuery,
  nothing,
  problems,
} from './answers.ts'

const tags = ['schedules']
const shownNext = 5
const shownRuns = 20

const add = createRoute({
  method: 'post',
  path: '/v1/schedules',
  tags,
  ...requires('operator', 'checked'),
  summary: 'Make backups or verifications start by themselves',
  request: { body: body(scheduleInput) },
  responses: { 201: json(scheduleView, 'Kept'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/schedules',
  tags,
  ...requires('viewer', 'checked'),
  summary: 'All schedules',
  request: { query: noQuery },
  responses: { 200: json(page(scheduleView), 'By name'), ...problems },
})
const show = createRoute({
  method: 'get',
  path: '/v1/schedules/{name}',
  tags,
  ...requires('viewer', 'schedule'),
  summary: 'One schedule: what comes, what ran, what was missed and why',
  request: { params: nameParam },
  responses: { 200: json(scheduleDetail, 'The schedule; its revision is the ETag'), ...problems },
})
const runs = createRoute({
  method: 'get',
  path: '/v1/schedules/{name}/runs',
  tags,
  ...requires('viewer', 'schedule'),
  summary: 'What became of its due times, newest first',
  request: {
    params: nameParam,
    query: z.strictObject({
      missed: z.enum(['true', 'false']).optional(),
      cursor: cursorQuery,
      limit: limitQuery,
    }),
  },
  responses: { 200: json(page(scheduleRunView), 'A page'), ...problems },
})
const edit = createRoute({
  method: 'patch',
  path: '/v1/schedules/{name}',
  tags,
  ...requires('operator', 'schedule'),
  summary: 'Change the named fields; with If-Match only if nobody else did meanwhile',
  request: { params: nameParam, body: body(scheduleEdit) },
  responses: { 200: json(scheduleView, 'Changed'), ...problems },
})
const pause = createRoute({
  method: 'post',
  path: '/v1/schedules/{name}/pause',
  tags,
  ...requires('operator', 'schedule'),
  summary: 'Let it come due no more; what runs goes on, what waits is missed',
  request: { params: nameParam, body: body(pauseInput) },
  responses: { 200: json(scheduleView, 'Paused'), ...problems },
})
const resume = createRoute({
  method: 'post',
  path: '/v1/schedules/{name}/resume',
  tags,
  ...requires('operator', 'schedule'),
  summary: 'Let it come due again; what would have been due meanwhile is not made up for',
  request: { params: nameParam, body: body(nothing) },
  responses: { 200: json(scheduleView, 'Resumed'), ...problems },
})
const trigger = createRoute({
  method: 'post',
  path: '/v1/schedules/{name}/trigger',
  tags,
  ...requires('operator', 'schedule'),
  summary: 'Run it now: an operation like any other',
  request: { params: nameParam, body: body(nothing) },
  responses: { 202: json(accepted, 'Accepted'), ...problems },
})
const remove = createRoute({
  method: 'delete',
  path: '/v1/schedules/{name}',
  tags,
  ...requires('operator', 'schedule'),
  summary: 'Forget a schedule; operations and backups stay',
  request: { params: nameParam },
  responses: { 204: { description: 'Forgotten' }, ...problems },
})

export function scheduleRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog, temporal } = context
  const changed = async (name: string, change: (schedule: ScheduleRecord) => ScheduleRecord) => {
    await changeSchedule(catalog, name, new Date(), change)
    await carryNow(context, name)
    return await readSchedule(catalog, name)
  }
  app.openapi(add, async c => {
    const requestKey = c.get('requestKey')
    const input = c.req.valid('json')
    const connection = connectionOf(input)
    // A scrub or a sweep is about every backup: nobody whose token is limited makes one.
    if (connection === null) assertUnlimited(c.get('actor'))
    else assertWithin(c.get('actor'), connection)
    assertMayDrill(c.get('actor'), input.options)
    const known = await findSchedule(catalog.db, { name: input.name })
    // Made by this very request, whose answer was lost.
    if (known && requestKey !== null && known.requestKey === requestKey) {
      return c.json(await viewOf(context, known), 201)
    }
    if (known) throw new HoldfastError('request.exists', `There is a schedule named ${input.name} already.`)
    const schedule = await newSchedule(context, input, requestKey)
    await insertSchedule(catalog, schedule)
    await carryNow(context, schedule.name)
    return c.json(await viewOf(context, await readSchedule(catalog, schedule.name)), 201)
  })
  app.openapi(list, async c => {
    const actor = c.get('actor')
    const schedules = (await listSchedules(catalog)).filter(one => within(actor, one.connection))
    const items = await Promise.all(schedules.map(schedule => viewOf(context, schedule)))
    return c.json({ items, nextCursor: null }, 200)
  })
  app.openapi(show, async c => {
    const schedule = await readSchedule(catalog, c.req.valid('param').name)
    const [view, newest, missed] = await Promise.all([
      viewOf(context, schedule),
      listRuns(catalog, schedule.id, { limit: shownRuns }),
      listRuns(catalog, schedule.id, { missed: true, limit: shownRuns }),
    ])
    c.header('etag', etagOf(schedule))
    return c.json({ ...view, runs: newest.map(runViewOf), missed: missed.map(runViewOf) }, 200)
  })
  app.openapi(runs, async c => {
    const { cursor, limit = 50, missed } = c.req.valid('query')
    const schedule = await readSchedule(catalog, c.req.valid('param').name)
    const found = await listRuns(catalog, schedule.id, {
      ...(cursor === undefined ? {} : { before: cursor.time }),
      missed: missed === 'true',
      limit: limit + 1,
    })
    const shown = found.slice(0, limit)
    const last = found.length > limit ? shown.at(-1) : undefined
    return c.json(
      { items: shown.map(runViewOf), nextCursor: last ? cursorOf(last.dueAt, schedule.id) : null },
      200,
    )
  })
  app.openapi(edit, async c => {
    const { name } = c.req.valid('param')
    const changes = c.req.valid('json')
    const expected = c.req.header('if-match')
    assertMayDrill(c.get('actor'), changes.options)
    const change = (schedule: ScheduleRecord) => {
      if (expected !== undefined && expected !== '*' && expected !== etagOf(schedule)) {
        throw new HoldfastError('request.changed', `Schedule ${name} is not what it was when it was read.`)
      }
      return edited(schedule, changes)
    }
    await assertAcceptable(context, change(await readSchedule(catalog, name)))
    const schedule = await changed(name, change)
    c.header('etag', etagOf(schedule))
    return c.json(await viewOf(context, schedule), 200)
  })
  app.openapi(pause, async c => {
    const { note = null } = c.req.valid('json')
    const schedule = await changed(c.req.valid('param').name, was => ({ ...was, paused: true, note }))
    return c.json(await viewOf(context, schedule), 200)
  })
  app.openapi(resume, async c => {
    const schedule = await changed(c.req.valid('param').name, was => ({ ...was, paused: false, note: null }))
    return c.json(await viewOf(context, schedule), 200)
  })
  app.openapi(trigger, async c => {
    const requestKey = c.get('requestKey')
    const schedule = await readSchedule(catalog, c.req.valid('param').name)
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(context, await operationOf(context, schedule), requestKey))
    await recordTriggered(catalog, schedule.id, operation, c.get('actor').name)
    return c.json({ operation: operationViewOf(operation, temporal) }, 202)
  })
  app.openapi(remove, async c => {
    const { name } = c.req.valid('param')
    await removeSchedule(catalog, name)
    await temporal.schedules.remove(name).catch(error => {
      context.log.warn('a removed schedule is still in Temporal; it will be removed later', {
        schedule: name,
        reason: String(error),
      })
    })
    return c.body(null, 204)
  })
}

/** Of what can be changed: what ran and what comes next is shown beside it, and changes by itself. */
const etagOf = ({ revision }: ScheduleRecord): string => `"${revision}"`

/** Temporal hears of a change at once, if it can be reached; else the next round tells it. */
async function carryNow(context: ApiContext, name: string): Promise<void> {
  try {
    const { installationId } = await writerIdentity(context.catalog)
    await carry(context, installationId, await readSchedule(context.catalog, name))
  } catch (error) {
    context.log.warn('Temporal has not heard of a schedule yet', { schedule: name, reason: String(error) })
  }
}

const targetOf = ({ connection, options }: ScheduleRecord): string =>
  ('target' in options ? options.target : undefined) ?? connection ?? ''

/** Of a scrub, a sweep or a tiering null; of everything else it must be named. */
function connectionOf({ kind, connection }: ScheduleInput): string | null {
  const ofAll = kind === 'scrub' || kind === 'sweep' || kind === 'tiering'
  if (ofAll === (connection === undefined)) return connection ?? null
  const message = ofAll ? `a ${kind} is about every backup` : 'name one'
  throw new InvalidRequest([{ path: 'connection', message }])
}

async function newSchedule(
  context: ApiContext,
  input: ScheduleInput,
  requestKey: string | null,
): Promise<ScheduleRecord> {
  const { kind = 'backup', startAt, endAt } = input
  const now = new Date().toISOString()
  const schedule: ScheduleRecord = {
    id: readable(randomBytes(16)),
    name: input.name,
    kind,
    connection: connectionOf(input),
    destinations: input.destinations ?? [],
    options: optionsFor(kind, input.options ?? {}),
    spec: input.spec,
    jitterSeconds: input.jitterSeconds ?? 0,
    overlap: input.overlap ?? 'skip',
    catchUpSeconds: input.catchUpSeconds ?? 12 * 3600,
    startDeadlineSeconds: input.startDeadlineSeconds ?? 4 * 3600,
    startAt: instant(startAt),
    endAt: instant(endAt),
    paused: input.paused ?? false,
    note: input.note ?? null,
    revision: 1,
    checkedUntil: now,
    carried: null,
    drift: null,
    requestKey,
    createdAt: now,
    updatedAt: now,
  }
  assertEndsAfterItStarts(schedule)
  // Settled now: another one added later does not change what this schedule means.
  return { ...schedule, destinations: await assertAcceptable(context, schedule) }
}

function edited(schedule: ScheduleRecord, changes: z.infer<typeof scheduleEdit>): ScheduleRecord {
  const { options, startAt, endAt, ...plain } = changes
  const given = Object.fromEntries(Object.entries(plain).filter(([, value]) => value !== undefined))
  const after: ScheduleRecord = {
    ...schedule,
    ...given,
    ...(options === undefined ? {} : { options: optionsFor(schedule.kind, options) }),
    ...(startAt === undefined ? {} : { startAt: instant(startAt) }),
    ...(endAt === undefined ? {} : { endAt: instant(endAt) }),
  }
  assertEndsAfterItStarts(after)
  return after
}

const instant = (text: string | null | undefined): string | null =>
  text === null || text === undefined ? null : new Date(text).toISOString()

function assertEndsAfterItStarts({ startAt, endAt }: ScheduleRecord): void {
  if (startAt !== null && endAt !== null && endAt <= startAt) {
    throw new InvalidRequest([{ path: 'endAt', message: 'must be after startAt' }])
  }
}

/** Only what its kind knows. */
function optionsFor(kind: ScheduleKind, options: object): ScheduleRecord['options'] {
  const parsed = optionsOfKind[kind].safeParse(options)
  if (parsed.success) return parsed.data as ScheduleRecord['options']
  throw new InvalidRequest(
    fieldsOf(parsed.error).map(({ path, message }) => ({ path: `options.${path}`, message })),
  )
}

/**
 * What would be refused if it were asked for now is refused when it is scheduled. Returns the destinations. A verify or a drill may
 * be scheduled before there is a backup.
 */
async function assertAcceptable(context: ApiContext, schedule: ScheduleRecord): Promise<string[]> {
  const { kind, destinations } = schedule
  if (kind !== 'backup' && destinations.length > 1) {
    throw new InvalidRequest([{ path: 'destinations', message: `of a ${kind} at most one` }])
  }
  if (kind === 'tiering' && destinations.length === 0) {
    throw new InvalidRequest([
      { path: 'destinations', message: 'name the one whose backups are to be moved' },
    ])
  }
  if (kind === 'drill') await readConnection(context.catalog, targetOf(schedule))
  if (kind === 'verify' || kind === 'drill') {
    const source = await readConnection(context.catalog, schedule.connection ?? '')
    if ('container' in schedule.options) expectImageFits(source)
    for (const name of destinations) await readDestination(context.catalog, name)
    return destinations
  }
  const { input } = await operationOf(context, schedule)
  return 'destinations' in input ? input.destinations : destinations
}

async function viewOf({ catalog }: ApiContext, schedule: ScheduleRecord): Promise<ScheduleView> {
  const { id, requestKey: _key, carried: _carried, checkedUntil: _until, options, ...shown } = schedule
  const [lastRun] = await listRuns(catalog, id, { limit: 1 })
  const [lastMissed] = await listRuns(catalog, id, { missed: true, limit: 1 })
  return {
    ...shown,
    options: { ...options },
    words: wordsOf(schedule.spec),
    next: schedule.paused ? [] : boundedTimes(schedule, Date.now(), null, shownNext),
    lastRun: lastRun ? runViewOf(lastRun) : null,
    lastMissed: lastMissed ? runViewOf(lastMissed) : null,
  }
}

const runViewOf = (run: ScheduleRun): z.infer<typeof scheduleRunView> => ({
  dueAt: run.dueAt,
  state: run.state,
  operation: run.state === 'started' ? run.operationId : null,
  outcome: run.outcome,
  reason: run.reason,
  detail: run.detail,
  holder: run.holder,
  takenAt: run.takenAt,
  deadlineAt: run.deadlineAt,
  triggeredBy: run.triggeredBy,
})
