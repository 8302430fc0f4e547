import { type Command, Option } from 'commander'
import { type TokenView, tokenMade, tokenView } from '../../model/access.ts'
import { HoldfastError } from '../../model/errors.ts'
import { roles } from '../../model/types.ts'
import { allOf, type Client } from '../client.ts'
import { contextOf } from '../context.ts'
import { note, print, printJson, table, time } from '../terminal.ts'

interface NewOptions {
  role?: string
  scope?: string[]
  connection?: string[]
  user?: string
  nobody?: true
  days?: string
}

export function tokenCommands(program: Command): void {
  const group = program
    .command('token')
    .description('what programs use instead of a password')
    .addHelpText('after', '\nExample:\n  holdfast token list')

  group
    .command('new <name>')
    .description('make a token; it is printed once and never again')
    .addOption(new Option('--role <role>', 'what it may do; default: what you may').choices(roles))
    .option('--scope <scope...>', 'only this: TAG:read, TAG:write (of /openapi.json), or read')
    .option('--connection <connection...>', 'it sees and does nothing of any other connection')
    .addOption(new Option('--user <name>', 'of another user; as admin').conflicts('nobody'))
    .option('--nobody', "nobody's: for a program that outlives people; as admin")
    .option('--days <days>', 'ends after so many days; default: never')
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast token new nightly --role operator --scope backups:write --nobody\n  holdfast token new laptop --days 90 > ~/.holdfast-token',
    )
    .action(async (name: string, options: NewOptions, command: Command) => {
      const context = contextOf(command)
      const { role, scope: scopes, connection: connections, days } = options
      const user = options.nobody ? null : options.user
      const made = await context.client.post(tokenMade, '/v1/tokens', {
        name,
        ...(role === undefined ? {} : { role }),
        ...(scopes === undefined ? {} : { scopes }),
        ...(connections === undefined ? {} : { connections }),
        ...(user === undefined ? {} : { user }),
        ...(days === undefined ? {} : { expiresAt: afterDays(days) }),
      })
      if (context.json) return printJson(made)
      note(`${described(made)}; this is the only time that it is shown:`)
      print(made.token)
    })

  group
    .command('list')
    .description('your tokens; as admin, all of them')
    .addHelpText('after', '\nExample:\n  holdfast token list')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const items = await allOf(context.client, tokenView, '/v1/tokens')
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No tokens yet: holdfast token new NAME')
      table(
        ['NAME', 'USER', 'ROLE', 'SCOPES', 'CONNECTIONS', 'ENDS', 'LAST USED', 'ID'],
        items.map(token => [
          token.name,
          token.user ?? '–',
          token.role,
          token.scopes?.join(' ') ?? 'all',
          token.connections?.join(' ') ?? 'all',
          token.expiresAt === null ? 'never' : time(token.expiresAt),
          token.lastUsedAt === null ? 'never' : time(token.lastUsedAt),
          token.id,
        ]),
      )
    })

  group
    .command('revoke <token>')
    .description('make a token worthless, at once; by its name or id')
    .addHelpText('after', '\nExample:\n  holdfast token revoke nightly')
    .action(async (named: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const token = await tokenNamed(context.client, named)
      await context.client.remove(`/v1/tokens/${token.id}`)
      if (context.json) return printJson({ revoked: token.id })
      print(`${token.name} is revoked.`)
    })
}

const described = ({ name, user, role, scopes, connections, expiresAt }: TokenView): string =>
  [
    `${name}: ${role}`,
    user === null ? "nobody's" : `of ${user}`,
    ...(scopes === null ? [] : [`only ${scopes.join(', ')}`]),
    ...(connections === null ? [] : [`for ${connections.join(', ')} only`]),
    expiresAt === null ? 'without end' : `until ${time(expiresAt)}`,
  ].join(', ')

async function tokenNamed(client: Client, named: string): Promise<TokenView> {
  const found = (await allOf(client, tokenView, '/v1/tokens')).find(
    ({ id, name }) => id === named || name === named,
  )
  if (found) return found
  throw new HoldfastError('request.not-found', `There is no token ${named}.`)
}

/** Throws `request.invalid`. */
export function afterDays(text: string): string {
  const days = Number(text)
  if (Number.isFinite(days) && days > 0 && days <= 36_500) {
    return new Date(Date.now() + days * 86_400_000).toISOString()
  }
  throw new HoldfastError('request.invalid', `--days ${text} is no number of days.`)
}
