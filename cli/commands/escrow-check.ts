import { resolve } from 'node:path'
import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { type PassphraseOptions, passphraseOf, withPassphraseOptions } from '../passphrase-options.ts'
import { absoluteDestinationUri } from '../paths.ts'
import { type StoreOptions, storeOptions, withStoreOptions } from '../store-options.ts'
import { note, print, printJson, table } from '../terminal.ts'
import { interruptible } from './recover.ts'

interface EscrowOptions extends PassphraseOptions, StoreOptions {
  key: string
  all?: boolean
}

export function escrowCheck(keys: Command): void {
  withPassphraseOptions(
    withStoreOptions(
      keys
        .command('escrow-check <uri>')
        .description('whether a copy of a key file opens the backups of a destination; asks no server')
        .requiredOption('--key <file>', 'the copy: from the safe, the stick, the other site')
        .option('--all', 'every backup, not only the newest of each connection'),
    ),
  )
    .addHelpText(
      'after',
      '\nOpens the beginning of each backup. Ends with 0 when all that were tried opened.\nCredentials of a store are taken from the environment, as the tools of AWS, Google and Azure do.\n\nExamples:\n  holdfast keys escrow-check s3://acme-backups/prod --key /media/safe/default.json\n  holdfast keys escrow-check /srv/backups --key /media/safe/vault.json --all',
    )
    .action(async (uri: string, options: EscrowOptions, command: Command) => {
      const { json }: { json?: boolean } = command.optsWithGlobals()
      const { openSource } = await import('../recover/source.ts')
      const { checkEscrow } = await import('../recover/escrow.ts')
      const keyFile = resolve(options.key)
      const source = await openSource({
        uri: absoluteDestinationUri(uri, process.cwd()),
        keyFile,
        passphrase: () => passphraseOf(options, keyFile),
        ...storeOptions(options),
      })
      try {
        const answers = []
        const checking = checkEscrow(source, { all: options.all === true, signal: interruptible() })
        for await (const answer of checking) answers.push(answer)
        if (json) printJson(answers)
        else if (answers.length === 0) note(`No backups in ${source.destination.uri}.`)
        else {
          table(
            ['', 'CONNECTION', 'BACKUP', 'NOTE'],
            answers.map(one => [
              one.opens ? '✓' : '✗',
              one.connection,
              one.backup,
              one.opens ? (one.encrypted ? '' : 'not encrypted') : (one.code ?? ''),
            ]),
          )
        }
        const shut = answers.filter(one => !one.opens)
        if (answers.length > 0 && shut.length === 0) {
          if (!json)
            print(
              `${keyFile} opens ${options.all ? 'every backup' : 'the newest backup of every connection'}.`,
            )
          return
        }
        throw new HoldfastError(
          'key.missing',
          answers.length === 0
            ? `There is nothing in ${source.destination.uri} that ${keyFile} could be tried on.`
            : `${keyFile} does not open ${shut.length} of ${answers.length}, among them ${shut.at(-1)?.backup} of ${shut.at(-1)?.connection}.`,
          { hint: 'Copy the key files of that installation anew, and try them again.' },
        )
      } finally {
        await source.destination.close()
      }
    })
}
