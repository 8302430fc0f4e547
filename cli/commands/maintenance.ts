import type { Command } from 'commander'
import { rebuildView, sweepView, takeoverView } from '../../model/schemas.ts'
import { contextOf } from '../context.ts'
import { clean, note, print, printJson } from '../terminal.ts'

export function maintenanceCommands(program: Command): void {
  program
    .command('catalog')
    .description('the list of what there is')
    .addHelpText('after', '\nExample:\n  holdfast catalog rebuild')
    .command('rebuild')
    .argument('[destination]', 'only from this destination')
    .description('read the backups of the destinations into the catalog again')
    .addHelpText('after', '\nExample:\n  holdfast catalog rebuild vault')
    .action(async (destination: string | undefined, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const body = destination === undefined ? {} : { destination }
      const done = await context.client.post(rebuildView, '/v1/catalog/rebuild', body)
      if (context.json) printJson(done)
      else {
        print(`${done.found} backups found, ${done.added} of them were not in the catalog.`)
        for (const one of done.refused) {
          print(`  not taken: ${one.backup} in ${one.destination}, ${one.code}: ${clean(one.detail)}`)
        }
      }
      // What is there and cannot be trusted or read needs somebody to look.
      if (done.refused.length > 0) process.exitCode = 1
    })

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
    .command('sweep')
    .description('remove what ended operations left in staging and at the destinations')
    .option('--dry-run', 'only say what would be removed')
    .addHelpText('after', '\nExample:\n  holdfast sweep --dry-run')
    .action(async (options: { dryRun?: boolean }, command: Command) => {
      const context = contextOf(command)
      const body = { dryRun: options.dryRun === true }
      const done = await context.client.post(sweepView, '/v1/sweep', body)
      if (context.json) printJson(done)
      else {
        const verb = done.dryRun ? 'would remove' : 'removed'
        for (const item of done.removed) print(`${verb} ${clean(item)}`)
        for (const one of done.skipped) print(`skipped ${clean(one.what)}, ${one.code}: ${clean(one.detail)}`)
        if (done.removed.length + done.skipped.length === 0) print('Nothing is left over.')
      }
      if (done.skipped.length > 0) process.exitCode = 1
    })
}
