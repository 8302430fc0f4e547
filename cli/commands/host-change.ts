import type { Command } from 'commander'
import { hostView } from '../../model/views.ts'
import { contextOf } from '../context.ts'
import {
  type SecretOptions,
  type SecretRefOptions,
  secretOf,
  withSecretOptions,
  withSecretRefs,
} from '../secret-options.ts'
import { print, printJson } from '../terminal.ts'
import { keysIn, sshUrlOf, tellOfKey, textOf } from './host-lines.ts'

interface ChangeOptions extends SecretOptions, SecretRefOptions {
  to?: string
  runAs?: string | false
  tempDir?: string
  through?: string | false
  keyFile?: string
  agent?: boolean
  knownHosts?: string
}

export function hostChangeCommand(group: Command): void {
  withSecretRefs(withSecretOptions(group.command('change <host>')))
    .description('another address, login, staging or key of a machine over SSH; what is not named stays')
    .option('--to <url>', 'its new address and login: ssh://user@address[:port]')
    .option('--run-as <login>', 'run tools as this user there, by sudo')
    .option('--no-run-as', 'run tools as who logs in')
    .option('--temp-dir <path>', 'staging there')
    .option('--through <host>', 'reach it through this host')
    .option('--no-through', 'reach it directly')
    .option('--key-file <file>', 'log in with this private key; the secret is its passphrase')
    .option('--agent', 'offer the keys of the ssh-agent (SSH_AUTH_SOCK) that API and workers have')
    .option('--no-agent', 'do not')
    .option('--known-hosts <file>', 'agree to the keys that this known_hosts file has for it, and no others')
    .addHelpText(
      'after',
      '\nThe keys that were agreed to stay: a machine at another address that shows another one is stopped until `holdfast host trust`, and needs the password again.\n\nExamples:\n  holdfast host change db1 --to ssh://backup@10.0.0.8\n  holdfast host change db1 --key-file ~/.ssh/backup-2 --no-through',
    )
    .action(async (name: string, options: ChangeOptions, command: Command) => {
      const { client, json } = contextOf(command)
      const path = `/v1/hosts/${encodeURIComponent(name)}`
      const secret = await secretOf(options)
      const secrets = { ...(await credentials(options.keyFile, secret)), ...options.secretRef }
      const { to, runAs, tempDir, through, agent, knownHosts } = options
      const hostKeys =
        knownHosts === undefined
          ? undefined
          : await keysIn(knownHosts, to ?? sshUrlOf(await client.get(hostView, path)))
      const changed = await client.patch(hostView, path, {
        ...(to === undefined ? {} : { url: to }),
        ...(runAs === undefined ? {} : { runAs: runAs === false ? null : runAs }),
        ...(tempDir === undefined ? {} : { tempDir }),
        ...(through === undefined ? {} : { through: through === false ? null : through }),
        ...(agent === undefined ? {} : { agent }),
        ...(hostKeys === undefined ? {} : { hostKeys }),
        ...(Object.keys(secrets).length === 0 ? {} : { secrets }),
      })
      if (json) return printJson(changed)
      print(`${changed.name}: ${sshUrlOf(changed)}`)
      tellOfKey(changed)
    })
}

/** A key takes the place of a password, and of the passphrase of the key before. */
async function credentials(keyFile: string | undefined, secret: string | undefined) {
  if (keyFile === undefined) return secret === undefined ? {} : { password: secret }
  return { privateKey: await textOf(keyFile), passphrase: secret ?? null, password: null }
}
