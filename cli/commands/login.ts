/** For people who have a password and no token: the profile gets a token that ends by itself. */
import { randomBytes } from 'node:crypto'
import type { Command } from 'commander'
import { selfView } from '../../model/access.ts'
import { HoldfastError } from '../../model/errors.ts'
import { contextOf } from '../context.ts'
import { logIn } from '../login.ts'
import { profileOf, readConfig, writeConfig } from '../profiles.ts'
import { type SecretOptions, secretOf, withSecretOptions } from '../secret-options.ts'
import { askSecret, print, printJson, time } from '../terminal.ts'
import { clientSettings, type GlobalOptions } from '../whom.ts'
import { afterDays } from './token.ts'

/** A working week. */
const usualDays = '7'

export function loginCommands(program: Command): void {
  withSecretOptions(program.command('login <user>'))
    .description('get a token with your password, and keep it in the profile')
    .option('--days <days>', 'the token ends after so many days', usualDays)
    .addHelpText('after', '\nExample:\n  holdfast login ada --profile prod')
    .action(async (user: string, options: SecretOptions & { days: string }, command: Command) => {
      const context = contextOf(command)
      const profile = profileIn(command)
      const expiresAt = afterDays(options.days)
      const password = (await secretOf(options)) ?? (await askSecret(`password of ${user}: `))
      const name = `login-${user.slice(0, 40)}-${randomBytes(4).toString('hex')}`
      const made = await logIn(context.client.url, { user, password }, { name, expiresAt })
      const config = readConfig(process.env)
      const known = profileOf(config, profile, process.env)
      writeConfig(process.env, {
        ...config,
        profiles: { ...config.profiles, [profile]: { ...known, token: { inline: made.token } } },
      })
      const { token: _token, ...shown } = made
      if (context.json) return printJson(shown)
      print(`${profile}: you are ${user}, ${made.role}, until ${time(made.expiresAt ?? '')}.`)
    })

  program
    .command('logout')
    .description('revoke the token that a login keeps in the profile')
    .addHelpText('after', '\nExample:\n  holdfast logout --profile prod')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const profile = profileIn(command)
      const self = await context.client.get(selfView, '/v1/me')
      const config = readConfig(process.env)
      const { token, ...known } = profileOf(config, profile, process.env)
      if (token === undefined || !('inline' in token)) {
        throw new HoldfastError('request.invalid', `The profile ${profile} keeps no token of a login.`)
      }
      await context.client.remove(`/v1/tokens/${self.credential}`)
      writeConfig(process.env, { ...config, profiles: { ...config.profiles, [profile]: known } })
      if (context.json) return printJson({ revoked: self.credential })
      print(`${profile}: logged out.`)
    })
}

/** Throws `request.invalid`: without a profile there is no place to keep a token. */
function profileIn(command: Command): string {
  const options: GlobalOptions = command.optsWithGlobals()
  const { profile } = clientSettings(options, process.env, contextOf(command).settings)
  if (profile !== undefined) return profile.name
  throw new HoldfastError('request.invalid', 'There is no profile that could keep the token of a login.', {
    hint: 'Make one: holdfast profile add NAME --url URL; then holdfast login USER --profile NAME',
  })
}
