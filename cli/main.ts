/** `holdfast`: a thin client of the API, plus `up`, `api`, `worker` and `recover`. */
import { Command, CommanderError } from 'commander'
import { errorTable, HoldfastError } from '../model/errors.ts'
import packageJson from '../package.json' with { type: 'json' }
import { backupCommand } from './commands/backup.ts'
import { backupsCommands } from './commands/backups.ts'
import { connectionCommands } from './commands/connection.ts'
import { destinationCommands } from './commands/destination.ts'
import { keyCommands } from './commands/keys.ts'
import { maintenanceCommands } from './commands/maintenance.ts'
import { operationCommands } from './commands/operation.ts'
import { recoverCommand } from './commands/recover.ts'
import { restoreCommand } from './commands/restore.ts'
import { serveCommands } from './commands/serve.ts'
import { upCommand } from './commands/up.ts'
import { printError } from './terminal.ts'

const program = new Command('holdfast')
  .description('Durable database backup and restore.')
  .version(packageJson.version)
  .option('--json', 'one JSON document for programs, or one per line when it streams')
  .option('--home <dir>', 'data directory; default: HOLDFAST_HOME or ./.holdfast')
  .configureHelp({ showGlobalOptions: true })
  .addHelpText(
    'after',
    '\nExit codes: 0 done · 1 failed · 2 usage · 3 refused · 4 not found · 5 conflict · 6 parked · 7 cancelled · 8 unreachable\n\nExample:\n  holdfast up                                  # in one terminal\n  holdfast connection add shop postgres://backup@localhost/shop --secret-prompt\n  holdfast backup shop',
  )
  .exitOverride()
  .configureOutput({ outputError: () => {} })

upCommand(program)
connectionCommands(program)
destinationCommands(program)
keyCommands(program)
backupCommand(program)
backupsCommands(program)
restoreCommand(program)
recoverCommand(program)
operationCommands(program)
maintenanceCommands(program)
serveCommands(program)

// `holdfast … | head` ends the reader first; that is no failure of ours.
process.stdout.on('error', error => {
  if ('code' in error && error.code === 'EPIPE') process.exit(0)
  throw error
})

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = report(error)
}

function report(error: unknown): number {
  if (error instanceof HoldfastError) {
    printError(error.facts())
    return errorTable[error.code].exit
  }
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0
    const detail = error.message.replace(/^error: /, '')
    if (error.code === 'commander.help') return 2
    printError({
      code: 'request.invalid',
      detail,
      hint: 'See `holdfast --help`, or `--help` after any command.',
    })
    return errorTable['request.invalid'].exit
  }
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error)
  printError({ code: 'internal', detail, hint: errorTable.internal.hint })
  return errorTable.internal.exit
}
