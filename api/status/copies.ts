/**
 * The rule of three, two and one, for the newest backup that can be restored: three copies of the data (the database itself is
 * one), on two kinds of media, one of them off-site; and one that nobody can remove.
 */
import type { StoredDestination } from '../../catalog/destinations.ts'
import { objectLock } from '../../model/keeping.ts'
import type { BackupRecord, CopyRecord } from '../../model/records.ts'
import type { DatabaseStatus } from '../../model/views.ts'

type CopiesStatus = NonNullable<DatabaseStatus['copies']>
type Shortfall = CopiesStatus['missing'][number]
type Rule = Shortfall['rule']
type Place = Pick<StoredDestination, 'name' | 'kind' | 'settings' | 'offSite' | 'readOnly'>

/** With the database. */
const wantedCopies = 3

/**
 * `whole`: the copies of the backup that can be restored as far as we know; `older`: what came before it, newest first;
 * `places`: every destination.
 */
export function copiesStatus(
  backup: BackupRecord,
  whole: readonly CopyRecord[],
  older: readonly BackupRecord[],
  places: readonly Place[],
  now: Date,
): CopiesStatus {
  const byName = new Map(places.map(place => [place.name, place]))
  const has = whatHas(whole, byName, now)
  const rules = shortOf(has)
  const arriving = backup.copies
    .filter(
      copy => copy.state === 'missing' && copy.wantedUntil !== null && copy.wantedUntil > now.toISOString(),
    )
    .map(copy => copy.destination)
  return {
    count: has.count,
    media: has.media,
    offSite: has.offSite,
    immutable: has.immutable,
    arriving,
    missing: rules.map(rule => shortfall(rule, rules, { backup, has, whole, arriving, byName })),
    since: rules.length === 0 ? null : shortSince(backup, older, byName),
  }
}

type Has = Pick<CopiesStatus, 'count' | 'media' | 'offSite' | 'immutable'>

function whatHas(copies: readonly CopyRecord[], places: ReadonlyMap<string, Place>, at: Date): Has {
  const found = copies.flatMap(copy => {
    const place = places.get(copy.destination)
    return place ? [{ copy, place }] : []
  })
  const named = (which: (one: (typeof found)[number]) => boolean) =>
    found.filter(which).map(({ place }) => place.name)
  return {
    count: 1 + found.length,
    // The database lies on a disk.
    media: found.some(({ place }) => mediumOf(place) === 'object store')
      ? ['disk', 'object store']
      : ['disk'],
    offSite: named(({ place }) => place.offSite === true),
    immutable: named(({ copy, place }) => isLocked(place, copy, at)),
  }
}

const mediumOf = ({ kind }: Pick<Place, 'kind'>): CopiesStatus['media'][number] =>
  kind === 'local' || kind === 'server' ? 'disk' : 'object store'

/** By the settings: what the store itself says of an object is asked for by those who look at one backup. */
function isLocked({ settings }: Place, { committedAt }: CopyRecord, at: Date): boolean {
  if (settings.legalHold === true) return true
  const lock = objectLock.safeParse(settings.objectLock)
  return (
    lock.success &&
    committedAt !== null &&
    Date.parse(committedAt) + lock.data.days * 86_400_000 > at.getTime()
  )
}

const locks = ({ settings }: Place): boolean =>
  settings.legalHold === true || objectLock.safeParse(settings.objectLock).success

const shortOf = ({ count, media, offSite, immutable }: Has): Rule[] => [
  ...(count < wantedCopies ? (['copies'] as const) : []),
  ...(media.length < 2 ? (['media'] as const) : []),
  ...(offSite.length === 0 ? (['off-site'] as const) : []),
  ...(immutable.length === 0 ? (['immutable'] as const) : []),
]

/** When the first of the latest backups in a row was begun that fell short until the next one came. */
function shortSince(
  newest: BackupRecord,
  older: readonly BackupRecord[],
  places: ReadonlyMap<string, Place>,
): string {
  let since = newest.startedAt
  for (const backup of older) {
    const until = since
    // Also what was removed since: it was there while it counted.
    const had = backup.copies.filter(({ committedAt }) => committedAt !== null && committedAt <= until)
    if (shortOf(whatHas(had, places, new Date(until))).length === 0) break
    since = backup.startedAt
  }
  return since
}

interface Situation {
  backup: BackupRecord
  has: Has
  whole: readonly CopyRecord[]
  arriving: readonly string[]
  byName: ReadonlyMap<string, Place>
}

function shortfall(rule: Rule, all: readonly Rule[], situation: Situation): Shortfall {
  const { backup, whole, arriving, byName } = situation
  const mends = (place: Place, which: Rule): boolean =>
    which === 'copies' ||
    (which === 'media' && mediumOf(place) === 'object store') ||
    (which === 'off-site' && place.offSite === true) ||
    (which === 'immutable' && locks(place))
  // Of those that would do the one that mends most, so that one copying does for several.
  const value = (place: Place) => all.filter(one => mends(place, one)).length
  const holding = new Set(whole.map(({ destination }) => destination))
  // It is never to be there again.
  const deleted = new Set(
    backup.copies.filter(({ state }) => state === 'deleted').map(({ destination }) => destination),
  )
  const free = [...byName.values()].filter(
    place => !holding.has(place.name) && !deleted.has(place.name) && !place.readOnly,
  )
  const coming = (place: Place) => (arriving.includes(place.name) ? 1 : 0)
  const [best] = free
    .filter(place => mends(place, rule))
    .sort((a, b) => coming(b) - coming(a) || value(b) - value(a))
  const detail = detailOf(rule, situation)
  if (best === undefined) return { rule, detail, ...withoutPlace(rule, situation) }
  if (coming(best)) {
    const hint = `It is being copied to ${best.name} by itself.`
    return { rule, detail, hint, command: `holdfast backups show ${backup.id}` }
  }
  return {
    rule,
    detail,
    hint: `Copy it to ${best.name}, and name that in its schedule as well (holdfast schedule edit NAME --to … --to ${best.name}).`,
    command: `holdfast backups copy ${backup.id} --to ${best.name}`,
  }
}

function detailOf(rule: Rule, { has, whole, byName }: Situation): string {
  const places = placesOf(whole, byName)
  switch (rule) {
    case 'copies':
      return `${has.count} of ${wantedCopies} copies, with the database itself.`
    case 'media':
      return 'Every copy is on a disk, none in an object store.'
    case 'off-site': {
      const unsaid = places.filter(({ offSite }) => offSite === null).map(({ name }) => name)
      return unsaid.length === 0
        ? 'No copy is off-site.'
        : `No copy is known to be off-site: nobody has said where ${unsaid.join(', ')} ${unsaid.length === 1 ? 'lies' : 'lie'}.`
    }
    case 'immutable':
      return places.some(locks)
        ? 'No copy is immutable any more: its lock is over.'
        : 'No copy is immutable: who may delete at the destinations can remove them all.'
  }
}

/** What helps where no destination that is there does. */
function withoutPlace(rule: Rule, { backup, whole, byName }: Situation): Pick<Shortfall, 'hint' | 'command'> {
  const places = placesOf(whole, byName)
  if (rule === 'off-site') {
    const unsaid = places.find(({ offSite }) => offSite === null)
    if (unsaid) {
      return {
        hint: `Say so if ${unsaid.name} lies elsewhere than the database; else add a destination that does, and copy it there.`,
        command: `holdfast destination change ${unsaid.name} --off-site`,
      }
    }
    return {
      hint: 'Add a destination that lies elsewhere, and copy it there.',
      command: 'holdfast destination add NAME URI --off-site',
    }
  }
  if (rule === 'immutable') {
    const locking = places.find(locks)
    if (locking) {
      return {
        hint: 'Make a new one: it is locked anew.',
        command: `holdfast backup ${backup.connection} --to ${locking.name}`,
      }
    }
    const store = places.find(place => mediumOf(place) === 'object store')
    if (store) {
      return {
        hint: `Lock what is written there, if the store was made for it; what comes then is locked.`,
        command: `holdfast destination change ${store.name} --lock compliance:30`,
      }
    }
    return {
      hint: 'Add an object store that keeps locks, and copy it there.',
      command: 'holdfast destination add NAME s3://BUCKET/PREFIX --lock compliance:30',
    }
  }
  return {
    hint: 'Add another destination, and copy it there.',
    command: `holdfast destination add NAME ${rule === 'media' ? 's3://BUCKET/PREFIX' : 'URI'}`,
  }
}

const placesOf = (copies: readonly CopyRecord[], byName: ReadonlyMap<string, Place>): Place[] =>
  copies.flatMap(({ destination }) => byName.get(destination) ?? [])
