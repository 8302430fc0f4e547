import { type Command, InvalidArgumentError } from 'commander'
import { type ObjectLock, objectLock, type Tier, tierList } from '../../model/keeping.ts'
import type { DestinationKind } from '../../model/types.ts'
import { destinationCheckView, destinationView, tieringView } from '../../model/views.ts'
import { kindOfUri } from '../../storage/index.ts'
import { allOf } from '../client.ts'
import { contextOf } from '../context.ts'
import { type CredentialOptions, credentialsOf } from '../destination-credentials.ts'
import { absoluteDestinationUri } from '../paths.ts'
import { type SecretRefOptions, withSecretRefs } from '../secret-options.ts'
import { type StoreOptions, storeOptions } from '../store-options.ts'
import { bytes, note, print, printJson, table } from '../terminal.ts'
import { follow, start } from '../watch.ts'
import { label, wholeNumber } from './backup.ts'

interface WritingOptions {
  maxParts?: number
  checksums?: string
  storageClass?: string
  encryption?: string
  kmsKey?: string
  tag?: Record<string, string>
  metadata?: Record<string, string>
  encryptionScope?: string
  lock?: ObjectLock | null
  tier?: Tier[] | null
  legalHold?: boolean
  encryptTo?: string[]
  failover?: string
  offSite?: boolean
}

interface AddOptions extends CredentialOptions, SecretRefOptions, WritingOptions, StoreOptions {}

export const credentialsFile = [
  '--credentials-file <file>',
  'an AWS credentials file ([default] section), the key file of a Google service account, or NAME=value lines with the AZURE_ variables of a key, a signature or a service principal',
] as const
export const credentialsEnv = [
  '--credentials-env',
  'take AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or AZURE_STORAGE_CONNECTION_STRING, _KEY or _SAS_TOKEN, or AZURE_TENANT_ID, _CLIENT_ID and _CLIENT_SECRET or _CLIENT_CERTIFICATE_PATH, or the file that GOOGLE_APPLICATION_CREDENTIALS names',
] as const

/** `compliance:30`; `none` takes it away. */
function lock(text: string): ObjectLock | null {
  if (text === 'none') return null
  const [mode, days, ...rest] = text.split(':')
  const parsed = objectLock.safeParse({ mode, days: Number(days) })
  if (parsed.success && rest.length === 0) return parsed.data
  throw new InvalidArgumentError('It must be governance:DAYS or compliance:DAYS, or none.')
}

/** `30:Cool`, and again for each; `none` takes them away. */
function tier(text: string, before: Tier[] | null = []): Tier[] | null {
  if (text === 'none') return null
  const [afterDays, name, ...rest] = text.split(':')
  const tiers = [...(before ?? []), { afterDays: Number(afterDays), class: name ?? '' }]
  if (rest.length === 0 && tierList.safeParse(tiers).success) return tiers
  throw new InvalidArgumentError('It must be DAYS:CLASS, five times at most, or none.')
}

/** How objects are written. */
function withWritingOptions(command: Command): Command {
  return command
    .option(
      '--storage-class <class>',
      'of artifacts: e.g. STANDARD_IA of S3, NEARLINE of GCS, Cool of Azure; from an archive a restore brings back, for hours',
    )
    .option('--encryption <how>', 'S3: encryption by the store: AES256, aws:kms, aws:kms:dsse')
    .option('--kms-key <id>', "S3, GCS: the key of the store's KMS")
    .option('--encryption-scope <name>', 'Azure: the scope that objects are encrypted under')
    .option('--tag <key=value>', 'S3, Azure: of every object; may be given several times', label)
    .option('--metadata <key=value>', 'of every object; may be given several times', label)
    .option(
      '--lock <mode:days>',
      'S3, GCS, Azure: nothing of a backup can be removed before; e.g. compliance:30',
      lock,
    )
    .option(
      '--legal-hold',
      'S3, GCS, Azure: nothing of a backup can be removed until somebody lifts it at the store',
    )
    .option(
      '--tier <days:class>',
      'S3, GCS, Azure: artifacts move there at this age, e.g. 30:Cool; may be given again; none: they stay',
      tier,
    )
    .option('--no-legal-hold', 'new objects are not held any more')
    .option(
      '--encrypt-to <key...>',
      'keys that backups there are encrypted for by default; all: every key in use',
    )
    .option('--failover <destination>', 'where backups go while this one is away; none: nowhere')
    .option('--off-site', 'it lies elsewhere than the databases')
    .option('--no-off-site', 'it lies where the databases are')
    .option('--max-parts <n>', 'S3: parts that the store takes for one object, if under 10,000', wholeNumber)
    .option('--checksums <mode>', 'S3: none, for stores that refuse checksum headers')
}

const writingFields = (options: WritingOptions): Record<string, unknown> => ({
  ...(options.storageClass === undefined ? {} : { storageClass: options.storageClass }),
  ...(options.encryption === undefined ? {} : { encryption: options.encryption }),
  ...(options.kmsKey === undefined ? {} : { kmsKeyId: options.kmsKey }),
  ...(options.tag === undefined ? {} : { tags: options.tag }),
  ...(options.metadata === undefined ? {} : { metadata: options.metadata }),
  ...(options.encryptionScope === undefined ? {} : { encryptionScope: options.encryptionScope }),
  ...(options.lock === undefined ? {} : { objectLock: options.lock }),
  ...(options.legalHold === undefined ? {} : { legalHold: options.legalHold }),
  ...(options.tier === undefined ? {} : { tiers: options.tier }),
  ...(options.encryptTo === undefined ? {} : encryptTo(options.encryptTo)),
  ...(options.failover === undefined
    ? {}
    : { failover: options.failover === 'none' ? null : options.failover }),
  ...(options.offSite === undefined ? {} : { offSite: options.offSite }),
  ...(options.maxParts === undefined ? {} : { maxParts: options.maxParts }),
  ...(options.checksums === undefined ? {} : { checksums: options.checksums }),
})

/** `all`: every key in use, as where nothing was said. */
const encryptTo = (names: readonly string[]) => ({
  encryptTo: names.length === 1 && names[0] === 'all' ? null : names,
})

export function destinationCommands(program: Command): void {
  const group = program
    .command('destination')
    .description('where backups are kept')
    .addHelpText('after', '\nExample:\n  holdfast destination list')

  withSecretRefs(withWritingOptions(group.command('add <name> <uri>')))
    .description(
      'remember a place for backups: a directory, server://HOST/directory, or s3://, gcs://, azure://',
    )
    .option('--endpoint <url>', 'address of the store, where it is not Amazon, Google or Azure')
    .option('--region <region>', 'its region')
    .option('--path-style', 'bucket in the path, as most stores other than AWS want it')
    .option('--account <name>', "Azure's storage account")
    .option(...credentialsFile)
    .option(...credentialsEnv)
    .addHelpText(
      'after',
      '\nWithout credentials the worker uses its own chain (environment, profile, instance role, managed identity).\n\nExamples:\n  holdfast destination add disk /srv/backups\n  holdfast destination add shelf server://db1/var/backups/holdfast\n  holdfast destination add vault s3://acme-backups/prod --region eu-central-1 --credentials-file ~/.aws/credentials\n  holdfast destination add blobs azure://backups/prod --account acmebackups --credentials-env',
    )
    .action(async (name: string, uri: string, options: AddOptions, command: Command) => {
      const context = contextOf(command)
      const absolute = absoluteDestinationUri(uri, process.cwd())
      const added = await context.client.post(destinationView, '/v1/destinations', {
        name,
        uri: absolute,
        ...storeOptions(options),
        ...writingFields(options),
        ...(await credentialsOf(options, kindOfUri(absolute))),
        ...options.secretRef,
      })
      if (context.json) printJson(added)
      else print(`${added.name}: ${added.uri}`)
      if (added.readOnly) note(readOnlyNotice(added.name))
    })

  withSecretRefs(withWritingOptions(group.command('change <destination>')))
    .description('other credentials, endpoint, region or options; it must still be the same place')
    .option('--endpoint <url>', 'address of the store; needs the credentials again')
    .option('--region <region>', 'its region; needs the credentials again')
    .option(...credentialsFile)
    .option(...credentialsEnv)
    .addHelpText(
      'after',
      '\nExample:\n  holdfast destination change vault --credentials-file ~/.aws/credentials',
    )
    .action(async (name: string, options: AddOptions, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/destinations/${encodeURIComponent(name)}`
      const { kind, secrets } = await context.client.get(destinationView, path)
      const given = {
        ...(await credentialsOf(options, kind as DestinationKind)),
        ...options.secretRef,
      }
      // Credentials of another form take the place of the stored ones.
      const replaced = Object.keys(given).length === 0 ? [] : secrets.filter(field => !(field in given))
      const changed = await context.client.patch(destinationView, path, {
        ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
        ...(options.region === undefined ? {} : { region: options.region }),
        ...writingFields(options),
        ...Object.fromEntries(replaced.map(field => [field, null])),
        ...given,
      })
      if (context.json) return printJson(changed)
      print(`${changed.name}: ${changed.uri}${changed.endpoint === null ? '' : ` at ${changed.endpoint}`}`)
    })

  group
    .command('list')
    .description('all destinations')
    .addHelpText('after', '\nExample:\n  holdfast destination list')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const items = await allOf(context.client, destinationView, '/v1/destinations')
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No destinations yet: holdfast destination add NAME URI')
      table(
        ['NAME', 'KIND', 'ACCESS', 'KEYS', 'URI', 'ENDPOINT'],
        items.map(item => [
          item.name,
          item.kind,
          item.readOnly ? 'read only' : 'read, write',
          item.encryptTo?.join(', ') ?? 'all',
          item.uri,
          item.endpoint ?? '',
        ]),
      )
    })

  group
    .command('check <destination>')
    .description('write, read back and delete a small object there')
    .addHelpText('after', '\nExample:\n  holdfast destination check vault')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/destinations/${encodeURIComponent(name)}/check`
      const answer = await context.client.post(destinationCheckView, path)
      if (context.json) printJson(answer)
      else print(`${name} accepts, returns and deletes objects.`)
      if (!context.json) for (const one of answer.notes) note(one)
      if (answer.readOnly) note(readOnlyNotice(name))
    })

  group
    .command('tiers <destination>')
    .description('move what is old enough to a colder class of the store, and watch it')
    .option('--dry-run', 'only say what would be moved, as far as the catalog knows')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')
    .addHelpText('after', '\nExample:\n  holdfast destination tiers vault --dry-run')
    .action(async (name: string, options: { dryRun?: boolean; wait: boolean }, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/destinations/${encodeURIComponent(name)}/tiers`
      if (!options.dryRun) return await follow(context, await start(context, path, {}), options.wait)
      const { tiers, moves } = await context.client.get(tieringView, path)
      if (context.json) return printJson({ tiers, moves })
      if (tiers.length === 0) return note(`${name} has no tiers: holdfast destination change ${name} --tier`)
      if (moves.length === 0) return print('Nothing is to be moved.')
      table(
        ['BACKUP', 'CONNECTION', 'TO', 'SIZE'],
        moves.map(move => [move.backup, move.connection, move.to, bytes(move.bytes)]),
      )
    })

  group
    .command('remove <destination>')
    .description('forget a destination and its credentials; the objects there stay')
    .addHelpText('after', '\nExample:\n  holdfast destination remove vault')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      await context.client.remove(`/v1/destinations/${encodeURIComponent(name)}`)
      if (context.json) printJson({ removed: name })
      else print(`${name} removed; what lies there stays.`)
    })
}

const readOnlyNotice = (name: string) =>
  `warning: another installation writes to ${name}; its backups can be restored, none can be made. If it is gone for good: holdfast takeover ${name}`
