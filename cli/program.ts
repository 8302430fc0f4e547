/** The one table of commands: --help, the shells' completion, docs/cli.md and the tests are made from it or held to it. */
import { Command } from 'commander'
import packageJson from '../package.json' with { type: 'json' }
import { approveCommands } from './commands/approve.ts'
import { auditCommands } from './commands/audit.ts'
import { backupCommand } from './commands/backup.ts'
import { backupsCommands } from './commands/backups.ts'
import { bandwidthCommands } from './commands/bandwidth.ts'
import { catalogCommands } from './commands/catalog.ts'
import { completionCommand } from './commands/completion.ts'
import { connectionCommands } from './commands/connection.ts'
import { destinationCommands } from './commands/destination.ts'
import { diagnoseCommand } from './commands/diagnose.ts'
import { doctorCommand } from './commands/doctor.ts'
import { drillCommands } from './commands/drill.ts'
import { hookCommands } from './commands/hook.ts'
import { hostCommands } from './commands/host.ts'
import { installCommands } from './commands/install.ts'
import { keyCommands } from './commands/keys.ts'
import { loginCommands } from './commands/login.ts'
import { maintenanceCommands } from './commands/maintenance.ts'
import { operationCommands } from './commands/operation.ts'
import { pitrCommands } from './commands/pitr.ts'
import { profileCommands } from './commands/profile.ts'
import { recoverCommand } from './commands/recover.ts'
import { restoreCommand } from './commands/restore.ts'
import { restorePointCommands } from './commands/restore-point.ts'
import { scheduleCommands } from './commands/schedule.ts'
import { serveCommands } from './commands/serve.ts'
import { statusCommand } from './commands/status.ts'
import { tokenCommands } from './commands/token.ts'
import { upCommand } from './commands/up.ts'
import { userCommands } from './commands/user.ts'
import { walCommands } from './commands/wal.ts'

/**
 * In the order of --help. A new command is one file in commands/ and one line here. The word between `<` and `>` of an
 * argument or an option says what it is; completion offers what there is of it (cli/completion/values.ts).
 */
const commands: readonly ((program: Command) => void)[] = [
  upCommand,
  statusCommand,
  doctorCommand,
  connectionCommands,
  hookCommands,
  hostCommands,
  destinationCommands,
  keyCommands,
  backupCommand,
  backupsCommands,
  restoreCommand,
  drillCommands,
  approveCommands,
  recoverCommand,
  diagnoseCommand,
  operationCommands,
  scheduleCommands,
  walCommands,
  catalogCommands,
  bandwidthCommands,
  pitrCommands,
  restorePointCommands,
  maintenanceCommands,
  userCommands,
  tokenCommands,
  auditCommands,
  loginCommands,
  profileCommands,
  serveCommands,
  installCommands,
  completionCommand,
]

const examples = `
Exit codes: 0 done · 1 failed · 2 usage · 3 refused · 4 not found · 5 conflict · 6 parked · 7 cancelled · 8 unreachable · 9 partial

Example:
  holdfast up                                  # in one terminal
  holdfast connection add shop postgres://backup@localhost/shop --secret-prompt
  holdfast backup shop`

/** Nothing is printed for errors: whoever parses gets a CommanderError. */
export function createProgram(): Command {
  const program = new Command('holdfast')
    .description('Durable database backup and restore.')
    .version(packageJson.version)
    .option('--json', 'one JSON document for programs, or one per line when it streams')
    .option('--no-json', 'for people, whatever the profile says')
    .option('--home <dir>', 'data directory; default: HOLDFAST_HOME or ./.holdfast')
    .option('--profile <profile>', 'the Holdfast to talk to; default: HOLDFAST_PROFILE or `profile use`')
    .option('--url <url>', 'address of the API; default: HOLDFAST_URL, the profile, the local one')
    .option('--ca <file>', 'certificates to trust for https, beside those of the system; or HOLDFAST_CA')
    .configureHelp({ showGlobalOptions: true })
    .addHelpText('after', examples)
    .exitOverride()
    .configureOutput({ outputError: () => {} })
  for (const add of commands) add(program)
  return program
}
