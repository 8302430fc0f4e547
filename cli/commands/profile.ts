import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { slugPattern } from '../../model/ids.ts'
import {
  configPath,
  describeToken,
  type Profile,
  profileOf,
  readConfig,
  type TokenReference,
  writeConfig,
} from '../profiles.ts'
import { askSecret, note, print, printJson, table } from '../terminal.ts'
import type { GlobalOptions } from '../whom.ts'

interface AddOptions extends GlobalOptions {
  tokenFile?: string
  tokenEnv?: string
  tokenCommand?: string
  tokenPrompt?: boolean
  output?: Profile['output']
}

export function profileCommands(program: Command): void {
  const group = program
    .command('profile')
    .description('the Holdfasts this person talks to, by name')
    .addHelpText('after', '\nExample:\n  holdfast profile list')

  group
    .command('add <name>')
    .description('remember an address (--url), its certificates (--ca) and where its token is kept')
    .option('--token-file <file>', 'read the token from this file each time')
    .option('--token-env <variable>', 'take the token from this environment variable each time')
    .option('--token-command <command>', 'run this by sh each time; its first line is the token')
    .option('--token-prompt', 'ask for the token now and keep it in the config file, 0600')
    .addOption(
      new Option('--output <kind>', 'what commands print unless told otherwise').choices(['table', 'json']),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast profile add prod --url https://holdfast.example --ca ~/acme-ca.pem --token-command "pass show holdfast/prod"\n  holdfast profile add lab --url http://10.0.0.7:7460 --token-file ~/.holdfast-lab.token',
    )
    .action(async (name: string, _options: unknown, command: Command) => {
      const options: AddOptions = command.optsWithGlobals()
      if (!slugPattern.test(name)) {
        throw new HoldfastError(
          'request.invalid',
          `"${name}" is no name for a profile: use lower-case letters, digits and dashes.`,
        )
      }
      if (options.url === undefined || !isAddress(options.url)) {
        throw new HoldfastError('request.invalid', 'Say where it is: --url http://… or https://….')
      }
      const config = readConfig(process.env)
      if (Object.hasOwn(config.profiles, name)) {
        throw new HoldfastError('request.exists', `There is a profile named ${name} already.`)
      }
      const token = await tokenReference(options)
      const profile: Profile = {
        url: options.url,
        ...(token === undefined ? {} : { token }),
        ...(options.ca === undefined ? {} : { ca: resolve(options.ca) }),
        ...(options.output === undefined ? {} : { output: options.output }),
      }
      writeConfig(process.env, { ...config, profiles: { ...config.profiles, [name]: profile } })
      if (options.json) printJson(shown(name, profile, config.current))
      else
        print(`${name}: ${profile.url}, token: ${describeToken(token)}; use it: holdfast profile use ${name}`)
    })

  group
    .command('list')
    .description('all profiles; no token is shown')
    .addHelpText('after', '\nExample:\n  holdfast profile list')
    .action((_options: unknown, command: Command) => {
      const { json }: GlobalOptions = command.optsWithGlobals()
      const { profiles, current } = readConfig(process.env)
      const items = Object.entries(profiles)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, profile]) => shown(name, profile, current))
      if (json) return printJson(items)
      if (items.length === 0)
        return note(`No profiles in ${configPath(process.env)}: holdfast profile add NAME --url URL`)
      table(
        ['', 'NAME', 'URL', 'TOKEN', 'CA'],
        items.map(item => [item.current ? '●' : '', item.name, item.url, item.token, item.ca ?? '']),
      )
    })

  group
    .command('use')
    .argument('[profile]')
    .description('talk to this one from now on; without a name, to the one of this machine')
    .addHelpText('after', '\nExamples:\n  holdfast profile use prod\n  holdfast profile use')
    .action((name: string | undefined, _options: unknown, command: Command) => {
      const { json }: GlobalOptions = command.optsWithGlobals()
      const { current: _before, ...rest } = readConfig(process.env)
      if (name !== undefined) profileOf(rest, name, process.env)
      writeConfig(process.env, name === undefined ? rest : { ...rest, current: name })
      if (json) printJson({ current: name ?? null })
      else
        print(name === undefined ? 'Commands go to the Holdfast of this machine.' : `Commands go to ${name}.`)
    })

  group
    .command('remove <profile>')
    .description('forget a profile')
    .addHelpText('after', '\nExample:\n  holdfast profile remove lab')
    .action((name: string, _options: unknown, command: Command) => {
      const { json }: GlobalOptions = command.optsWithGlobals()
      const { current, profiles } = readConfig(process.env)
      profileOf({ profiles }, name, process.env)
      const { [name]: _removed, ...left } = profiles
      writeConfig(process.env, {
        ...(current === undefined || current === name ? {} : { current }),
        profiles: left,
      })
      if (json) printJson({ removed: name })
      else print(`${name} removed.`)
    })
}

/** Throws `request.invalid`. */
async function tokenReference(options: AddOptions): Promise<TokenReference | undefined> {
  const { tokenFile, tokenEnv, tokenCommand, tokenPrompt } = options
  const given = [tokenFile, tokenEnv, tokenCommand, tokenPrompt].filter(one => one !== undefined)
  if (given.length > 1) {
    throw new HoldfastError(
      'request.invalid',
      'Give only one of --token-file, --token-env, --token-command and --token-prompt.',
    )
  }
  if (tokenFile !== undefined) return { file: resolve(tokenFile) }
  if (tokenEnv !== undefined) return { env: tokenEnv }
  if (tokenCommand !== undefined) return { command: tokenCommand }
  if (tokenPrompt !== true) return undefined
  const inline = (await askSecret('token: ')).trim()
  if (inline !== '') return { inline }
  throw new HoldfastError('request.invalid', 'No token was entered.')
}

const isAddress = (text: string): boolean => /^https?:\/\/[^/]/i.test(text) && URL.canParse(text)

const shown = (name: string, profile: Profile, current: string | undefined) => ({
  name,
  url: profile.url,
  token: describeToken(profile.token),
  ca: profile.ca ?? null,
  output: profile.output ?? 'table',
  current: name === current,
})
