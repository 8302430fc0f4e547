import type { Command } from 'commander'
import { bandwidthView, operationView, page } from '../../model/views.ts'
import { type Context, contextOf } from '../context.ts'
import { bytes, note, print, printJson, table } from '../terminal.ts'

export function bandwidthCommands(program: Command): void {
  const group = program
    .command('bandwidth')
    .description('how much of the network destinations, hosts and operations may take')
    .addHelpText('after', '\nExample:\n  holdfast bandwidth set destination vault 10MB/s')

  group
    .command('list')
    .description('limits, what they allow now, and how many share it')
    .addHelpText('after', '\nExample:\n  holdfast bandwidth list')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const { items } = await context.client.get(page(bandwidthView), '/v1/bandwidth', {})
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No limits.')
      table(
        ['OF', 'LIMIT', 'NOW', 'SHARED BY'],
        items.map(one => [
          `${one.kind} ${one.name}`,
          one.limit,
          one.bytesPerSecond === null ? 'none' : `${bytes(one.bytesPerSecond)}/s`,
          String(one.transfers),
        ]),
      )
    })

  group
    .command('set <kind> <name> <limit>')
    .description(
      'limit a destination, a host or an operation; holds within seconds, also for what is under way',
    )
    .addHelpText(
      'after',
      '\nThe host "local" is the workers\' own machines. Windows are daily, in UTC unless a zone is named.\n\nExamples:\n  holdfast bandwidth set destination vault 10MB/s\n  holdfast bandwidth set host db1 "08:00-18:00 Europe/Berlin 10MB/s, otherwise 100MB/s"\n  holdfast bandwidth set operation op-7Qm2vX9f3kW1ab 5MB/s',
    )
    .action(async (kind: string, name: string, limit: string, _options: unknown, command: Command) => {
      await put(contextOf(command), kind, name, limit)
    })

  group
    .command('clear <kind> <name>')
    .description('no limit any more')
    .addHelpText('after', '\nExample:\n  holdfast bandwidth clear destination vault')
    .action(async (kind: string, name: string, _options: unknown, command: Command) => {
      await put(contextOf(command), kind, name, null)
    })
}

async function put(context: Context, kind: string, name: string, limit: string | null): Promise<void> {
  if (kind === 'operation') return await change(context, name, limit)
  const path = `/v1/bandwidth/${encodeURIComponent(kind)}/${encodeURIComponent(name)}`
  await context.client.put(path, { limit })
  if (context.json) printJson({ kind, name, limit })
  else print(limit === null ? `${kind} ${name} has no limit.` : `${kind} ${name}: ${limit}`)
}

/** Until it ends; it has what it was asked for with no longer. */
async function change(context: Context, id: string, bandwidth: string | null): Promise<void> {
  const path = `/v1/operations/${encodeURIComponent(id)}`
  const operation = await context.client.patch(operationView, path, { bandwidth })
  if (context.json) return printJson(operation)
  print(bandwidth === null ? `operation ${id} has no limit of its own.` : `operation ${id}: ${bandwidth}`)
}
