/**
 * What a token that is limited to some connections may touch. A route says what its path names, or that it looks by itself;
 * one that says nothing is about the whole installation and refused, so that a new route is closed until somebody
 * thought of it. What is not within reach does not exist for such a token: it gets the answer for a name that is not there.
 */
import type { MiddlewareHandler } from 'hono'
import { findBackup } from '../catalog/backups.ts'
import { listConnections, type StoredConnection } from '../catalog/connections.ts'
import type { Catalog } from '../catalog/open.ts'
import { findOperation } from '../catalog/operations.ts'
import { findSchedule } from '../catalog/schedules.ts'
import { engineOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { Actor } from '../model/records.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { type Needed, type Reach, type RouteName, routeOf } from './roles.ts'

type Limited = Pick<Actor, 'connections'>

/** `null`: of the whole installation, which is within no limit. */
export const within = ({ connections }: Limited, name: string | null): boolean =>
  connections === null || (name !== null && connections.includes(name))

/** For lists: of these connections only. */
export const limitOf = ({ connections }: Limited): { connections?: readonly string[] } =>
  connections === null ? {} : { connections }

/** Throws what a connection that is not there is answered with. */
export function assertWithin(actor: Limited, name: string): void {
  if (!within(actor, name)) {
    throw new HoldfastError('request.not-found', `There is no connection named ${name}.`)
  }
}

/** For what is about the whole installation. */
export function assertUnlimited({ connections }: Limited): void {
  if (connections === null) return
  throw new HoldfastError(
    'request.forbidden',
    `This is about more than the connections that this token is limited to: ${connections.join(', ')}.`,
    { hint: 'Use a token that is not limited to connections.' },
  )
}

export function withReach(
  { catalog }: ApiContext,
  needed: () => ReadonlyMap<RouteName, Needed>,
): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const actor: Actor | undefined = c.get('actor')
    const route = routeOf(c)
    if (!actor || actor.connections === null || route === undefined) return await next()
    const reach = needed().get(route)?.reach
    if (reach === undefined) {
      throw new HoldfastError(
        'request.forbidden',
        `${route} is about more than the connections that this token is limited to: ${actor.connections.join(', ')}.`,
        { hint: 'Use a token that is not limited to connections.' },
      )
    }
    if (reach !== 'checked' && reach !== 'nothing') {
      await assertNamed(catalog, actor, reach, named(route, c.req.path))
    }
    await next()
  }
}

/** Throws what the route says of a name that is not there. */
async function assertNamed(catalog: Catalog, actor: Actor, what: Reach, name: string): Promise<void> {
  const gone = (code: 'request.not-found' | 'backup.not-found', text: string) => new HoldfastError(code, text)
  if (what === 'connection') return assertWithin(actor, name)
  if (what === 'operation') {
    const found = await findOperation(catalog, name)
    if (found && !within(actor, found.connection)) {
      throw gone('request.not-found', `There is no operation ${name}.`)
    }
  }
  if (what === 'backup') {
    const found = await findBackup(catalog, name)
    if (found && !within(actor, found.connection))
      throw gone('backup.not-found', `There is no backup ${name}.`)
  }
  if (what === 'schedule') {
    const found = await findSchedule(catalog.db, { name })
    if (found && !within(actor, found.connection)) {
      throw gone('request.not-found', `There is no schedule named ${name}.`)
    }
  }
}

/** What stands in the path where the route has its one parameter. */
function named(route: RouteName, path: string): string {
  const pattern = route.slice(route.indexOf(' ') + 1).split('/')
  const place = pattern.findIndex(part => part.startsWith('{'))
  try {
    return decodeURIComponent(path.split('/')[place] ?? '')
  } catch {
    // Not a name of anything: the route says so.
    return ''
  }
}

/**
 * A connection reaches a whole server. Over what another connection stands for nothing is restored, and no backup of another
 * one is ended.
 */
export async function assertTargetWithin(
  catalog: Catalog,
  actor: Limited,
  target: StoredConnection,
  { database, preempt }: { database: string; preempt: boolean },
): Promise<void> {
  assertWithin(actor, target.name)
  if (actor.connections === null) return
  const others = (await listConnections(catalog)).filter(one => !within(actor, one.name))
  // A file has no server: whoever names its path means it.
  const sameServer = (one: StoredConnection) =>
    one.serverIdentity === target.serverIdentity || one.engine === 'sqlite'
  const engine = engineOf(target.engine)
  const taken = others.some(
    one => one.engine === target.engine && sameServer(one) && engine.databaseOf(one.settings) === database,
  )
  if (taken) {
    throw new HoldfastError('request.forbidden', `${database} is not among what this token is limited to.`)
  }
  if (preempt && others.some(one => one.serverIdentity === target.serverIdentity)) {
    throw new HoldfastError(
      'request.forbidden',
      `Another connection uses the server of ${target.name}, too: this token may not end a backup of it.`,
    )
  }
}
