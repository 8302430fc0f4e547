import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { drillPage } from '../../model/drill-page.ts'
import { kindOfUri } from '../../storage/index.ts'
import { type CredentialOptions, credentialsOf } from '../destination-credentials.ts'
import type { FullDrill } from '../full-drill/run.ts'
import { absoluteConnectionUrl, absoluteDestinationUri } from '../paths.ts'
import { type SecretOptions, secretOf, withSecretOptions } from '../secret-options.ts'
import { type StoreOptions, storeOptions, withStoreOptions } from '../store-options.ts'
import { clean, duration, fields, note, paint, print, printJson, table } from '../terminal.ts'
import { credentialsEnv, credentialsFile } from './destination.ts'
import { interruptible } from './recover.ts'

interface FullDrillCommandOptions extends StoreOptions, CredentialOptions, SecretOptions {
  key: string[]
  directory: string
  connection?: string[]
  server?: string
  quick?: boolean
  out?: string
}

export function fullDrillCommand(group: Command): void {
  const full = group
    .command('full <uri>')
    .description(
      'everything is lost but a destination and its keys: restore from there, on an empty Holdfast',
    )
    .requiredOption('--key <file...>', 'copies of key files; they say whose backups to trust, too')
    .requiredOption(
      '--directory <dir>',
      'where it works, and where copies of files and data directories are made',
    )
    .option('--connection <name...>', 'only backups of these; default: the newest of each')
    .option('--server <url>', 'PostgreSQL: a server for the copies, or with the programs for them')
    .option('--quick', 'with the proofs of a restore alone')
    .option('--out <dir>', 'write the reports there, as JSON and as pages')
    .option(...credentialsFile)
    .option(...credentialsEnv)
  withSecretOptions(withStoreOptions(full))
    .addHelpText(
      'after',
      '\nNeeds no server of Holdfast: it starts one, with a catalog and a Temporal of its own, and removes it.\n--secret-… is the password of --server.\n\nExample:\n  holdfast drill full s3://acme-backups/prod --credentials-env --key /media/safe/default.json --directory /var/tmp/drill --out reports',
    )
    .action(async (given: string, options: FullDrillCommandOptions, command: Command) => {
      const { json }: { json?: boolean } = command.optsWithGlobals()
      const { fullDrill } = await import('../full-drill/run.ts')
      const uri = absoluteDestinationUri(given, process.cwd())
      const server =
        options.server === undefined
          ? undefined
          : { url: absoluteConnectionUrl(options.server, process.cwd()), password: await secretOf(options) }
      const done = await fullDrill({
        uri,
        store: { ...storeOptions(options), ...(await credentialsOf(options, kindOfUri(uri))) },
        keys: options.key.map(file => resolve(file)),
        connections: options.connection ?? [],
        server,
        directory: resolve(options.directory),
        quick: options.quick === true,
        signal: interruptible(),
        say: note,
      })
      if (options.out !== undefined) await write(resolve(options.out), done)
      if (json) printJson(done)
      else show(done)
      if (done.verdict === 'failed') process.exitCode = 1
    })
}

async function write(directory: string, done: FullDrill): Promise<void> {
  await mkdir(directory, { recursive: true })
  await writeFile(join(directory, 'full.json'), `${JSON.stringify(done)}\n`)
  for (const { connection, report } of done.drills) {
    if (report === null) continue
    await writeFile(join(directory, `${connection}.json`), `${JSON.stringify(report)}\n`)
    await writeFile(join(directory, `${connection}.html`), drillPage(report))
  }
}

function show(done: FullDrill): void {
  print(`${paint('bold', 'full drill')}  ${paint(done.verdict === 'passed' ? 'green' : 'red', done.verdict)}`)
  fields([
    ['an empty Holdfast', duration(done.upMs)],
    ['what there is', `${duration(done.catalogMs)}, ${done.found} backups`],
    ['the drills', duration(done.drillsMs)],
  ])
  table(
    ['CONNECTION', 'BACKUP', 'VERDICT', 'RTO', 'RPO', 'WHY'],
    done.drills.map(({ connection, backup, report, error }) => [
      connection,
      backup,
      report === null ? 'failed' : report.verdict,
      report === null || report.rto.totalMs === null ? '' : duration(report.rto.totalMs),
      report === null ? '' : duration(report.rpo.ageMs),
      clean(error ?? ''),
    ]),
  )
  for (const one of done.refused)
    print(`  not believed: ${clean(one.backup)}, ${one.code}: ${clean(one.detail)}`)
}
