/** Whom the CLI talks to: flags, environment, profiles, this machine's own. */
import { resolve } from 'node:path'
import type { Settings } from '../model/settings.ts'
import { tokenIn } from './client.ts'
import { describeToken, profileOf, readConfig, readTokenReference, type TokenReference } from './profiles.ts'

/** Flags of every command that say whom to talk to. */
export interface GlobalOptions {
  json?: boolean
  home?: string
  profile?: string
  url?: string
  ca?: string
}

/** Where a setting's value was taken from; `home`: what lies or runs in the home. */
export type Origin = 'flag' | 'environment' | 'profile' | 'home' | 'default'

export interface ClientSettings {
  settings: Settings
  json: boolean
  token: TokenSource
  profile: { name: string; from: 'flag' | 'environment' | 'config' } | undefined
  origins: { url: Origin; ca: Origin }
}

export interface TokenSource {
  from: Origin
  /** Where it is kept, without it. */
  where: string
  /** Asked when it is needed: a command may have to be run for it. */
  read(): string | undefined
}

/**
 * Whom the CLI talks to. Flags go before the environment, that before a profile, that before this machine's own (`local`). A
 * profile that is named by a flag counts as flag: who types `--profile prod` means prod, whatever the environment holds.
 */
export function clientSettings(options: GlobalOptions, env: Environment, local: Settings): ClientSettings {
  const chosen = chosenProfile(options, env)
  const profile = chosen && profileOf(readConfig(env), chosen.name, env)
  const first = chosen?.from === 'flag' ? profile : undefined
  const [url, urlFrom] = firstOf<string>([
    ['flag', options.url],
    ['flag', first?.url],
    ['environment', env.HOLDFAST_URL],
    ['profile', profile?.url],
    [local.url === defaultUrl ? 'default' : env.HOLDFAST_API_LISTEN ? 'environment' : 'home', local.url],
  ])
  // What a profile holds for its address is for that and nothing else; nor does anybody else's token go there unasked.
  const toProfile = profile !== undefined && url === profile.url
  const [ca, caFrom] = firstOf<string>([
    ['flag', options.ca === undefined ? undefined : resolve(options.ca)],
    ['flag', toProfile ? first?.ca : undefined],
    ['environment', local.ca],
    ['profile', toProfile ? profile.ca : undefined],
  ])
  const ofProfile = toProfile && profile.token ? referred(profile.token, first !== undefined, env) : undefined
  const token =
    (first && ofProfile) ??
    inEnvironment(env.HOLDFAST_TOKEN) ??
    ofProfile ??
    inFile(toProfile ? undefined : local.tokenFile, env)
  return {
    settings: { ...local, url: url ?? local.url, ca },
    json: options.json ?? profile?.output === 'json',
    token,
    profile: chosen,
    origins: { url: urlFrom, ca: caFrom },
  }
}

type Environment = Record<string, string | undefined>

const defaultUrl = 'http://127.0.0.1:7460'

/** `--home` asks for this machine's own: a profile that was not named beside it does not count. */
function chosenProfile(options: GlobalOptions, env: Environment): ClientSettings['profile'] {
  if (options.profile !== undefined) return { name: options.profile, from: 'flag' }
  if (options.home !== undefined) return undefined
  if (env.HOLDFAST_PROFILE) return { name: env.HOLDFAST_PROFILE, from: 'environment' }
  const { current } = readConfig(env)
  return current === undefined ? undefined : { name: current, from: 'config' }
}

function firstOf<T>(candidates: readonly (readonly [Origin, T | undefined])[]): [T | undefined, Origin] {
  const found = candidates.find(([, value]) => value !== undefined && value !== '')
  return found ? [found[1], found[0]] : [undefined, 'default']
}

const referred = (reference: TokenReference, byFlag: boolean, env: Environment): TokenSource => ({
  from: byFlag ? 'flag' : 'profile',
  where: describeToken(reference),
  read: () => readTokenReference(reference, env),
})

const inEnvironment = (value: string | undefined): TokenSource | undefined =>
  value ? { from: 'environment', where: 'HOLDFAST_TOKEN', read: () => value } : undefined

/** What the API's first start made, or HOLDFAST_TOKEN_FILE names. */
const inFile = (path: string | undefined, env: Environment): TokenSource =>
  path === undefined
    ? { from: 'default', where: 'none', read: () => undefined }
    : {
        from: env.HOLDFAST_TOKEN_FILE ? 'environment' : 'home',
        where: `file ${path}`,
        read: () => tokenIn(path),
      }
