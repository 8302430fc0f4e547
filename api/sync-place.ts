/** Where a sync looks: a destination by its name, by its URI or by one below it; or a directory of this machine. */
import {
  destinationSecrets,
  insertDestination,
  listPlaces,
  type StoredDestination,
} from '../catalog/destinations.ts'
import { HoldfastError } from '../model/errors.ts'
import { slugPattern } from '../model/ids.ts'
import type { Actor } from '../model/records.ts'
import { type DestinationExtras, kindOfUri, parseDestinationUri, placeNames } from '../storage/index.ts'
import type { ApiContext } from './context.ts'
import { InvalidRequest } from './problem.ts'
import { assertRole } from './roles.ts'

interface SyncPlace {
  destination: StoredDestination
  secrets: Record<string, string>
  /** Keys below it; '' or ends with '/'. */
  prefix: string
  /** A directory that is not remembered as a place yet. */
  isNew: boolean
}

/** `source`: what somebody typed. `named`: the destination it has to be of. Throws `request.*`, `destination.*`. */
export async function syncPlaceOf(
  context: ApiContext,
  { source, destination: named }: { source: string; destination?: string | undefined },
  actor: Actor,
): Promise<SyncPlace> {
  const { catalog } = context
  const all = await listPlaces(catalog)
  const at = async (destination: StoredDestination, prefix: string): Promise<SyncPlace> => ({
    destination,
    secrets: await destinationSecrets(catalog, destination.name),
    prefix,
    isNew: false,
  })
  if (slugPattern.test(source)) {
    const found = all.find(({ name }) => name === source)
    if (!found) throw new HoldfastError('request.not-found', `There is no destination named ${source}.`)
    expectNamed(source, named)
    return await at(found, '')
  }
  const kind = kindOfUri(source)
  const wanted = all.find(({ name }) => name === named)
  if (named !== undefined && !wanted) {
    throw new InvalidRequest([{ path: 'destination', message: `there is no destination named ${named}` }])
  }
  if (wanted && wanted.kind !== kind) {
    throw new HoldfastError(
      'request.mismatch',
      `${source} is a place of the kind ${kind}; destination ${wanted.name} (${wanted.uri}) is of the kind ${wanted.kind}.`,
    )
  }
  const holders = all
    .filter(one => one.kind === kind && (wanted === undefined || one.name === wanted.name))
    .filter(one => isBelow(uriAs(one, source), one.uri))
    // The closest: of two that hold it, the one whose own place it nearly is.
    .sort((a, b) => b.uri.length - a.uri.length || (a.foreignOnly ? 1 : 0) - (b.foreignOnly ? 1 : 0))
  const [holder] = holders
  if (holder) return await at(holder, keyPrefix(uriAs(holder, source), holder.uri))
  if (wanted) {
    throw new HoldfastError(
      'request.mismatch',
      `${source} does not lie in destination ${wanted.name} (${wanted.uri}).`,
    )
  }
  if (kind !== 'local') {
    throw new HoldfastError('request.not-found', `No destination here holds ${source}.`, {
      hint: `Add it first: holdfast destination add NAME ${source}`,
    })
  }
  const { uri } = parseDestinationUri(source)
  // As adding a destination does: the API's machine may hold more than its users are to see.
  assertRole(actor, 'admin', `Reading a directory of this machine that no destination holds, ${uri},`)
  return { destination: directoryOf(uri, all), secrets: {}, prefix: '', isNew: true }
}

function expectNamed(source: string, named: string | undefined): void {
  if (named === undefined || named === source) return
  throw new InvalidRequest([{ path: 'destination', message: `is another one than ${source}` }])
}

/** Remembered once the directory was found to be one. */
export const rememberDirectory = (context: ApiContext, destination: StoredDestination): Promise<void> =>
  insertDestination(context.catalog, destination, {}, null)

/** What was typed, read as the URI of this destination would be; some kinds cannot be read without their account or endpoint. */
function uriAs(destination: StoredDestination, source: string): string {
  const said = Object.fromEntries(
    placeNames.flatMap(name => {
      const value = destination.settings[name]
      return value === undefined ? [] : [[name, value]]
    }),
  )
  return parseDestinationUri(source, said as DestinationExtras).uri
}

const isBelow = (uri: string, holder: string): boolean => {
  const root = holder.replace(/\/+$/, '')
  return uri.replace(/\/+$/, '') === root || uri.startsWith(`${root}/`)
}

function keyPrefix(uri: string, holder: string): string {
  const rest = uri.slice(holder.replace(/\/+$/, '').length).replace(/^\/+|\/+$/g, '')
  return rest === '' ? '' : `${uri.startsWith('file:') ? decodeURIComponent(rest) : rest}/`
}

/** Named after the directory; nothing is written there, ever. */
function directoryOf(uri: string, all: readonly StoredDestination[]): StoredDestination {
  const last = decodeURIComponent(uri.slice(uri.lastIndexOf('/') + 1))
  const slug = last
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 40)
  const base = slug === '' ? 'foreign' : slug
  const taken = new Set(all.map(({ name }) => name))
  let name = base
  for (let count = 2; taken.has(name); count += 1) name = `${base}-${count}`
  return {
    name,
    kind: 'local',
    uri,
    settings: {},
    secretFields: [],
    createdAt: new Date().toISOString(),
    readOnly: true,
    encryptTo: null,
    failover: null,
    offSite: null,
    foreignOnly: true,
    requestKey: null,
  }
}
