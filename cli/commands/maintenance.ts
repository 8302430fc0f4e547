import type { Command } from 'commander'
import { z } from 'zod'
import { contextOf } from '../context.ts'
import { fields, printJson } from '../terminal.ts'

/** Answers of these are counts and short texts; shown as they come. */
const answer = z.record(z.string(), z.json())
type Answer = z.infer<typeof answer>

export function maintenanceCommands(program: Command): void {
  program
    .command('catalog')
    .description('the list of what there is')
    .command('rebuild')
    .argument('[destination]', 'only from this destination')
    .description('read the backups of the destinations into the catalog again')
    .addHelpText('after', '\nExample:\n  holdfast catalog rebuild vault')
    .action(async (destination: string | undefined, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const body = destination === undefined ? {} : { destination }
      show(context.json, await context.client.post(answer, '/v1/catalog/rebuild', body))
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
      show(context.json, await context.client.post(answer, path, options))
    })

  program
    .command('sweep')
    .description('remove what ended operations left in staging and at the destinations')
    .option('--dry-run', 'only say what would be removed')
    .addHelpText('after', '\nExample:\n  holdfast sweep --dry-run')
    .action(async (options: { dryRun?: boolean }, command: Command) => {
      const context = contextOf(command)
      const body = { dryRun: options.dryRun === true }
      show(context.json, await context.client.post(answer, '/v1/sweep', body))
    })
}

function show(json: boolean, value: Answer): void {
  if (json) printJson(value)
  else
    fields(
      Object.entries(value).map(([name, item]) => [
        name,
        typeof item === 'string' ? item : JSON.stringify(item),
      ]),
    )
}
