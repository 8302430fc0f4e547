import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { destinationView } from '../../model/schemas.ts'
import { allOf } from '../client.ts'
import { contextOf } from '../context.ts'
import { absoluteDestinationUri } from '../paths.ts'
import { note, print, printJson, table } from '../terminal.ts'

interface AddOptions {
  endpoint?: string
  region?: string
  pathStyle?: boolean
  credentialsFile?: string
  credentialsEnv?: boolean
}

export function destinationCommands(program: Command): void {
  const group = program
    .command('destination')
    .description('where backups are kept')
    .addHelpText('after', '\nExample:\n  holdfast destination list')

  group
    .command('add <name> <uri>')
    .description('remember a place for backups: a directory or s3://bucket/prefix')
    .option('--endpoint <url>', 'address of an S3-compatible store')
    .option('--region <region>', 'its region')
    .option('--path-style', 'bucket in the path, as most stores other than AWS want it')
    .option('--credentials-file <file>', 'an AWS credentials file; its [default] section is used')
    .option('--credentials-env', 'take AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN from here')
    .addHelpText(
      'after',
      '\nWithout credentials the worker uses its own chain (environment, profile, instance role).\n\nExamples:\n  holdfast destination add disk /srv/backups\n  holdfast destination add vault s3://acme-backups/prod --region eu-central-1 --credentials-file ~/.aws/credentials',
    )
    .action(async (name: string, uri: string, options: AddOptions, command: Command) => {
      const context = contextOf(command)
      const added = await context.client.post(destinationView, '/v1/destinations', {
        name,
        uri: absoluteDestinationUri(uri, process.cwd()),
        ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
        ...(options.region === undefined ? {} : { region: options.region }),
        ...(options.pathStyle === undefined ? {} : { pathStyle: options.pathStyle }),
        ...(await credentialsOf(options)),
      })
      if (context.json) printJson(added)
      else print(`${added.name}: ${added.uri}`)
      if (added.readOnly) note(readOnlyNotice(added.name))
    })

  group
    .command('change <destination>')
    .description('other credentials, endpoint or region; it must still be the same place')
    .option('--endpoint <url>', 'address of an S3-compatible store; needs the credentials again')
    .option('--region <region>', 'its region; needs the credentials again')
    .option('--credentials-file <file>', 'an AWS credentials file; its [default] section is used')
    .option('--credentials-env', 'take AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN from here')
    .addHelpText(
      'after',
      '\nExample:\n  holdfast destination change vault --credentials-file ~/.aws/credentials',
    )
    .action(async (name: string, options: AddOptions, command: Command) => {
      const context = contextOf(command)
      const changed = await context.client.patch(
        destinationView,
        `/v1/destinations/${encodeURIComponent(name)}`,
        {
          ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
          ...(options.region === undefined ? {} : { region: options.region }),
          ...(await credentialsOf(options)),
        },
      )
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

async function credentialsOf(options: AddOptions): Promise<Record<string, string>> {
  if (options.credentialsEnv === true && options.credentialsFile !== undefined) {
    throw new HoldfastError('request.invalid', 'Give only one of --credentials-env and --credentials-file.')
  }
  if (options.credentialsEnv === true) return named(process.env, 'The environment')
  if (options.credentialsFile === undefined) return {}
  const path = options.credentialsFile
  const text = await readFile(path, 'utf8').catch(error => {
    throw new HoldfastError(
      'request.invalid',
      `The credentials file ${path} cannot be read: ${String(error.message)}.`,
    )
  })
  const values: Record<string, string> = {}
  let section = 'default'
  for (const line of text.split('\n')) {
    const heading = /^\s*\[\s*(.*?)\s*\]/.exec(line)
    if (heading) section = heading[1] ?? ''
    const pair = /^\s*(aws_[a-z_]+)\s*=\s*(.*?)\s*$/i.exec(line)
    if (pair && section === 'default') values[(pair[1] ?? '').toUpperCase()] = pair[2] ?? ''
  }
  return named(values, path)
}

function named(values: Record<string, string | undefined>, source: string): Record<string, string> {
  const accessKeyId = values.AWS_ACCESS_KEY_ID
  const secretAccessKey = values.AWS_SECRET_ACCESS_KEY
  if (!accessKeyId || !secretAccessKey) {
    throw new HoldfastError(
      'request.invalid',
      `${source} does not hold both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.`,
    )
  }
  const sessionToken = values.AWS_SESSION_TOKEN
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) }
}
