import { type Command, Option } from 'commander'
import { selfView, userView } from '../../model/access.ts'
import { roles } from '../../model/types.ts'
import { allOf } from '../client.ts'
import { contextOf } from '../context.ts'
import { type SecretOptions, secretOf, withSecretOptions } from '../secret-options.ts'
import { askSecret, note, print, printJson, table, time } from '../terminal.ts'

const path = (name: string): string => `/v1/users/${encodeURIComponent(name)}`

export function userCommands(program: Command): void {
  const group = program
    .command('user')
    .description('people: their roles and passwords')
    .addHelpText('after', '\nExample:\n  holdfast user list')

  withSecretOptions(group.command('add <name>'))
    .description('add a user; without a password they can use tokens only')
    .addOption(new Option('--role <role>', 'what they may do').choices(roles).makeOptionMandatory())
    .addHelpText('after', '\nExample:\n  holdfast user add ada --role approver --secret-prompt')
    .action(async (name: string, options: SecretOptions & { role: string }, command: Command) => {
      const context = contextOf(command)
      const password = await secretOf(options)
      const made = await context.client.post(userView, '/v1/users', {
        name,
        role: options.role,
        ...(password === undefined ? {} : { password }),
      })
      if (context.json) return printJson(made)
      print(`${made.name}: ${made.role}${made.hasPassword ? '' : ', no password'}`)
    })

  group
    .command('list')
    .description('all users')
    .addHelpText('after', '\nExample:\n  holdfast user list')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const items = await allOf(context.client, userView, '/v1/users')
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No users yet: holdfast user add NAME --role ROLE')
      table(
        ['NAME', 'ROLE', 'PASSWORD', 'STATE', 'ADDED'],
        items.map(user => [
          user.name,
          user.role,
          user.hasPassword ? 'yes' : 'no',
          user.disabled ? 'disabled' : 'active',
          time(user.createdAt),
        ]),
      )
    })

  const change = async (command: Command, name: string, changes: { role?: string; disabled?: boolean }) => {
    const context = contextOf(command)
    const user = await context.client.patch(userView, path(name), changes)
    if (context.json) return printJson(user)
    print(`${user.name}: ${user.role}${user.disabled ? ', disabled' : ''}`)
  }
  group
    .command('role <user> <role>')
    .description('change what a user may do; their tokens follow at once')
    .addHelpText('after', '\nExample:\n  holdfast user role ada operator')
    .action((name: string, role: string, _options: unknown, command: Command) =>
      change(command, name, { role }),
    )
  group
    .command('disable <user>')
    .description('keep a user out: sessions end, tokens no longer work')
    .addHelpText('after', '\nExample:\n  holdfast user disable ada')
    .action((name: string, _options: unknown, command: Command) => change(command, name, { disabled: true }))
  group
    .command('enable <user>')
    .description('let a disabled user in again')
    .addHelpText('after', '\nExample:\n  holdfast user enable ada')
    .action((name: string, _options: unknown, command: Command) => change(command, name, { disabled: false }))

  withSecretOptions(group.command('password <user>'))
    .description("set a password: one's own (the current one is asked for) or, as admin, another's")
    .addHelpText('after', '\nExample:\n  holdfast user password ada --secret-prompt')
    .action(async (name: string, options: SecretOptions, command: Command) => {
      const context = contextOf(command)
      const self = await context.client.get(selfView, '/v1/me')
      const own = self.user === name
      const currentPassword = own ? await askSecret('current password: ') : undefined
      const password = (await secretOf(options)) ?? (await askSecret('new password: '))
      await context.client.put(`${path(name)}/password`, {
        password,
        ...(currentPassword === undefined ? {} : { currentPassword }),
      })
      if (context.json) return printJson({ changed: name })
      print(`The password of ${name} is changed; their sessions have ended.`)
    })
}
