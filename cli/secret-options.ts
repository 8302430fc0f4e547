/** Ways to hand over a password that keep it out of argv and of the shell's history. */
import { readFile } from 'node:fs/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { HoldfastError } from '../model/errors.ts'
import { parseReference } from '../model/secret-references.ts'
import { askSecret } from './terminal.ts'

export interface SecretOptions {
  secretEnv?: string
  secretFile?: string
  secretPrompt?: boolean
}

export const withSecretOptions = (command: Command): Command =>
  command
    .option('--secret-env <variable>', 'take the password from this environment variable')
    .option('--secret-file <file>', 'take the password from this file')
    .option('--secret-prompt', 'ask for the password')

/** undefined when none was asked for. Throws `request.invalid`. */
export async function secretOf(options: SecretOptions): Promise<string | undefined> {
  const given = [options.secretEnv, options.secretFile, options.secretPrompt].filter(
    item => item !== undefined,
  )
  if (given.length > 1) {
    throw new HoldfastError(
      'request.invalid',
      'Give only one of --secret-env, --secret-file and --secret-prompt.',
    )
  }
  if (options.secretEnv !== undefined) {
    const value = process.env[options.secretEnv]
    if (value !== undefined && value !== '') return value
    throw new HoldfastError('request.invalid', `The environment variable ${options.secretEnv} is not set.`)
  }
  if (options.secretFile !== undefined) {
    const path = options.secretFile
    const text = await readFile(path, 'utf8').catch(error => {
      throw new HoldfastError(
        'request.invalid',
        `The secret file ${path} cannot be read: ${String(error.message)}.`,
      )
    })
    return text.replace(/\r?\n$/, '')
  }
  return options.secretPrompt === true ? askSecret('password: ') : undefined
}

export interface SecretRefOptions {
  secretRef?: Record<string, { ref: string }>
}

export const withSecretRefs = (command: Command): Command =>
  command.option(
    '--secret-ref <field=ref>',
    'look a secret up when it is needed: FIELD=env:NAME, FIELD=file:/path, FIELD=vault:MOUNT/PATH#FIELD; may be given several times',
    reference,
  )

function reference(
  text: string,
  before: Record<string, { ref: string }> = {},
): Record<string, { ref: string }> {
  const [field, ...rest] = text.split('=')
  const ref = rest.join('=')
  if (field && parseReference(ref)) return { ...before, [field]: { ref } }
  // What was typed may be a secret itself: it is not repeated.
  throw new InvalidArgumentError(
    'It must be FIELD=env:NAME, FIELD=file:/path or FIELD=vault:MOUNT/PATH#FIELD.',
  )
}
