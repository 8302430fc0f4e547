/** Ways to hand over a key's passphrase that keep it out of argv and of the shell's history. */
import type { Command } from 'commander'
import { HoldfastError } from '../model/errors.ts'
import { secretOf } from './secret-options.ts'
import { askSecret } from './terminal.ts'

export interface PassphraseOptions {
  passphraseEnv?: string
  passphraseFile?: string
}

export const withPassphraseOptions = (command: Command): Command =>
  command
    .option('--passphrase-env <variable>', "take the key's passphrase from this environment variable")
    .option('--passphrase-file <file>', "take the key's passphrase from this file")

/** Asks at a terminal when it was not given otherwise. Throws `request.invalid`. */
export async function passphraseOf(options: PassphraseOptions, what: string): Promise<string> {
  const given = await secretOf({
    ...(options.passphraseEnv === undefined ? {} : { secretEnv: options.passphraseEnv }),
    ...(options.passphraseFile === undefined ? {} : { secretFile: options.passphraseFile }),
  })
  if (given !== undefined) return given
  if (process.stdin.isTTY) return await askSecret(`passphrase of ${what}: `)
  throw new HoldfastError(
    'request.invalid',
    `The passphrase of ${what} is needed, and nobody can be asked here.`,
    { hint: 'Give it with --passphrase-file or --passphrase-env.' },
  )
}

/** Of a key that is made: asked twice at a terminal. */
export async function newPassphraseOf(options: PassphraseOptions, what: string): Promise<string> {
  const passphrase = await passphraseOf(options, what)
  const asked = options.passphraseEnv === undefined && options.passphraseFile === undefined
  if (asked && (await askSecret('the same once more: ')) !== passphrase) {
    throw new HoldfastError('request.invalid', 'The two passphrases differ; nothing was made.')
  }
  return passphrase
}
