import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { connectionsOfBackups, findBackup } from '../../catalog/backups.ts'
import { listConnections } from '../../catalog/connections.ts'
import { listDestinations, type StoredDestination } from '../../catalog/destinations.ts'
import { writerIdentity } from '../../catalog/installation.ts'
import { listOperations, openOperations } from '../../catalog/operations.ts'
import { listSchedules } from '../../catalog/schedules.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { Actor } from '../../model/records.ts'
import { homePaths } from '../../model/settings.ts'
import { type StatusProblem, type StatusView, statusView } from '../../model/views.ts'
import { type Keyring, loadKeyring, thumbprint } from '../../storage/keys.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { within } from '../reach.ts'
import { requires } from '../roles.ts'
import { levels, type Round, statusOf } from '../status/database.ts'
import { type Measured, secondsOf } from '../status/estimate.ts'
import { type Look, lookAt } from '../status/look.ts'
import { isPolling } from '../temporal.ts'
import { version } from '../version.ts'
import { json, noQuery, problems } from './answers.ts'

const status = createRoute({
  method: 'get',
  path: '/v1/status',
  tags: ['status'],
  ...requires('viewer', 'checked'),
  summary:
    'Per database: what can be restored, how long it takes, what is wrong. Asks destinations and Temporal',
  request: { query: noQuery },
  responses: { 200: json(statusView, 'Now, worst first'), ...problems },
})

export function statusRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  // Who asks while it is being found out gets the same answer: stores are not asked twice at a time.
  let underWay: Promise<StatusView> | undefined
  app.openapi(status, async c => {
    underWay ??= statusNow(context).finally(() => {
      underWay = undefined
    })
    return c.json(await shownTo(context, c.get('actor'), await underWay), 200)
  })
}

async function statusNow(context: ApiContext): Promise<StatusView> {
  const { catalog, settings } = context
  const now = new Date()
  const { installationId, instanceId, publicKey } = await writerIdentity(catalog)
  const destinations = await listDestinations(catalog)
  const general: StatusProblem[] = []
  const [temporal, keyring, looked] = await Promise.all([
    temporalNow(context, general),
    keysHere(homePaths(settings.home).keys, general),
    Promise.all(destinations.map(async one => [one.name, await lookAt(context, one)] as const)),
  ])
  const looks = new Map<string, Look>(looked)
  try {
    const open = await openOperations(catalog)
    const round: Round = {
      context,
      now,
      destinations,
      looks,
      keyring,
      measured: await measuredRestores(context),
      open,
      schedules: Map.groupBy(await listSchedules(catalog), one => one.connection ?? ''),
    }
    const connections = await listConnections(catalog)
    const known = new Set(connections.map(({ name }) => name))
    const lost = (await connectionsOfBackups(catalog)).filter(name => !known.has(name))
    const databases = await inTurns([
      ...connections.map(one => () => statusOf(round, one.name, one)),
      ...lost.map(name => () => statusOf(round, name, undefined)),
    ])
    databases.sort(
      (a, b) =>
        levels.indexOf(b.level) - levels.indexOf(a.level) ||
        b.problems.filter(counts).length - a.problems.filter(counts).length ||
        (a.connection < b.connection ? -1 : 1),
    )
    const places = destinations.map(one => placeOf(one, looks.get(one.name)?.trouble))
    return {
      version,
      installationId,
      instanceId,
      fingerprint: await thumbprint(publicKey),
      at: now.toISOString(),
      level: worst(databases, [...general, ...places.flatMap(place => place.problems)]),
      temporal,
      operations: { open: open.length },
      databases,
      destinations: places,
      problems: general,
    }
  } finally {
    await Promise.all([...looks.values()].map(look => look.close()))
  }
}

const worst = (
  databases: readonly { level: StatusView['level'] }[],
  problems: readonly StatusProblem[],
): StatusView['level'] => {
  const ranks = [
    ...databases.map(one => levels.indexOf(one.level)),
    ...problems.map(({ level }) => (level === 'note' ? 0 : levels.indexOf(level))),
  ]
  return levels[Math.max(0, ...ranks)] ?? 'healthy'
}

/** Of the connections that whoever asks is limited to. */
async function shownTo({ catalog }: ApiContext, actor: Actor, whole: StatusView): Promise<StatusView> {
  if (actor.connections === null) return whole
  const databases = whole.databases.filter(one => within(actor, one.connection))
  const open = (await openOperations(catalog)).filter(one => within(actor, one.connection)).length
  const general = [...whole.problems, ...whole.destinations.flatMap(place => place.problems)]
  return { ...whole, databases, level: worst(databases, general), operations: { open } }
}

const counts = (problem: StatusProblem): boolean => problem.level !== 'note'

async function temporalNow(
  { temporal, settings }: ApiContext,
  found: StatusProblem[],
): Promise<StatusView['temporal']> {
  const { namespace, uiUrl } = settings.temporal
  const about = { namespace, uiUrl: uiUrl ?? null }
  try {
    const workers = (await temporal.pollers()).filter(isPolling).length
    if (workers === 0) {
      found.push({
        level: 'critical',
        code: 'worker.none',
        detail: 'No worker asks Temporal for work: nothing is backed up or restored.',
        hint: 'Start one, or see its log.',
        command: 'holdfast worker',
      })
    }
    return { ...about, reachable: true, workers }
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    const { code, detail, hint } = error.facts()
    found.push({ level: 'critical', code, detail, hint, command: null })
    return { ...about, reachable: false, workers: null }
  }
}

/** A key file that cannot be used must not take the whole screen away. */
async function keysHere(directory: string, found: StatusProblem[]): Promise<Keyring> {
  try {
    return await loadKeyring(directory)
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    const { code, detail, hint } = error.facts()
    found.push({ level: 'warning', code, detail, hint, command: null })
    return { keys: [], locked: [], kms: [], recipients: [] }
  }
}

function placeOf(
  { name, uri, readOnly }: StoredDestination,
  trouble: StatusProblem | undefined,
): StatusView['destinations'][number] {
  const found: StatusProblem[] = trouble === undefined ? [] : [trouble]
  if (readOnly) {
    found.push({
      level: 'warning',
      code: 'destination.read-only',
      detail: `Destination ${name}: another installation writes there; no backup can be made to it.`,
      hint: 'If that installation is gone for good, take over.',
      command: `holdfast takeover ${name}`,
    })
  }
  return { name, uri, readOnly, reachable: trouble === undefined, problems: found }
}

/** Restores that are looked back at. */
const restoreCount = 200

async function measuredRestores({ catalog }: ApiContext): Promise<Measured[]> {
  // A drill goes through the phases of a restore; what it does besides has others.
  const kinds = (['restore', 'drill'] as const).map(kind =>
    listOperations(catalog, { kind, state: 'succeeded' }, undefined, restoreCount),
  )
  const measured: Measured[] = []
  for (const { phases, backupId } of (await Promise.all(kinds)).flat()) {
    const seconds = secondsOf(phases)
    const backup = seconds && backupId !== null && (await findBackup(catalog, backupId))
    if (!backup) continue
    const { connection, engine, method, toolBytes: bytes } = backup
    measured.push({ connection, engine, method, bytes, ...seconds })
  }
  return measured
}

/** A few at a time: a fleet must not open a hundred connections to a store at once. */
async function inTurns<T>(tasks: readonly (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = []
  const queue = [...tasks.entries()]
  const work = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) results[next[0]] = await next[1]()
  }
  await Promise.all(Array.from({ length: 8 }, work))
  return results
}
