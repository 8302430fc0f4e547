/** What there is, for completion: names, one per line, within a second or so; nothing at all rather than an error. */
import { z } from 'zod'
import { backupView, page } from '../../model/views.ts'
import { type Client, createClient } from '../client.ts'
import { settingsOf } from '../context.ts'
import { readConfig } from '../profiles.ts'
import { trustAlso } from '../trust.ts'
import { clientSettings, type GlobalOptions } from '../whom.ts'
import type { Askable } from './table.ts'

const named = page(z.looseObject({ name: z.string() }))
const identified = page(z.looseObject({ id: z.string() }))

const namesOf = (path: string) => async (client: Client) =>
  (await client.get(named, path)).items.map(one => one.name)

const asked: Record<Exclude<Askable, 'profile'>, (client: Client) => Promise<string[]>> = {
  connection: namesOf('/v1/connections'),
  destination: namesOf('/v1/destinations'),
  key: namesOf('/v1/keys'),
  user: namesOf('/v1/users'),
  schedule: namesOf('/v1/schedules'),
  host: namesOf('/v1/hosts'),
  async operation(client) {
    const { items } = await client.get(identified, '/v1/operations', { limit: '50' })
    return items.map(one => one.id)
  },
  async backup(client) {
    const { items } = await client.get(page(backupView), '/v1/backups', { limit: '50' })
    const connections = [...new Set(items.map(one => one.connection))].sort()
    return [
      ...connections.flatMap(name => [`${name}:latest`, `${name}:previous`]),
      ...items.map(one => one.id),
    ]
  },
}

/** `words`: the line as it was typed, for its flags. */
export async function valuesOf(kind: Askable, words: readonly string[]): Promise<string[]> {
  if (kind === 'profile') return Object.keys(readConfig(process.env).profiles).sort()
  const given = flagsIn(words)
  const { settings, token } = clientSettings(given, process.env, settingsOf(given.home))
  // It might ask for a passphrase in the middle of somebody's line.
  if (token.where.startsWith('command ')) return []
  if (settings.ca !== undefined) trustAlso(settings.ca)
  return await asked[kind](createClient(settings.url, token.read))
}

function flagsIn(words: readonly string[]): GlobalOptions {
  const given: Record<string, string> = {}
  for (const [index, word] of words.entries()) {
    const [, name = '', value] = /^--(home|profile|url|ca)(?:=(.*))?$/.exec(word) ?? []
    const said = value ?? words[index + 1]
    if (name !== '' && said) given[name] = said
  }
  return given
}
