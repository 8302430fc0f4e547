/** Whom a new backup is encrypted for. */
import { currentKid, type KeyState, keyStates } from '../catalog/key-states.ts'
import { keyring } from '../catalog/keys.ts'
import { HoldfastError } from '../model/errors.ts'
import type { KeyRef } from '../model/records.ts'
import { homePaths } from '../model/settings.ts'
import { keyFilesOf } from '../storage/keys.ts'
import type { ApiContext } from './context.ts'
import { InvalidRequest } from './problem.ts'

/**
 * Absent: every key there is that no other one took the place of, and at least one. An empty list: not encrypted, because
 * somebody said so. A key that was replaced means the one that took its place, so that schedules need no change.
 */
export async function recipientsOf(
  { catalog, settings }: ApiContext,
  asked: readonly string[] | undefined,
): Promise<string[]> {
  const ring = await keyring(catalog, homePaths(settings.home).keys)
  const here: KeyRef[] = [...keyFilesOf(ring), ...ring.recipients]
  const states = await keyStates(catalog.db)
  if (asked === undefined) {
    const names = here.filter(({ kid }) => currentKid(states, kid) === kid).map(({ name }) => name)
    if (names.length > 0) return names.sort()
    throw new HoldfastError('key.missing', 'Backups are encrypted, and there is no key yet.', {
      hint: 'Make one with `holdfast keys new NAME`; a backup that is not encrypted must be asked for (--no-encrypt, encryptTo: []).',
    })
  }
  return namesOf(here, states, asked)
}

/** Throws for a name that no key here has, or had before another one took its place. */
export async function assertKeys(
  { catalog, settings }: ApiContext,
  names: readonly string[] | null,
): Promise<void> {
  if (names === null) return
  const ring = await keyring(catalog, homePaths(settings.home).keys)
  namesOf([...keyFilesOf(ring), ...ring.recipients], await keyStates(catalog.db), names)
}

function namesOf(
  here: readonly KeyRef[],
  states: ReadonlyMap<string, KeyState>,
  asked: readonly string[],
): string[] {
  const found = asked.map(name => current(here, states, name)?.name)
  const unknown = found.flatMap((name, index) =>
    name === undefined
      ? [{ path: `encryptTo.${index}`, message: `there is no key named ${asked[index]}` }]
      : [],
  )
  if (unknown.length > 0) throw new InvalidRequest(unknown)
  return [...new Set(found.filter(name => name !== undefined))]
}

/** Of a name that was given again after its first key was retired, the key that is here counts. */
function current(
  here: readonly KeyRef[],
  states: ReadonlyMap<string, KeyState>,
  name: string,
): KeyRef | undefined {
  const meant = here.find(key => key.name === name) ?? [...states.values()].find(one => one.name === name)
  return meant && here.find(({ kid }) => kid === currentKid(states, meant.kid))
}
