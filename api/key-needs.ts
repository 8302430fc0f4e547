/** Whether a key may go: what only it opens, and what would still be encrypted for it. Looks into every destination. */
import { listDestinations } from '../catalog/destinations.ts'
import { writerIdentity } from '../catalog/installation.ts'
import { currentKid, keyStates } from '../catalog/key-states.ts'
import { listOpeners } from '../catalog/openers.ts'
import { openOperations } from '../catalog/operations.ts'
import { operationsFor } from '../catalog/rotations.ts'
import { listSchedules } from '../catalog/schedules.ts'
import { HoldfastError } from '../model/errors.ts'
import { backupIdPattern, slugPattern } from '../model/ids.ts'
import type { KeyRef } from '../model/records.ts'
import { listFolders } from '../storage/backups.ts'
import { type Keyring, keyFilesOf } from '../storage/keys.ts'
import type { ApiContext } from './context.ts'
import { withDestination } from './routes/destinations.ts'

/** How many are named before the rest is counted. */
const named = 5

/**
 * Throws `key.needed` naming what needs it. `openedElsewhere`: a key whose private part is not here counts as one that opens.
 */
export async function assertNotNeeded(
  context: ApiContext,
  ring: Keyring,
  key: KeyRef,
  openedElsewhere: boolean,
): Promise<void> {
  const needs = [
    ...(await byWhatRuns(context, key)),
    ...(await bySettings(context, ring, key)),
    ...(await byTrust(context, ring, key)),
    ...(await byBackups(context, ring, key, openedElsewhere)),
  ]
  if (needs.length === 0) return
  const more = needs.length > named ? `; and ${needs.length - named} more` : ''
  throw new HoldfastError(
    'key.needed',
    `Retiring key "${key.name}": ${needs.slice(0, named).join('; ')}${more}.`,
    { hint: `Let another key take its place: holdfast keys rotate ${key.name} --to OTHER` },
  )
}

async function byWhatRuns({ catalog }: ApiContext, key: KeyRef): Promise<string[]> {
  const rotations = (await openOperations(catalog)).filter(({ kind }) => kind === 'rotateKeys')
  return [...rotations, ...(await operationsFor(catalog, key))].map(({ id }) => `operation ${id} uses it`)
}

/** New backups: where no other key took its place, whatever names it would find no key, and with none left there is no backup. */
async function bySettings({ catalog }: ApiContext, ring: Keyring, key: KeyRef): Promise<string[]> {
  const others = [...keyFilesOf(ring), ...ring.recipients].filter(({ kid }) => kid !== key.kid)
  if (others.length === 0) return ['it is the only key here']
  const states = await keyStates(catalog.db)
  if (currentKid(states, key.kid) !== key.kid) return []
  const destinations = (await listDestinations(catalog))
    .filter(({ encryptTo }) => encryptTo?.includes(key.name))
    .map(({ name }) => `backups to ${name} are encrypted for it`)
  const schedules = (await listSchedules(catalog))
    .filter(({ options }) => 'encryptTo' in options && options.encryptTo?.includes(key.name))
    .map(({ name }) => `schedule ${name} encrypts for it`)
  return [...destinations, ...schedules]
}

/** Whose backups are believed only because this key file says so. */
async function byTrust({ catalog }: ApiContext, ring: Keyring, key: KeyRef): Promise<string[]> {
  const file = keyFilesOf(ring).find(({ kid }) => kid === key.kid)
  if (!file) return []
  const { installationId } = await writerIdentity(catalog)
  const others = without(keyFilesOf(ring), key)
  return Object.keys(file.installations)
    .filter(id => id !== installationId && !others.some(other => Object.hasOwn(other.installations, id)))
    .map(id => `it is the only key file that trusts installation ${id}`)
}

const without = <Key extends KeyRef>(keys: readonly Key[], { kid }: KeyRef): Key[] =>
  keys.filter(one => one.kid !== kid)

async function byBackups(
  context: ApiContext,
  ring: Keyring,
  key: KeyRef,
  openedElsewhere: boolean,
): Promise<string[]> {
  const opening = [...keyFilesOf(ring), ...(openedElsewhere ? ring.recipients : [])]
  const others = new Set(without(opening, key).map(({ kid }) => kid))
  const known = new Map(
    (await listOpeners(context.catalog.db)).map(one => [`${one.destination} ${one.backupId}`, one.kids]),
  )
  const needs: string[] = []
  for (const { name } of await listDestinations(context.catalog)) {
    try {
      await withDestination(context, name, async opened => {
        for await (const { connection, backupId, state } of listFolders(opened)) {
          if (state !== 'committed' || !slugPattern.test(connection) || !backupIdPattern.test(backupId))
            continue
          const kids = known.get(`${name} ${backupId}`)
          const backup = `backup ${backupId} of ${connection} in ${name}`
          if (kids === undefined) needs.push(`nobody has looked whose ${backup} is`)
          else if (kids.includes(key.kid) && !kids.some(kid => others.has(kid)))
            needs.push(`only it opens ${backup}`)
        }
      })
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      needs.push(`destination ${name} cannot be looked through (${error.code})`)
    }
  }
  return needs
}
