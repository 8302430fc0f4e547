import type { Command } from 'commander'
import { takeoverView } from '../../model/views.ts'
import { contextOf } from '../context.ts'
import { clean, note, print, printJson } from '../terminal.ts'
import { follow, start } from '../watch.ts'

interface SweepOptions {
  dryRun?: boolean
  unknown?: boolean
  unattended?: boolean
  wait: boolean
}

export function maintenanceCommands(program: Command): void {
  program
    .command('takeover <destination>')
    .description('become the one installation that writes to this destination')
    .option('--reason <text>', 'why; kept at the destination')
    .addHelpText(
      'after',
      '\nOnly when the installation that wrote there is gone for good.\n\nExample:\n  holdfast takeover vault --reason "old server burnt"',
    )
    .action(async (destination: string, options: { reason?: string }, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/destinations/${encodeURIComponent(destination)}/takeover`
      const done = await context.client.post(takeoverView, path, options)
      if (context.json) printJson(done)
      else {
        print(`${done.destination} is ours now, as of epoch ${done.epoch}.`)
        for (const warning of done.warnings) note(clean(warning))
      }
    })

  program
    .command('sweep [destination]')
    .description('remove what ended operations left in staging and at the destinations')
    .option('--dry-run', 'only say what would be removed')
    .option(
      '--unknown',
      'also what this catalog does not know, as after a lost one: staging, and unfinished backups nobody touched for a day',
    )
    .option('--unattended', 'nobody watches: park instead of failing where an operator is needed')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')
    .addHelpText('after', '\nExamples:\n  holdfast sweep --dry-run\n  holdfast sweep vault')
    .action(async (destination: string | undefined, options: SweepOptions, command: Command) => {
      const context = contextOf(command)
      const operation = await start(context, '/v1/sweep', {
        ...(destination === undefined ? {} : { destination }),
        ...(options.dryRun ? { dryRun: true } : {}),
        ...(options.unknown ? { unknown: true } : {}),
        ...(options.unattended ? { unattended: true } : {}),
      })
      await follow(context, operation, options.wait)
    })
}
