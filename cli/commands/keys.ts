import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { keyView, page } from '../../model/schemas.ts'
import { homePaths } from '../../model/settings.ts'
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
      const { items } = await context.client.get(page(keyView), '/v1/keys')
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No keys yet: holdfast keys new NAME')
      table(
        ['NAME', 'KIND', 'ALGORITHM', 'ADDED', 'KEY ID'],
        items.map(item => [item.name, item.kind, item.algorithm, time(item.createdAt), item.kid]),
      )
    })
}

/** Said whenever a key file is made: who loses it loses the backups. */
export const keyNotice = (home: string, name: string): string =>
  `Copy ${join(homePaths(home).keys, name)}.* to a safe place outside this machine now: without it nobody can open these backups.`
