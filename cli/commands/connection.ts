import { type Command, Option } from 'commander'
import { connectionCheckView, connectionView } from '../../model/views.ts'
import { showChecks } from '../checks.ts'
import { allOf } from '../client.ts'
import { contextOf } from '../context.ts'
import { absoluteConnectionUrl, holdsPassword } from '../paths.ts'
import {
  type SecretOptions,
  type SecretRefOptions,
  secretOf,
  withSecretOptions,
  withSecretRefs,
} from '../secret-options.ts'
import { fields, note, print, printJson, table, time } from '../terminal.ts'
import { several } from './backup.ts'

interface AddOptions extends SecretOptions, SecretRefOptions {
  method?: string
  host?: string
}

interface ChangeOptions extends SecretOptions, SecretRefOptions {
  method?: string
  to?: string
  acceptNewServer?: true
}

function secretsOf(password: string | undefined, { secretRef }: SecretRefOptions) {
  const secrets = { ...(password === undefined ? {} : { password }), ...secretRef }
  return Object.keys(secrets).length === 0 ? {} : { secrets }
}

export function connectionCommands(program: Command): void {
  const group = program
    .command('connection')
    .description('databases that Holdfast backs up and restores into')
    .addHelpText('after', '\nExample:\n  holdfast connection list')

  const add = group
    .command('add <name> <url>')
    .description('remember a database; it is asked who it is')
    .option(
      '--method <method>',
      'logical (client tools) or physical (files); default: what the engine prefers',
    )
  add.option('--host <host>', 'run its tools on this host (holdfast host add); default: where the worker is')
  withSecretRefs(withSecretOptions(add))
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast connection add shop postgres://backup@db.example/shop --secret-prompt\n  holdfast connection add shop postgres://backup@db.example/shop --secret-ref password=vault:kv/shop#password\n  holdfast connection add notes ./notes.sqlite',
    )
    .action(async (name: string, url: string, options: AddOptions, command: Command) => {
      const context = contextOf(command)
      if (holdsPassword(url)) {
        note(
          "warning: the password in the URL is now in your shell's history and was visible to other processes; --secret-env, --secret-file and --secret-prompt keep it out.",
        )
      }
      const password = await secretOf(options)
      const added = await context.client.post(connectionView, '/v1/connections', {
        name,
        url: options.host === undefined ? absoluteConnectionUrl(url, process.cwd()) : url,
        ...(options.host === undefined ? {} : { host: options.host }),
        ...(options.method === undefined ? {} : { method: options.method }),
        ...secretsOf(password, options),
      })
      if (context.json) printJson(added)
      else print(`${added.name}: ${added.engine} ${added.serverVersion}, ${added.method}, ${added.address}`)
    })

  withSecretRefs(withSecretOptions(group.command('change <connection>')))
    .description('another address, method or password; the server is asked again who it is')
    .option('--to <url>', 'its new address; needs the password again')
    .option('--method <method>', 'logical (client tools) or physical (files)')
    .option('--accept-new-server', 'it is another server than before, and that is meant')
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast connection change shop --secret-prompt\n  holdfast connection change shop --to postgres://backup@db2.example/shop --secret-file /run/pw',
    )
    .action(async (name: string, options: ChangeOptions, command: Command) => {
      const context = contextOf(command)
      const password = await secretOf(options)
      const { to, method, acceptNewServer } = options
      const changed = await context.client.patch(
        connectionView,
        `/v1/connections/${encodeURIComponent(name)}`,
        {
          ...(to === undefined ? {} : { url: absoluteConnectionUrl(to, process.cwd()) }),
          ...(method === undefined ? {} : { method }),
          ...secretsOf(password, options),
          ...(acceptNewServer === undefined ? {} : { acceptNewServer }),
        },
      )
      if (context.json) return printJson(changed)
      print(
        `${changed.name}: ${changed.engine} ${changed.serverVersion}, ${changed.method}, ${changed.address}`,
      )
    })

  group
    .command('list')
    .description('all connections')
    .addHelpText('after', '\nExample:\n  holdfast connection list --json')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const items = await allOf(context.client, connectionView, '/v1/connections')
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No connections yet: holdfast connection add NAME URL')
      table(
        ['NAME', 'ENGINE', 'METHOD', 'VERSION', 'ADDRESS'],
        items.map(item => [item.name, item.engine, item.method, item.serverVersion, item.address]),
      )
    })

  group
    .command('show <connection>')
    .description('one connection, without its secrets')
    .addHelpText('after', '\nExample:\n  holdfast connection show shop')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const item = await context.client.get(connectionView, `/v1/connections/${encodeURIComponent(name)}`)
      if (context.json) return printJson(item)
      fields([
        ['name', item.name],
        ['engine', `${item.engine} ${item.serverVersion}`],
        ['method', item.method],
        ['address', item.address],
        ['host', item.host],
        ['server', item.serverIdentity],
        ['secrets', item.secrets.join(', ')],
        [
          'two people',
          item.twoPerson ? 'yes: who asks for a restore over something may not approve it' : undefined,
        ],
        ['canary', item.canary ? 'written before each backup, for drills to find' : undefined],
        ['added', time(item.createdAt)],
      ])
    })

  group
    .command('policy <connection>')
    .description('what restores over something here need, and what backups may write')
    .addOption(
      new Option('--two-person <answer>', 'somebody else than who asked must approve them').choices([
        'yes',
        'no',
      ]),
    )
    .addOption(
      new Option(
        '--canary <answer>',
        'a row of ours is written before each backup, for drills to find',
      ).choices(['yes', 'no']),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast connection policy shop --two-person yes\n  holdfast connection policy shop --canary yes',
    )
    .action(async (name: string, options: { twoPerson?: string; canary?: string }, command: Command) => {
      const context = contextOf(command)
      const item = await context.client.post(
        connectionView,
        `/v1/connections/${encodeURIComponent(name)}/policy`,
        {
          ...(options.twoPerson === undefined ? {} : { twoPerson: options.twoPerson === 'yes' }),
          ...(options.canary === undefined ? {} : { canary: options.canary === 'yes' }),
        },
      )
      if (context.json) return printJson(item)
      print(`${name}: restores over something there need ${item.twoPerson ? 'two people' : 'one approver'}`)
      print(`${name}: ${item.canary ? 'a row is' : 'nothing is'} written into the database before a backup`)
    })

  group
    .command('check <connection>')
    .description('is it ready for a backup? Host, database, destinations and keys; changes nothing')
    .option('--to <destination>', 'a destination the backup would go to; may be given again', several)
    .option('--format <format>', 'what the tool would write')
    .addHelpText('after', '\nExample:\n  holdfast connection check shop --to vault --to cloud')
    .action(async (name: string, options: { to?: string[]; format?: string }, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/connections/${encodeURIComponent(name)}/precheck`
      const request = {
        ...(options.to === undefined ? {} : { destinations: options.to }),
        ...(options.format === undefined ? {} : { format: options.format }),
      }
      showChecks(context, await context.client.post(connectionCheckView, path, request))
    })

  group
    .command('remove <connection>')
    .description('forget a connection and its secrets; backups stay')
    .addHelpText('after', '\nExample:\n  holdfast connection remove shop')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      await context.client.remove(`/v1/connections/${encodeURIComponent(name)}`)
      if (context.json) printJson({ removed: name })
      else print(`${name} removed; its backups stay where they are.`)
    })
}
