import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { homePaths } from '../../model/settings.ts'
import { type KeyView, keyView, statusView } from '../../model/views.ts'
import { allOf } from '../client.ts'
import { contextOf } from '../context.ts'
import {
  newPassphraseOf,
  type PassphraseOptions,
  passphraseOf,
  withPassphraseOptions,
} from '../passphrase-options.ts'
import { note, print, printJson, table, time } from '../terminal.ts'
import { follow, start } from '../watch.ts'
import { wholeNumber } from './backup.ts'
import { escrowCheck } from './escrow-check.ts'

interface NewOptions extends PassphraseOptions {
  public?: string
  locked?: boolean
  awsKms?: string
  gcpKms?: string
  azureKey?: string
}

export function keyCommands(program: Command): void {
  const group = program
    .command('keys')
    .description('keys that backups are encrypted for')
    .addHelpText('after', '\nExample:\n  holdfast keys list')

  withPassphraseOptions(
    group
      .command('new <name>')
      .description('make a key file, or remember a public key that can only encrypt, or one of a KMS')
      .option('--public <file>', 'PEM or JWK of a public key (RSA from 2048 bits, EC P-256 or P-384)')
      .option('--locked', 'lock it with a passphrase: without that it opens no backup')
      .option(
        '--aws-kms <arn>',
        'a key of AWS KMS, which never leaves there; credentials are those of the API',
      )
      .option(
        '--gcp-kms <name>',
        'the same of Google Cloud KMS: projects/P/locations/L/keyRings/R/cryptoKeys/K',
      )
      .option(
        '--azure-key <id>',
        'the same of Azure Key Vault: https://VAULT.vault.azure.net/keys/NAME/VERSION',
      ),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast keys new team\n  holdfast keys new vault --locked\n  holdfast keys new escrow --public escrow-public.pem\n  holdfast keys new cloud --aws-kms arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab',
    )
    .action(async (name: string, options: NewOptions, command: Command) => {
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
      const locked =
        options.locked === true || options.passphraseEnv !== undefined || options.passphraseFile !== undefined
      const passphrase = locked ? await newPassphraseOf(options, `key "${name}"`) : undefined
      const made = await context.client.post(keyView, '/v1/keys', {
        name,
        ...(passphrase === undefined ? {} : { passphrase }),
        ...(publicKey === undefined ? {} : { publicKey }),
        ...(options.awsKms === undefined ? {} : { awsKms: options.awsKms }),
        ...(options.gcpKms === undefined ? {} : { gcpKms: options.gcpKms }),
        ...(options.azureKey === undefined ? {} : { azureKey: options.azureKey }),
      })
      if (context.json) return printJson(made)
      print(`${made.name}: ${made.kind}, ${made.algorithm}, ${made.kid}`)
      if (made.kind !== 'public') note(keyNotice(context.settings.home, made.name))
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
        ['NAME', 'KIND', 'ADDED', 'OPENS', 'KEY ID'],
        items.map(item => [
          item.replacedBy === null ? item.name : `${item.name} (now ${item.replacedBy})`,
          item.openUntil === null ? item.kind : `${item.kind}, open until ${time(item.openUntil)}`,
          time(item.createdAt),
          opensInWords(item),
          item.kid,
        ]),
      )
    })

  group
    .command('rotate <key>')
    .description('make every backup that a key opens open with another one, too, which takes its place')
    .requiredOption(
      '--to <key>',
      'the key that takes its place: new backups are encrypted for it from now on',
    )
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')
    .addHelpText(
      'after',
      '\nAdds a key sidecar to each backup; nothing else of it changes. What the old key opened it still opens: it is\nthe new backups that it does not. Run it again for what was left.\n\nExamples:\n  holdfast keys new team-2027\n  holdfast keys rotate team --to team-2027\n  holdfast keys retire team',
    )
    .action(async (name: string, options: { to: string; wait: boolean }, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/keys/${encodeURIComponent(name)}/rotate`
      await follow(context, await start(context, path, { to: options.to }), options.wait)
    })

  group
    .command('retire <key>')
    .description('put a key away that nothing needs any more; refused while something does')
    .option('--opened-elsewhere', 'backups may be left that only public keys here are for')
    .option('--undo', 'use a retired key again')
    .addHelpText('after', '\nExamples:\n  holdfast keys retire team\n  holdfast keys retire team --undo')
    .action(
      async (name: string, options: { openedElsewhere?: boolean; undo?: boolean }, command: Command) => {
        const context = contextOf(command)
        const path = `/v1/keys/${encodeURIComponent(name)}`
        const key =
          options.undo === true
            ? await context.client.post(keyView, `${path}/bring-back`, {})
            : await context.client.post(keyView, `${path}/retire`, {
                ...(options.openedElsewhere === true ? { openedElsewhere: true } : {}),
              })
        if (context.json) return printJson(key)
        if (options.undo === true) return print(`${key.name}: in use again`)
        print(
          `${key.name}: retired; its file lies in ${join(homePaths(context.settings.home).keys, 'retired')}`,
        )
      },
    )

  withPassphraseOptions(
    group
      .command('unlock <key>')
      .description('open a locked key for a while, so that backups can be restored with it')
      .option('--minutes <n>', 'until it is locked again', wholeNumber, 60),
  )
    .addHelpText('after', '\nExample:\n  holdfast keys unlock vault --minutes 30')
    .action(async (name: string, options: PassphraseOptions & { minutes: number }, command: Command) => {
      const context = contextOf(command)
      // Nobody types a passphrase for nothing.
      const keys = await allOf(context.client, keyView, '/v1/keys')
      if (!keys.some(key => key.name === name && key.kind === 'locked'))
        throw new HoldfastError('key.missing', `There is no key "${name}" that a passphrase locks.`)
      const passphrase = await passphraseOf(options, `key "${name}"`)
      const path = `/v1/keys/${encodeURIComponent(name)}/unlock`
      const opened = await context.client.post(keyView, path, { passphrase, minutes: options.minutes })
      if (context.json) printJson(opened)
      else print(`${opened.name}: open until ${time(opened.openUntil ?? '')}`)
    })

  group
    .command('lock <key>')
    .description('lock a key again')
    .addHelpText('after', '\nExample:\n  holdfast keys lock vault')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/keys/${encodeURIComponent(name)}/lock`
      const locked = await context.client.post(keyView, path, {})
      if (context.json) printJson(locked)
      else print(`${locked.name}: locked`)
    })

  escrowCheck(group)

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

/** `12 in vault, 3 in disk, 2 of these only by it`. */
function opensInWords({ opens }: KeyView): string {
  const alone = opens.reduce((sum, place) => sum + place.alone, 0)
  const places = opens.map(({ destination, backups }) => `${backups} in ${destination}`)
  return [...places, ...(alone > 0 ? [`${alone} of these only by it`] : [])].join(', ')
}

async function trustedBy(path: string, json: boolean): Promise<void> {
  const { loadAnyKeyFile, thumbprint } = await import('../../storage/keys.ts')
  const { installations } = await loadAnyKeyFile(resolve(path))
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
