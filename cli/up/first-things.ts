/** What a new Holdfast needs before its first backup: a key, so that backups are encrypted, and a place for them. */
import { pathToFileURL } from 'node:url'
import { hasCode } from '../../model/errors.ts'
import { homePaths, type Settings } from '../../model/settings.ts'
import { destinationView, keyView, page } from '../../model/views.ts'
import type { Client } from '../client.ts'
import { keyNotice } from '../commands/keys.ts'

/** Asked at every start: a first run that was cut off between the two is completed by the next. */
export async function firstThings(
  client: Client,
  settings: Settings,
  say: (line: string) => void,
): Promise<void> {
  const keys = await client.get(page(keyView), '/v1/keys')
  if (keys.items.length === 0) {
    await unlessThere(client.post(keyView, '/v1/keys', { name: 'default' }))
    say(`made the key "default"; backups are encrypted for it.`)
    say(`→ ${keyNotice(settings.home, 'default')}`)
  }
  const destinations = await client.get(page(destinationView), '/v1/destinations')
  if (destinations.items.length === 0) {
    const uri = pathToFileURL(homePaths(settings.home).backups).href
    await unlessThere(client.post(destinationView, '/v1/destinations', { name: 'local', uri }))
    say(`made the destination "local": ${homePaths(settings.home).backups}`)
  }
}

async function unlessThere(made: Promise<unknown>): Promise<void> {
  await made.catch(error => {
    if (!hasCode(error, 'request.exists')) throw error
  })
}
