import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import {
  type HostTokenView,
  type HostView,
  hostCheckView,
  hostTokenView,
  hostView,
} from '../../model/views.ts'
import { showChecks } from '../checks.ts'
import { allOf, type Client } from '../client.ts'
import { contextOf } from '../context.ts'
import {
  type SecretOptions,
  type SecretRefOptions,
  secretOf,
  withSecretOptions,
  withSecretRefs,
} from '../secret-options.ts'
import { note, print, printJson, table } from '../terminal.ts'
import { hostChangeCommand } from './host-change.ts'
import { keysIn, sshUrlOf, tellOfKey, textOf } from './host-lines.ts'

interface AddOptions extends SecretOptions, SecretRefOptions {
  runAs?: string
  tempDir?: string
  through?: string
  keyFile?: string
  agent?: true
  worker?: true
  knownHosts?: string
}

export function hostCommands(program: Command): void {
  const group = program
    .command('host')
    .description('machines that tools run on')
    .addHelpText('after', '\nExample:\n  holdfast host list')

  const add = group
    .command('add <name> [url]')
    .description('remember a machine: ssh://user@address[:port], or --worker')
    .option('--worker', 'a worker of its own lives there; prints the token that it needs')
    .option('--run-as <login>', 'run tools as this user there, by sudo; default: who logs in')
    .option('--temp-dir <path>', 'staging there; default: /var/tmp/holdfast-USER')
    .option('--through <host>', 'reach it through this host')
    .option('--key-file <file>', 'log in with this private key; the secret is its passphrase')
    .option('--agent', 'offer the keys of the ssh-agent (SSH_AUTH_SOCK) that API and workers have')
    .option('--known-hosts <file>', 'agree to the keys that this known_hosts file has for it')
  withSecretRefs(withSecretOptions(add))
    .addHelpText(
      'after',
      '\nThe secret is the password of the login or, with --key-file, the passphrase of the key. The key that the machine shows is agreed to with `holdfast host trust`.\n\nExamples:\n  holdfast host add db1 ssh://backup@db1.example --key-file ~/.ssh/backup --known-hosts ~/.ssh/known_hosts\n  holdfast host add db2 ssh://backup@10.0.0.7 --secret-prompt --run-as postgres --through db1\n  holdfast host add db3 --worker',
    )
    .action(async (name: string, given: string | undefined, options: AddOptions, command: Command) => {
      const context = contextOf(command)
      if (options.worker && given !== undefined) {
        throw new HoldfastError('request.invalid', 'A host with a worker of its own has no address.')
      }
      // Without any the API says what it may be.
      const url = options.worker ? 'worker:' : (given ?? 'none')
      const secret = await secretOf(options)
      const privateKey = options.keyFile === undefined ? undefined : await textOf(options.keyFile)
      const secrets =
        privateKey === undefined
          ? { ...(secret === undefined ? {} : { password: secret }) }
          : { privateKey, ...(secret === undefined ? {} : { passphrase: secret }) }
      const allSecrets = { ...secrets, ...options.secretRef }
      const hostKeys = options.knownHosts === undefined ? undefined : await keysIn(options.knownHosts, url)
      const added = await context.client.post(hostView, '/v1/hosts', {
        name,
        url,
        ...(options.runAs === undefined ? {} : { runAs: options.runAs }),
        ...(options.tempDir === undefined ? {} : { tempDir: options.tempDir }),
        ...(options.through === undefined ? {} : { through: options.through }),
        ...(options.agent === undefined ? {} : { agent: true }),
        ...(hostKeys === undefined ? {} : { hostKeys }),
        ...(Object.keys(allSecrets).length === 0 ? {} : { secrets: allSecrets }),
      })
      if (options.worker) return tellToken(context.json, await newToken(context.client, name))
      if (context.json) return printJson(added)
      print(`${added.name}: ${whereOf(added)}`)
      tellOfKey(added)
    })

  hostChangeCommand(group)

  group
    .command('list')
    .description('all hosts')
    .addHelpText('after', '\nExample:\n  holdfast host list --json')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const items = await allOf(context.client, hostView, '/v1/hosts')
      if (context.json) return printJson(items)
      if (items.length === 0)
        return note(
          'No hosts yet: holdfast host add NAME ssh://USER@ADDRESS, or holdfast host add NAME --worker',
        )
      table(
        ['NAME', 'WHERE', 'AS', 'STAGING', 'KEY OR TOKEN'],
        items.map(item => [
          item.name,
          whereOf(item),
          item.runAs ?? item.user ?? '',
          item.tempDir ?? '',
          item.kind === 'worker'
            ? tokenOf(item)
            : item.hostKeys.map(key => key.fingerprint).join(' ') || 'not agreed to',
        ]),
      )
    })

  group
    .command('trust <host>')
    .description('agree to the key that the machine shows now')
    .option('--fingerprint <sha256>', 'agree without being asked, if it is this one: SHA256:…')
    .addHelpText(
      'after',
      '\nCompare it on that machine first: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\n\nExamples:\n  holdfast host trust db1\n  holdfast host trust db1 --fingerprint SHA256:QbT1dHZwM0x4uZ6yK7mN3pVxY0cS9aL2eR5tG8wJ1fI',
    )
    .action(async (name: string, options: { fingerprint?: string }, command: Command) => {
      const context = contextOf(command)
      const { fingerprint } = options
      const seen = await trusting(context.client, name, fingerprint)
      if (context.json) return printJson(seen)
      if (fingerprint !== undefined) return print(`${name}: its key ${fingerprint} is agreed to.`)
      tellOfKey(seen)
    })

  group
    .command('token <host>')
    .description('make a new token for the worker that lives there; the one before opens nothing any more')
    .option('--revoke', 'make none')
    .addHelpText('after', '\nExamples:\n  holdfast host token db3\n  holdfast host token db3 --revoke')
    .action(async (name: string, options: { revoke?: true }, command: Command) => {
      const context = contextOf(command)
      if (!options.revoke) return tellToken(context.json, await newToken(context.client, name))
      await context.client.remove(tokenPath(name))
      if (context.json) printJson({ revoked: name })
      else print(`The token of ${name} opens nothing any more.`)
    })

  group
    .command('test <host>')
    .description('can it be logged in to, and is there what jobs need?')
    .addHelpText('after', '\nExample:\n  holdfast host test db1')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/hosts/${encodeURIComponent(name)}/test`
      showChecks(context, await context.client.post(hostCheckView, path))
    })

  group
    .command('remove <host>')
    .description('forget a host and its secrets')
    .addHelpText('after', '\nExample:\n  holdfast host remove db1')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      await context.client.remove(`/v1/hosts/${encodeURIComponent(name)}`)
      if (context.json) printJson({ removed: name })
      else print(`${name} removed.`)
    })
}

const trusting = (client: Client, name: string, fingerprint: string | undefined): Promise<HostView> =>
  client.post(
    hostView,
    `/v1/hosts/${encodeURIComponent(name)}/trust`,
    fingerprint === undefined ? {} : { fingerprint },
  )

const tokenPath = (name: string): string => `/v1/hosts/${encodeURIComponent(name)}/token`

const newToken = (client: Client, name: string): Promise<HostTokenView> =>
  client.post(hostTokenView, tokenPath(name))

/** The token alone goes to standard output: into a file, or to that machine. */
function tellToken(json: boolean, made: HostTokenView): void {
  if (json) printJson(made)
  else print(made.token)
  note(
    `Shown this once. On that machine, put it into a file of the worker's user alone, and: HOLDFAST_WORKER_TOKEN_FILE=FILE holdfast worker --host ${made.host}`,
  )
}

function tokenOf({ worker }: HostView): string {
  if (!worker?.token) return 'no token'
  const used = worker.token.lastUsedAt
  return used === null ? `of ${worker.token.createdAt}` : `last used ${used}`
}

function pollingOf({ worker }: HostView): string {
  if (worker?.polling === null || worker === null) return 'worker: not known'
  return worker.polling === 0 ? 'worker: nobody there' : 'worker: answers'
}

const whereOf = (host: HostView): string => (host.kind === 'worker' ? pollingOf(host) : sshUrlOf(host))
