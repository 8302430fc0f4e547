/** Keys as the API shows them: what they are, and what they open. */
import { currentKid, type KeyState, keyStates } from '../catalog/key-states.ts'
import { keyring } from '../catalog/keys.ts'
import type { Catalog } from '../catalog/open.ts'
import { openedKeys } from '../catalog/opened-keys.ts'
import { listOpeners } from '../catalog/openers.ts'
import type { RecipientFile } from '../model/manifest.ts'
import type { KeyView } from '../model/views.ts'
import { type AnyKeyFile, keyFilesOf, recipientOf } from '../storage/keys.ts'

export async function keyViews(catalog: Catalog, directory: string): Promise<KeyView[]> {
  const ring = await keyring(catalog, directory)
  const opened = new Map((await openedKeys(catalog)).map(key => [key.kid, key.until]))
  const states = await keyStates(catalog.db)
  const openers = await listOpeners(catalog.db)
  const opening = new Set(keyFilesOf(ring).map(({ kid }) => kid))
  const all = [...keyFilesOf(ring), ...ring.recipients]
  return all.map(key => ({
    name: key.name,
    kid: key.kid,
    kind: kindOf(key),
    algorithm: 'algorithm' in key ? key.algorithm : recipientOf(key).algorithm,
    createdAt: key.createdAt,
    openUntil: opened.get(key.kid) ?? null,
    replacedBy: replacedBy(all, states, key.kid),
    opens: opens(openers, opening, key.kid),
  }))
}

const kindOf = (key: AnyKeyFile | RecipientFile): KeyView['kind'] =>
  'privateKey' in key ? 'key-file' : 'lockedKey' in key ? 'locked' : 'kms' in key ? key.kms.service : 'public'

function replacedBy(
  all: readonly { name: string; kid: string }[],
  states: ReadonlyMap<string, KeyState>,
  kid: string,
): string | null {
  const current = currentKid(states, kid)
  if (current === kid) return null
  return all.find(key => key.kid === current)?.name ?? states.get(current)?.name ?? current
}

function opens(
  openers: Awaited<ReturnType<typeof listOpeners>>,
  opening: ReadonlySet<string>,
  kid: string,
): KeyView['opens'] {
  const places = new Map<string, { backups: number; alone: number }>()
  for (const { destination, kids } of openers) {
    if (!kids.includes(kid)) continue
    const { backups, alone } = places.get(destination) ?? { backups: 0, alone: 0 }
    const others = kids.some(other => other !== kid && opening.has(other))
    places.set(destination, { backups: backups + 1, alone: alone + (others ? 0 : 1) })
  }
  return [...places].map(([destination, counts]) => ({ destination, ...counts }))
}
