/** The settings in force here, where each comes from; secrets are masked. */
import { withoutSecrets } from '../../engines/tail.ts'
import { type Settings, settingsFrom } from '../../model/settings.ts'
import type { ClientSettings } from '../whom.ts'

export interface EffectiveSetting {
  name: string
  /** null: not set, and there is no default. */
  value: string | null
  origin: string
}

type Environment = Record<string, string | undefined>

/** What is in force where the environment says nothing, for those that have a default. */
const defaults: Record<string, (settings: Settings) => string | undefined> = {
  HOLDFAST_HOME: s => s.home,
  HOLDFAST_SECRET_KEY_FILE: s => s.secretKeyFile,
  HOLDFAST_CATALOG_URL: s => s.catalogUrl,
  HOLDFAST_TEMPORAL_NAMESPACE: s => s.temporal.namespace,
  HOLDFAST_API_LISTEN: s =>
    `${s.apiListen.host.includes(':') ? `[${s.apiListen.host}]` : s.apiListen.host}:${s.apiListen.port}`,
  HOLDFAST_TOKEN_FILE: s => s.tokenFile,
  HOLDFAST_WORKER_TOKEN_FILE: s => s.workerTokenFile,
  HOLDFAST_TEMP_DIR: s => s.tempDir,
  HOLDFAST_LOG_LEVEL: s => s.logLevel,
  HOLDFAST_LOG_FORMAT: s => s.logFormat,
}

const secret = /^HOLDFAST_(SECRET_KEY|TOKEN|TEMPORAL_API_KEY)$/

export function effectiveSettings(
  { settings, origins, token, profile }: ClientSettings,
  env: Environment,
  homeByFlag: boolean,
): EffectiveSetting[] {
  const known: Record<string, EffectiveSetting> = {
    HOLDFAST_URL: { name: 'HOLDFAST_URL', value: settings.url, origin: origins.url },
    HOLDFAST_CA: { name: 'HOLDFAST_CA', value: settings.ca ?? null, origin: origins.ca },
    HOLDFAST_TOKEN: {
      name: 'HOLDFAST_TOKEN',
      value: token.from === 'home' || token.where === 'none' ? null : `*** (${token.where})`,
      origin: token.from === 'home' ? 'default' : token.from,
    },
    HOLDFAST_PROFILE: {
      name: 'HOLDFAST_PROFILE',
      value: profile?.name ?? null,
      origin: profile?.from ?? 'default',
    },
  }
  return [...namesAsked(), 'HOLDFAST_PROFILE'].map(name => {
    if (known[name]) return known[name]
    if (name === 'HOLDFAST_HOME' && homeByFlag) return { name, value: settings.home, origin: 'flag' }
    const given = env[name]
    if (given)
      return { name, value: secret.test(name) ? '***' : withoutSecrets(given), origin: 'environment' }
    if (env[`${name}_FILE`]) {
      const value = secret.test(name) ? '***' : withoutSecrets(defaults[name]?.(settings) ?? '***')
      return { name, value, origin: `file ${env[`${name}_FILE`]}` }
    }
    return { name, value: defaults[name]?.(settings) ?? null, origin: 'default' }
  })
}

/** Every variable that is looked at when a process starts: asked of the function that looks, so that none is forgotten. */
function namesAsked(): string[] {
  const names = new Set<string>()
  const listening = new Proxy<Environment>(
    {},
    {
      get(_target, name) {
        if (typeof name === 'string') names.add(name)
        return undefined
      },
    },
  )
  settingsFrom(listening, '/', false)
  return [...names].sort()
}
