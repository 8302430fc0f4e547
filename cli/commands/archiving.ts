import type { Command } from 'commander'
import { archiverNames } from '../../model/archiving.ts'
import { archivingView } from '../../model/archiving-views.ts'
import { printChecks } from '../checks.ts'
import { contextOf } from '../context.ts'
import { showDryRun } from '../dry-run.ts'
import { bytes, fields, printJson } from '../terminal.ts'
import { follow, start } from '../watch.ts'
import { wholeNumber } from './backup.ts'

interface EnableOptions {
  program?: string
  config?: string
  archiveTimeout?: number
  replace?: boolean
  dryRun?: boolean
  unattended?: boolean
  wait: boolean
}

const archivingPath = (connection: string) => `/v1/connections/${encodeURIComponent(connection)}/archiving`

/** Of the group `pitr`: how a server archives its log. */
export function archivingCommands(group: Command): void {
  group
    .command('enable <connection>')
    .description('make the server archive its log: set what it needs, wait for its restart, see it arrive')
    .option('--program <file>', 'the launcher on the machine of the server; default: holdfast')
    .option('--config <file>', 'its wal.json there; default: /etc/holdfast/wal.json')
    .option(
      '--archive-timeout <seconds>',
      'end a segment after so long; default: 60, if none is set',
      wholeNumber,
    )
    .option('--replace', 'take over from another archiver')
    .option('--dry-run', 'ask and plan, and set nothing')
    .option('--unattended', 'nobody watches: park instead of failing where an operator is needed')
    .option('--wait', 'watch until it ends or is parked', true)
    .option('--no-wait', 'only start it')
    .addHelpText(
      'after',
      '\nBefore: `holdfast wal init` and `wal begin` on the machine of the server.\n\nExample:\n  holdfast pitr enable shop --program /opt/holdfast/bin/holdfast --dry-run',
    )
    .action(async (connection: string, options: EnableOptions, command: Command) => {
      const context = contextOf(command)
      const { program, config, archiveTimeout, replace, dryRun, unattended, wait } = options
      const operation = await start(context, archivingPath(connection), {
        ...(program === undefined ? {} : { program }),
        ...(config === undefined ? {} : { config }),
        ...(archiveTimeout === undefined ? {} : { archiveTimeoutSeconds: archiveTimeout }),
        ...(replace ? { replace } : {}),
        ...(dryRun ? { dryRun } : {}),
        ...(unattended ? { unattended } : {}),
      })
      if (dryRun) await showDryRun(context, operation)
      else await follow(context, operation, wait)
    })

  group
    .command('status <connection>')
    .description('how the server archives its log, asked of it now')
    .addHelpText(
      'after',
      '\nExit codes: 0 all is well · 1 otherwise\n\nExample:\n  holdfast pitr status shop',
    )
    .action(async (connection: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const found = await context.client.get(archivingView, archivingPath(connection))
      process.exitCode = found.checks.every(({ answer }) => answer === 'pass') ? 0 : 1
      if (context.json) return printJson(found)
      fields([
        ['archive_mode', found.mode],
        ['archived by', archiverNames[found.by]],
        ['archive_timeout', `${found.timeoutSeconds} s`],
        ['written now', found.current ?? 'nothing: it is a standby'],
        ['archived last', found.lastArchived ?? 'nothing'],
        ['pg_wal', found.walBytes === null ? undefined : bytes(found.walBytes)],
        ['waits for a restart', found.pendingRestart.join(', ')],
      ])
      printChecks(found.checks)
    })
}
