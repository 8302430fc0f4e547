import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { kmsKeyOf } from '../../model/manifest.ts'
import { type PassphraseOptions, passphraseOf, withPassphraseOptions } from '../passphrase-options.ts'
import { absoluteConnectionUrl, absoluteDestinationUri } from '../paths.ts'
import { type SecretOptions, secretOf, withSecretOptions } from '../secret-options.ts'
import { type StoreOptions, storeOptions, withStoreOptions } from '../store-options.ts'
import { bytes, note, print, printJson, table, time } from '../terminal.ts'
import { wholeNumber } from './backup.ts'

interface RecoverOptions extends SecretOptions, PassphraseOptions, StoreOptions {
  key?: string
  awsKms?: string
  gcpKms?: string
  azureKey?: string
  fingerprint?: string
  backup?: string
  artifact?: string
  list?: boolean
  out?: string
  restoreTo?: string
  directory?: string
  jobs?: number
  owner: boolean
}

export function recoverCommand(program: Command): void {
  const recover = program
    .command('recover <uri>')
    .description(
      'get a backup back with only its destination and the key: no server, no catalog, no Temporal',
    )
    .option('--key <file>', 'key file made by `holdfast keys new`; it says whose backups to trust, too')
    .option('--aws-kms <arn>', 'a key of AWS KMS instead of a key file that names it; with --fingerprint')
    .option('--gcp-kms <name>', 'the same of Google Cloud KMS')
    .option('--azure-key <id>', 'the same of Azure Key Vault')
    .option('--fingerprint <text>', 'trust the installation whose signing key has this fingerprint')
    .option('--backup <backup>', 'an id or CONNECTION:latest, when the URI is a whole destination')
    .option('--list', 'show what is there')
    .option('--out <file>', "write the tool's own bytes to this file; - is standard output")
    .option('--artifact <name>', 'which artifact, when the backup has several')
    .option('--restore-to <url>', 'restore into this new database (it must not exist)')
    .option('--directory <path>', 'restore a whole server into this new data directory, on this machine')
    .option('--jobs <n>', 'parallel jobs, where the tool has them', wholeNumber)
    .option('--no-owner', 'leave owners and grants out')
  withSecretOptions(withPassphraseOptions(withStoreOptions(recover)))
    .addHelpText(
      'after',
      '\nCredentials of a store are taken from the environment, as the tools of AWS, Google and Azure do.\n\nExamples:\n  holdfast recover s3://acme-backups/prod --key default.json --list\n  holdfast recover /srv/backups/shop/backups/20261121T031400Z-full-9f3k --key default.json --out shop.dump\n  holdfast recover /srv/backups --key default.json --backup shop:latest --restore-to postgres://postgres@localhost/shop_back\n  holdfast recover /srv/backups --key default.json --backup main:latest --directory /var/lib/postgresql/15/restored',
    )
    .action(async (uri: string, options: RecoverOptions, command: Command) => {
      const ways = [options.list, options.out, options.restoreTo, options.directory].filter(
        way => way !== undefined,
      )
      if (ways.length !== 1) {
        throw new HoldfastError(
          'request.invalid',
          'Say what to do: one of --list, --out FILE, --restore-to URL and --directory PATH.',
        )
      }
      const { json }: { json?: boolean } = command.optsWithGlobals()
      const { openSource } = await import('../recover/source.ts')
      const kms = kmsKeyOf(options)
      const source = await openSource({
        uri: absoluteDestinationUri(uri, process.cwd()),
        passphrase: () => passphraseOf(options, options.key ?? 'the key file'),
        ...(options.key === undefined ? {} : { keyFile: resolve(options.key) }),
        ...(kms === undefined ? {} : { kms }),
        ...(options.fingerprint === undefined ? {} : { fingerprint: options.fingerprint }),
        ...storeOptions(options),
      })
      try {
        if (options.list) await list(source, json === true)
        else if (options.out !== undefined) await out(source, options, options.out, json === true)
        else if (options.directory !== undefined) {
          await restoreTo(source, options, { directory: resolve(options.directory) }, json === true)
        } else {
          const url = absoluteConnectionUrl(options.restoreTo ?? '', process.cwd())
          await restoreTo(source, options, { url }, json === true)
        }
      } finally {
        await source.destination.close()
      }
    })
}

type Source = import('../recover/source.ts').Source

async function list(source: Source, json: boolean): Promise<void> {
  const { findBackups } = await import('../recover/source.ts')
  const found = await findBackups(source)
  if (json) {
    printJson(
      found.map(one => ({
        backup: one.backupId,
        connection: one.connection,
        state: one.state,
        trusted: one.manifest !== undefined,
        ...(one.manifest === undefined ? {} : { manifest: one.manifest }),
      })),
    )
    return
  }
  if (found.length === 0) return note(`No backups in ${source.destination.uri}.`)
  table(
    ['BACKUP', 'CONNECTION', 'DATABASE', 'ENDED', 'SIZE', 'STATE'],
    found.map(({ manifest, ...one }) => [
      one.backupId,
      one.connection,
      manifest === undefined ? '' : `${manifest.server.database} (${manifest.engine})`,
      manifest === undefined ? '' : time(manifest.endedAt),
      manifest === undefined
        ? ''
        : bytes(manifest.artifacts.reduce((sum, artifact) => sum + artifact.toolBytes, 0)),
      one.why === undefined ? one.state : `${one.state}, not trusted (${one.why})`,
    ]),
    ['SIZE'],
  )
}

/** What Ctrl-C aborts. */
export function interruptible(): AbortSignal {
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () =>
      stop.abort(new HoldfastError('operation.cancelled', 'The recovery was stopped.')),
    )
  }
  return stop.signal
}

async function out(source: Source, options: RecoverOptions, file: string, json: boolean): Promise<void> {
  const { openBackup } = await import('../recover/source.ts')
  const { artifactOf, openBytes, writeBytes, writeFileWhole } = await import('../recover/bytes.ts')
  const backup = await openBackup(source, options.backup)
  const entry = artifactOf(backup, options.artifact)
  const signal = interruptible()
  const fill = async (sink: NodeJS.WritableStream & import('node:stream').Writable) => {
    const compressed = await openBytes(source, backup, entry, { signal, onProgress: () => {} })
    await writeBytes(compressed, entry, sink, signal)
  }
  if (file === '-') {
    await fill(process.stdout)
    note(`${entry.name}: ${bytes(entry.toolBytes)} (${entry.format}), whole and proven`)
    return
  }
  const path = resolve(file)
  await writeFileWhole(path, fill)
  if (json)
    printJson({
      backup: backup.manifest.backupId,
      artifact: entry.name,
      format: entry.format,
      path,
      bytes: entry.toolBytes,
    })
  else print(`${path}: ${bytes(entry.toolBytes)} (${entry.format}), whole and proven`)
}

async function restoreTo(
  source: Source,
  options: RecoverOptions,
  to: { url: string } | { directory: string },
  json: boolean,
): Promise<void> {
  const { openBackup } = await import('../recover/source.ts')
  const { restoreHere } = await import('../recover/restore.ts')
  const backup = await openBackup(source, options.backup)
  const database = await restoreHere(source, backup, {
    to,
    password: await secretOf(options),
    jobs: options.jobs ?? 1,
    noOwner: !options.owner,
    tempDir: process.env.HOLDFAST_TEMP_DIR || tmpdir(),
    signal: interruptible(),
    say: note,
  })
  if (json) printJson({ backup: backup.manifest.backupId, database })
  else print(`${database} is ready, restored from ${backup.manifest.backupId}.`)
}
