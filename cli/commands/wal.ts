/** Archiving PostgreSQL's write-ahead log from the machine that it is written on. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { absoluteDestinationUri } from '../paths.ts'
import { type StoreOptions, storeOptions, withStoreOptions } from '../store-options.ts'
import { note, print, printJson } from '../terminal.ts'
import { logStreamCommands } from './log-stream.ts'

const config = ['--config <file>', 'default: HOLDFAST_WAL_CONFIG or /etc/holdfast/wal.json'] as const
const timeout = ['--timeout <seconds>', 'give up after so long; PostgreSQL asks again', '120'] as const

interface InitOptions extends StoreOptions {
  config?: string
  connection: string
  pgdata: string
  to: string[]
  encryptTo?: string[]
  notEncrypted?: boolean
}

const configOf = (given: string | undefined): string =>
  resolve(given ?? (process.env.HOLDFAST_WAL_CONFIG || '/etc/holdfast/wal.json'))

export function walCommands(program: Command): void {
  const wal = program.command('wal').description("archive PostgreSQL's log, and get it back")

  const init = wal
    .command('init')
    .description('make the configuration of this database host: where its log goes, and what signs it')
    .requiredOption('--connection <connection>', 'name that the archive goes by')
    .requiredOption('--pgdata <dir>', 'data directory of the server')
    .requiredOption('--to <uri...>', 'destinations; a file counts as archived once it is in all of them')
    .option('--encrypt-to <file...>', 'key files or public keys that open the archive')
    .option('--not-encrypted', 'archive in the clear')
    .option(...config)
  withStoreOptions(init)
    .addHelpText(
      'after',
      '\nCredentials of a store are those of the environment, or references in the file (docs/log-archiving.md).\n\nExample:\n  holdfast wal init --connection shop --pgdata /var/lib/postgresql/15/main --to s3://acme-backups/prod --encrypt-to default.pub.json',
    )
    .action(async (options: InitOptions, command: Command) => {
      if ((options.encryptTo === undefined) !== (options.notEncrypted === true)) {
        throw new HoldfastError('request.invalid', 'Say one of --encrypt-to FILE and --not-encrypted.')
      }
      const { initWal } = await import('../wal/init.ts')
      const made = await initWal({
        config: configOf(options.config),
        connection: options.connection,
        dataDirectory: options.pgdata,
        to: options.to.map(uri => absoluteDestinationUri(uri, process.cwd())),
        encryptTo: options.encryptTo ?? [],
        settings: storeOptions(options),
      })
      if (command.optsWithGlobals().json === true) return printJson(made)
      print(`${made.config} is for server ${made.systemIdentifier}, archiver ${made.archiver}.`)
      print(`Fingerprint of its key: ${made.fingerprint}`)
      print(
        'Next: `holdfast wal begin`; where the API is: `holdfast pitr vouch`; then set in postgresql.conf:',
      )
      print(`archive_command = '${made.archiveCommand}'`)
      print(`restore_command = '${made.restoreCommand}'`)
    })

  wal
    .command('begin')
    .description('begin the archive: once, before archive_command is set; checks its destinations')
    .option(...config)
    .addHelpText('after', '\nExample:\n  holdfast wal begin --config /etc/holdfast/wal.json')
    .action(async (options: { config?: string }, command: Command) => {
      const { openArchive } = await import('../wal/archive.ts')
      const archive = await openArchive(configOf(options.config))
      try {
        await archive.begin()
        const destinations = archive.config.destinations.map(({ uri }) => uri)
        if (command.optsWithGlobals().json === true) printJson({ ...archive.config.stream, destinations })
        else
          for (const uri of destinations)
            print(`${uri} takes the log of ${archive.config.stream.connection}.`)
      } finally {
        await archive.close()
      }
    })

  wal
    .command('push <file>')
    .description('archive one log file; for archive_command, which wants it to end well only when it is safe')
    .option(...config)
    .option(...timeout)
    .addHelpText('after', "\nExample:\n  archive_command = 'holdfast wal push %p'     # in postgresql.conf")
    .action(async (path: string, options: ClientOptions) => await asClient('push', [path], options))

  wal
    .command('fetch <name> <file>')
    .description('get one log file back; for restore_command. Exit code 1: the archive does not have it')
    .option(...config)
    .option(...timeout)
    .addHelpText('after', "\nExample:\n  restore_command = 'holdfast wal fetch %f %p' # in postgresql.conf")
    .action(
      async (name: string, path: string, options: ClientOptions) =>
        await asClient('fetch', [name, path], options),
    )

  logStreamCommands(wal)

  wal
    .command('repair')
    .description('archive again what is missing in the archive and still in pg_wal; says what is lost')
    .requiredOption('--pgdata <dir>', 'data directory of the server')
    .option(...config)
    .addHelpText(
      'after',
      '\nExample:\n  sudo -u postgres holdfast wal repair --pgdata /var/lib/postgresql/15/main',
    )
    .action(async (options: { config?: string; pgdata: string }, command: Command) => {
      const { repairArchive } = await import('../wal/repair.ts')
      const { pushed, missing } = await repairArchive(configOf(options.config), resolve(options.pgdata))
      if (command.optsWithGlobals().json === true) printJson({ pushed, missing })
      else {
        print(`${pushed.length} files archived again.`)
        for (const { destination, first, last, from, to } of missing) {
          const what = first === last ? first : `${first} to ${last}`
          print(`missing at ${destination}: ${what} (${from} to ${to}); nothing in it can be recovered`)
        }
        if (missing.length > 0)
          note('hint: Take a new base backup: what comes after it can be recovered again.')
      }
      if (missing.length > 0) process.exitCode = 1
    })

  wal
    .command('unit')
    .description('print the systemd unit of the agent, for /etc/systemd/system/holdfast-wal.service')
    .option(...config)
    .option('--user <user>', 'that PostgreSQL runs as', 'postgres')
    .addHelpText('after', '\nExample:\n  holdfast wal unit > /etc/systemd/system/holdfast-wal.service')
    .action(async (options: { config?: string; user: string }, command: Command) => {
      if (!/^[a-z_][a-z0-9_-]{0,31}$/.test(options.user)) {
        throw new HoldfastError('request.invalid', '--user names no user of a machine.')
      }
      const { agentUnit } = await import('../install/units.ts')
      const text = agentUnit(resolve(import.meta.dirname, '../..'), configOf(options.config), options.user)
      if (command.optsWithGlobals().json === true) printJson({ unit: text })
      else process.stdout.write(text)
    })

  wal
    .command('agent')
    .description('stay and do what `wal push` and `wal fetch` ask for: faster, and ahead of them')
    .option(...config)
    .addHelpText('after', '\nExample:\n  sudo -u postgres holdfast wal agent --config /etc/holdfast/wal.json')
    .action(async (options: { config?: string }, command: Command) => {
      const { startAgent } = await import('../wal/agent.ts')
      const json = command.optsWithGlobals().json === true
      const agent = await startAgent(configOf(options.config), ({ code, detail, hint }) =>
        json
          ? printJson({ event: 'failed', code, detail, hint })
          : note(`error ${code}: ${detail}\nhint: ${hint}`),
      )
      if (json) printJson({ event: 'listening', socket: agent.socket })
      else print(`Listening at ${agent.socket}.`)
      await new Promise<void>(end => {
        for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => end())
      })
      await agent.close()
    })
}

interface ClientOptions {
  config?: string
  timeout: string
}

/** bin/holdfast starts the client by itself, without all of this; here it comes by another way. */
async function asClient(act: 'push' | 'fetch', words: string[], options: ClientOptions): Promise<void> {
  const { walClient } = await import('../wal/client.ts')
  const given = options.config === undefined ? [] : ['--config', options.config]
  const code = await walClient([act, ...given, '--timeout', options.timeout, ...words])
  process.exit(exitFor(act, code))
}

const exitFor = (act: 'push' | 'fetch', code: number): number => {
  if (act === 'push') return code
  return code === 0 ? 0 : code === 44 ? 1 : 255
}
