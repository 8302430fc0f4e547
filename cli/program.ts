/** The one table of commands: --help, the shells' completion, docs/cli.md and the tests are made from it or held to it. */
import { Command } from 'commander'
import packageJson from '../package.json' with { type: 'json' }

type Entry = readonly [words: readonly string[], load: () => Promise<(program: Command) => void>]

/**
 * In the order of --help. A new command is one file in commands/ and one line here, with the words that it adds: only what is asked for
 * is loaded. The word between `<` and `>` of an argument or an option says what it is; completion offers what there is of it
 * (cli/completion/values.ts).
 */
export const commands: readonly Entry[] = [
  [['up'], async () => (await import('./commands/up.ts')).upCommand],
  [['status'], async () => (await import('./commands/status.ts')).statusCommand],
  [['doctor'], async () => (await import('./commands/doctor.ts')).doctorCommand],
  [['connection'], async () => (await import('./commands/connection.ts')).connectionCommands],
  [['hook'], async () => (await import('./commands/hook.ts')).hookCommands],
  [['host'], async () => (await import('./commands/host.ts')).hostCommands],
  [['destination'], async () => (await import('./commands/destination.ts')).destinationCommands],
  [['keys'], async () => (await import('./commands/keys.ts')).keyCommands],
  [['backup'], async () => (await import('./commands/backup.ts')).backupCommand],
  [['backups'], async () => (await import('./commands/backups.ts')).backupsCommands],
  [['restore'], async () => (await import('./commands/restore.ts')).restoreCommand],
  [['drill'], async () => (await import('./commands/drill.ts')).drillCommands],
  [['approve', 'reject', 'approvals'], async () => (await import('./commands/approve.ts')).approveCommands],
  [['recover'], async () => (await import('./commands/recover.ts')).recoverCommand],
  [['diagnose'], async () => (await import('./commands/diagnose.ts')).diagnoseCommand],
  [['operation'], async () => (await import('./commands/operation.ts')).operationCommands],
  [['schedule'], async () => (await import('./commands/schedule.ts')).scheduleCommands],
  [['wal'], async () => (await import('./commands/wal.ts')).walCommands],
  [['catalog'], async () => (await import('./commands/catalog.ts')).catalogCommands],
  [['bandwidth'], async () => (await import('./commands/bandwidth.ts')).bandwidthCommands],
  [['pitr'], async () => (await import('./commands/pitr.ts')).pitrCommands],
  [['restore-point'], async () => (await import('./commands/restore-point.ts')).restorePointCommands],
  [['takeover', 'sweep'], async () => (await import('./commands/maintenance.ts')).maintenanceCommands],
  [['user'], async () => (await import('./commands/user.ts')).userCommands],
  [['token'], async () => (await import('./commands/token.ts')).tokenCommands],
  [['audit'], async () => (await import('./commands/audit.ts')).auditCommands],
  [['login', 'logout'], async () => (await import('./commands/login.ts')).loginCommands],
  [['profile'], async () => (await import('./commands/profile.ts')).profileCommands],
  [['api', 'worker'], async () => (await import('./commands/serve.ts')).serveCommands],
  [['install', 'uninstall'], async () => (await import('./commands/install.ts')).installCommands],
  [['completion', 'complete'], async () => (await import('./commands/completion.ts')).completionCommand],
]

/** Its script is made from all of the others. */
const ofAll = 'completion'

const examples = `
Exit codes: 0 done · 1 failed · 2 usage · 3 refused · 4 not found · 5 conflict · 6 parked · 7 cancelled · 8 unreachable · 9 partial

Example:
  holdfast up                                  # in one terminal
  holdfast connection add shop postgres://backup@localhost/shop --secret-prompt
  holdfast backup shop`

/**
 * Nothing is printed for errors: whoever parses gets a CommanderError. `args`: what will be parsed, for a program that has no more than
 * the command which they name; where they name none (help, a word that is mistyped), and without them, it has all. Throws
 * CommanderError too.
 */
export async function createProgram(args: readonly string[] = []): Promise<Command> {
  const [word] = emptyProgram().parseOptions([...args]).operands
  const asked = commands.filter(([words]) => word !== undefined && word !== ofAll && words.includes(word))
  const loads = (asked.length > 0 ? asked : commands).map(([, load]) => load())
  const program = emptyProgram()
  for (const add of await Promise.all(loads)) add(program)
  return program
}

const emptyProgram = (): Command =>
  new Command('holdfast')
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
