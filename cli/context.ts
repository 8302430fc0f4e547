/** What every command needs: settings, the client, and whether a program or a person reads. */
import { existsSync, readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { z } from 'zod'
import { HoldfastError } from '../model/errors.ts'
import { homePaths, type Settings, settingsFrom, settingsInFiles } from '../model/settings.ts'
import { shellWord } from '../model/shell.ts'
import { type Client, createClient } from './client.ts'
import { trustAlso } from './trust.ts'
import { processLives } from './up/processes.ts'
import { clientSettings, type GlobalOptions } from './whom.ts'

export interface Context {
  settings: Settings
  json: boolean
  client: Client
  /** Flags to repeat in a command that is shown for copying, so that it reaches the same Holdfast. */
  flags: string
}

export function contextOf(command: Command): Context {
  const options: GlobalOptions = command.optsWithGlobals()
  const { settings, json, token } = clientSettings(options, process.env, settingsOf(options.home))
  if (settings.ca !== undefined) trustAlso(settings.ca)
  return { settings, json, client: createClient(settings.url, token.read), flags: flagsOf(options) }
}

function flagsOf(options: GlobalOptions): string {
  const given = (['profile', 'home', 'url', 'ca'] as const).filter(name => options[name] !== undefined)
  return given.map(name => ` --${name} ${shellWord(options[name] ?? '')}`).join('')
}

/** Settings of what runs here (`up`, `api`, `worker`); `--home` goes before HOLDFAST_HOME, profiles do not count. */
export function settingsOf(
  home?: string,
  environment: Record<string, string | undefined> = process.env,
): Settings {
  const env = environmentWithFiles(
    home === undefined ? environment : { ...environment, HOLDFAST_HOME: home },
    settingsInFiles,
  )
  const settings = settingsFrom(env, process.cwd(), process.stdout.isTTY === true)
  if (env.HOLDFAST_URL || env.HOLDFAST_API_LISTEN) return settings
  const running = readRuntime(settings.home)
  return running === undefined ? settings : { ...settings, url: running.api }
}

/** What stands in files is read; a variable goes before its file. */
export function environmentWithFiles(
  env: Record<string, string | undefined>,
  names: readonly string[],
): Record<string, string | undefined> {
  const read = { ...env }
  for (const name of names) {
    const path = env[`${name}_FILE`]
    if (env[name] || !path) continue
    try {
      read[name] = readFileSync(path, 'utf8').trim()
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      throw new HoldfastError('settings.invalid', `${name}_FILE cannot be read: ${reason}.`)
    }
    if (read[name] === '') throw new HoldfastError('settings.invalid', `${name}_FILE, ${path}, is empty.`)
  }
  return read
}

const runtimeFile = z.object({
  /** Of `holdfast up`. */
  pid: z.int(),
  started: z.string(),
  api: z.string(),
  temporalAddress: z.string(),
  temporalUi: z.string().nullable(),
  children: z.array(z.object({ name: z.string(), pid: z.int(), started: z.string() })),
})
export type Runtime = z.infer<typeof runtimeFile>

/** What a living `up` of this home wrote. A file left by one that was killed says nothing. */
export function readRuntime(home: string): Runtime | undefined {
  const runtime = readLastRuntime(home)
  return runtime !== undefined && processLives(runtime) ? runtime : undefined
}

export function readLastRuntime(home: string): Runtime | undefined {
  const path = homePaths(home).runtime
  if (!existsSync(path)) return undefined
  try {
    return runtimeFile.safeParse(JSON.parse(readFileSync(path, 'utf8'))).data
  } catch {
    return undefined
  }
}
