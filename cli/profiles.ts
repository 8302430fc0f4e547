/**
 * Profiles: the Holdfasts a person talks to, by name, in `$XDG_CONFIG_HOME/holdfast/config.json`. A profile says where
 * its token is kept; the token itself is only in the file when nobody else can read that.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, readFileSync, renameSync, type Stats, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../model/errors.ts'
import { slugPattern } from '../model/ids.ts'

type Environment = Record<string, string | undefined>

const tokenReference = z.union([
  z.strictObject({ file: z.string().min(1) }),
  z.strictObject({ env: z.string().min(1) }),
  /** Run by `sh -c`; the first line it prints is the token. */
  z.strictObject({ command: z.string().min(1) }),
  z.strictObject({ inline: z.string().min(1) }),
])
const profileSchema = z.strictObject({
  url: z.url({ protocol: /^https?$/ }),
  token: tokenReference.optional(),
  /** File of certificates to trust for https, beside those of the system. */
  ca: z.string().min(1).optional(),
  output: z.enum(['table', 'json']).optional(),
})
const configSchema = z.strictObject({
  /** Used when neither a flag nor HOLDFAST_PROFILE names one. */
  current: z.string().optional(),
  profiles: z.record(z.string().regex(slugPattern), profileSchema),
})

export type TokenReference = z.infer<typeof tokenReference>
export type Profile = z.infer<typeof profileSchema>
export type Config = z.infer<typeof configSchema>

export function configPath(env: Environment): string {
  const base = env.XDG_CONFIG_HOME
  // The XDG specification: a relative path is not valid and is ignored.
  const folder = base && isAbsolute(base) ? base : join(env.HOME || homedir(), '.config')
  return join(folder, 'holdfast', 'config.json')
}

/** No file: no profiles. Throws `settings.invalid`, also when somebody else could have written what we would run or believe. */
export function readConfig(env: Environment): Config {
  const path = configPath(env)
  let text: string
  let status: Stats
  try {
    text = readFileSync(path, 'utf8')
    status = statSync(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { profiles: {} }
    throw invalid(`${path} cannot be read: ${reasonOf(error)}.`)
  }
  const uid = process.getuid?.()
  if (uid !== undefined && status.uid !== uid && status.uid !== 0) {
    throw invalid(`${path} belongs to another user.`, 'It may name commands to run: make it your own.')
  }
  if ((status.mode & 0o022) !== 0) {
    throw invalid(`${path} can be written by others.`, `It may name commands to run: chmod 600 ${path}`)
  }
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    // The parser's message may quote a token.
    throw invalid(`${path} is not JSON.`)
  }
  const parsed = configSchema.safeParse(document)
  if (!parsed.success) {
    throw invalid(
      `${path}: ${parsed.error.issues[0]?.path.join('.') || 'the document'} is not as it must be.`,
    )
  }
  const inline = Object.entries(parsed.data.profiles).find(([, one]) => one.token && 'inline' in one.token)
  if (inline && (status.mode & 0o077) !== 0) {
    throw invalid(
      `${path} holds the token of profile "${inline[0]}" and can be read by others.`,
      `chmod 600 ${path}`,
    )
  }
  return parsed.data
}

/** Whole or not at all, for its owner only. */
export function writeConfig(env: Environment, config: Config): void {
  const path = configPath(env)
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  writeFileSync(draft, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600, flag: 'wx', flush: true })
  chmodSync(draft, 0o600)
  renameSync(draft, path)
}

/** Throws `settings.invalid` naming those there are. */
export function profileOf(config: Config, name: string, env: Environment): Profile {
  const found = Object.hasOwn(config.profiles, name) ? config.profiles[name] : undefined
  if (found) return found
  const there = Object.keys(config.profiles).sort().join(', ')
  throw invalid(
    `There is no profile "${name}" in ${configPath(env)}.`,
    there === '' ? 'Make it: holdfast profile add NAME --url URL' : `There are: ${there}.`,
  )
}

/** Where a token comes from, without it. */
export function describeToken(token: TokenReference | undefined): string {
  if (token === undefined) return 'none'
  if ('file' in token) return `file ${token.file}`
  if ('env' in token) return `environment ${token.env}`
  if ('command' in token) return `command ${token.command}`
  return 'in the config file'
}

/** Throws `settings.invalid`; never repeats what it read. */
export function readTokenReference(token: TokenReference, env: Environment): string {
  const found = fetchToken(token, env).split('\n')[0]?.trim() ?? ''
  if (found !== '') return found
  throw invalid(`The profile's token (${describeToken(token)}) is empty.`)
}

function fetchToken(token: TokenReference, env: Environment): string {
  if ('inline' in token) return token.inline
  if ('env' in token) {
    const value = env[token.env]
    if (value) return value
    throw invalid(`The profile's token is in the environment variable ${token.env}, which is not set.`)
  }
  try {
    if ('file' in token) return readFileSync(token.file, 'utf8')
    // It may ask for a passphrase: it has the terminal, but for what it prints.
    return execFileSync('/bin/sh', ['-c', token.command], {
      env,
      encoding: 'utf8',
      stdio: ['inherit', 'pipe', 'inherit'],
      timeout: 60_000,
      maxBuffer: 65_536,
    })
  } catch (error) {
    throw invalid(`The profile's token (${describeToken(token)}) cannot be had: ${shortReason(error)}.`)
  }
}

function shortReason(error: unknown): string {
  if (error instanceof Error && 'status' in error && typeof error.status === 'number') {
    return `it ended with ${error.status}`
  }
  return reasonOf(error)
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const invalid = (detail: string, hint?: string): HoldfastError =>
  new HoldfastError('settings.invalid', detail, hint === undefined ? {} : { hint })
