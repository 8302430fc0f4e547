import type { Command } from 'commander'
import type { DestinationKind } from '../../model/types.ts'
import { destinationView } from '../../model/views.ts'
import { kindOfUri } from '../../storage/index.ts'
import { allOf } from '../client.ts'
import { contextOf } from '../context.ts'
import { type CredentialOptions, credentialsOf } from '../destination-credentials.ts'
import { absoluteDestinationUri } from '../paths.ts'
import { type StoreOptions, storeOptions } from '../store-options.ts'
import { note, print, printJson, table } from '../terminal.ts'
import { label, wholeNumber } from './backup.ts'

interface WritingOptions {
  maxParts?: number
  checksums?: string
  storageClass?: string
  encryption?: string
  kmsKey?: string
  tag?: Record<string, string>
  metadata?: Record<string, string>
}

interface AddOptions extends CredentialOptions, WritingOptions, StoreOptions {}

const credentialsFile = [
  '--credentials-file <file>',
  'an AWS credentials file ([default] section), the key file of a Google service account, or NAME=value lines with one of the AZURE_STORAGE_ variables',
] as const
const credentialsEnv = [
  '--credentials-env',
  'take AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or AZURE_STORAGE_CONNECTION_STRING, _KEY or _SAS_TOKEN, or the file that GOOGLE_APPLICATION_CREDENTIALS names',
] as const

/** How objects are written; for S3. */
function withWritingOptions(command: Command): Command {
  return command
    .option('--storage-class <class>', 'S3: of artifacts; one that is readable at once, e.g. STANDARD_IA')
    .option('--encryption <how>', 'S3: encryption by the store: AES256, aws:kms, aws:kms:dsse')
    .option('--kms-key <id>', 'S3: the key of its KMS')
    .option('--tag <key=value>', 'S3: of every object; may be given several times', label)
    .option('--metadata <key=value>', 'S3: of every object; may be given several times', label)
    .option('--max-parts <n>', 'S3: parts that the store takes for one object, if under 10,000', wholeNumber)
    .option('--checksums <mode>', 'S3: none, for stores that refuse checksum headers')
}

const writingFields = (options: WritingOptions): Record<string, unknown> => ({
  ...(options.storageClass === undefined ? {} : { storageClass: options.storageClass }),
  ...(options.encryption === undefined ? {} : { encryption: options.encryption }),
  ...(options.kmsKey === undefined ? {} : { kmsKeyId: options.kmsKey }),
  ...(options.tag === undefined ? {} : { tags: options.tag }),
  ...(options.metadata === undefined ? {} : { metadata: options.metadata }),
  ...(options.maxParts === undefined ? {} : { maxParts: options.maxParts }),
  ...(options.checksums === undefined ? {} : { checksums: options.checksums }),
})

export function destinationCommands(program: Command): void {
  const group = program
    .command('destination')
    .description('where backups are kept')
    .addHelpText('after', '\nExample:\n  holdfast destination list')

  withWritingOptions(group.command('add <name> <uri>'))
    .description('remember a place for backups: a directory or s3://, gcs://, azure://')
    .option('--endpoint <url>', 'address of the store, where it is not Amazon, Google or Azure')
    .option('--region <region>', 'its region')
    .option('--path-style', 'bucket in the path, as most stores other than AWS want it')
    .option('--account <name>', "Azure's storage account")
    .option(...credentialsFile)
    .option(...credentialsEnv)
    .addHelpText(
      'after',
      '\nWithout credentials the worker uses its own chain (environment, profile, instance role).\n\nExamples:\n  holdfast destination add disk /srv/backups\n  holdfast destination add vault s3://acme-backups/prod --region eu-central-1 --credentials-file ~/.aws/credentials\n  holdfast destination add blobs azure://backups/prod --account acmebackups --credentials-env',
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
      })
      if (context.json) printJson(added)
      else print(`${added.name}: ${added.uri}`)
      if (added.readOnly) note(readOnlyNotice(added.name))
    })

  withWritingOptions(group.command('change <destination>'))
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
      const given = await credentialsOf(options, kind as DestinationKind)
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
        ['NAME', 'KIND', 'ACCESS', 'URI', 'ENDPOINT'],
        items.map(item => [
          item.name,
          item.kind,
          item.readOnly ? 'read only' : 'read, write',
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
      const answer = await context.client.post(destinationView, path)
      if (context.json) printJson(answer)
      else print(`${name} accepts, returns and deletes objects.`)
      if (answer.readOnly) note(readOnlyNotice(name))
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
