import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { keyView, statusView } from '../../model/schemas.ts'
import { homePaths } from '../../model/settings.ts'
import { allOf } from '../client.ts'
import { contextOf } from '../context.ts'
import { note, print, printJson, table, time } from '../terminal.ts'

export function keyCommands(program: Command): void {
  const group = program
    .command('keys')
    .description('keys that backups are encrypted for')
    .addHelpText('after', '\nExample:\n  holdfast keys list')

  group
    .command('new <name>')
    .description('make a key file, or remember a public key that can only encrypt')
    .option('--public <file>', 'PEM or JWK of a public key (RSA from 2048 bits, EC P-256 or P-384)')
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast keys new team\n  holdfast keys new escrow --public escrow-public.pem',
    )
    .action(async (name: string, options: { public?: string }, command: Command) => {
      const context = contextOf(command)
      const path = options.public
      const publicKey =
        path === undefined
          ? undefined
          : await readFile(path, 'utf8').catch(error => {
              throw new HoldfastError(
                'key.invalid',
                `The key ${path} cannot be read: ${String(error.message)}.`,
              )
            })
      const made = await context.client.post(keyView, '/v1/keys', {
        name,
        ...(publicKey === undefined ? {} : { publicKey }),
      })
      if (context.json) return printJson(made)
      print(`${made.name}: ${made.kind}, ${made.algorithm}, ${made.kid}`)
      if (made.kind === 'key-file') note(keyNotice(context.settings.home, made.name))
    })

  group
    .command('list')
    .description('all keys')
    .addHelpText('after', '\nExample:\n  holdfast keys list')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const items = await allOf(context.client, keyView, '/v1/keys')
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No keys yet: holdfast keys new NAME')
      table(
        ['NAME', 'KIND', 'ALGORITHM', 'ADDED', 'KEY ID'],
        items.map(item => [item.name, item.kind, item.algorithm, time(item.createdAt), item.kid]),
      )
    })

  group
    .command('fingerprint')
    .description('of the key that signs our backups: who has it can prove them by `recover --fingerprint`')
    .option('--key <file>', 'of the installations that this key file trusts; asks no server')
    .addHelpText(
      'after',
      '\nKeep it away from this machine, beside the key file: whoever writes to a destination could forge what lies there, but not this.\n\nExamples:\n  holdfast keys fingerprint\n  holdfast recover s3://acme-backups/prod --fingerprint "$(holdfast keys fingerprint)" --list',
    )
    .action(async (options: { key?: string }, command: Command) => {
      if (options.key !== undefined) return await trustedBy(options.key, contextOf(command).json)
      const context = contextOf(command)
      const { installationId, fingerprint } = await context.client.get(statusView, '/v1/status')
      if (context.json) printJson({ installationId, fingerprint })
      else print(fingerprint)
    })
}

async function trustedBy(path: string, json: boolean): Promise<void> {
  const { loadKeyFile, thumbprint } = await import('../../storage/keys.ts')
  const { installations } = await loadKeyFile(resolve(path))
  const items = []
  for (const [installationId, publicKey] of Object.entries(installations)) {
    items.push({ installationId, fingerprint: await thumbprint(publicKey) })
  }
  if (json) return printJson(items)
  if (items.length === 0) return note(`${path} names no installation.`)
  for (const item of items) print(`${item.fingerprint}  ${item.installationId}`)
}

/** Said whenever a key file is made: who loses it loses the backups. */
export const keyNotice = (home: string, name: string): string =>
  `Copy ${join(homePaths(home).keys, name)}.* to a safe place outside this machine now: without it nobody can open these backups.`
