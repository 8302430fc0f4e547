import type { Command } from 'commander'
import { logEntryView, type OperationView, operationView, page } from '../../model/views.ts'
import { type Context, contextOf } from '../context.ts'
import { heading, phaseLine, summaryLines } from '../operation-lines.ts'
import { clean, duration, note, print, printJson, table, time } from '../terminal.ts'
import { exitOf, follow, isClosed, watch } from '../watch.ts'
import { wholeNumber } from './backup.ts'

const get = (context: Context, id: string): Promise<OperationView> =>
  context.client.get(operationView, `/v1/operations/${encodeURIComponent(id)}`)

export function operationCommands(program: Command): void {
  const group = program
    .command('operation')
    .description('backups, restores and verifications, running or ended')
    .addHelpText('after', '\nExample:\n  holdfast operation list')

  group
    .command('list')
    .description('operations, the newest first')
    .option('--state <state>', 'only in this state, e.g. running')
    .option('--kind <kind>', 'backup, restore, verify, rotateKeys, copy, scrub, sweep, tiering or drill')
    .option('--connection <connection>', 'only of this connection')
    .option('--limit <n>', 'at most so many', wholeNumber, 30)
    .addHelpText('after', '\nExample:\n  holdfast operation list --state running')
    .action(
      async (
        options: { state?: string; kind?: string; connection?: string; limit: number },
        command: Command,
      ) => {
        const context = contextOf(command)
        const { limit, ...filters } = options
        const query = { ...filters, limit: String(limit) }
        const { items } = await context.client.get(page(operationView), '/v1/operations', query)
        if (context.json) return printJson(items)
        if (items.length === 0) return note('No operations.')
        table(
          ['OPERATION', 'KIND', 'STATE', 'CONNECTION', 'BEGAN', 'TOOK', 'NOTE'],
          items.map(item => [
            item.id,
            item.kind,
            item.state,
            item.connection,
            time(item.createdAt),
            duration(
              (item.endedAt === null ? Date.now() : Date.parse(item.endedAt)) - Date.parse(item.createdAt),
            ),
            item.error?.code ?? item.progress?.phase ?? '',
          ]),
          ['TOOK'],
        )
      },
    )

  group
    .command('show <operation>')
    .description('one operation: phases, checks, commands')
    .addHelpText('after', '\nExample:\n  holdfast operation show 20261121T031400Z-full-9f3k')
    .action(async (id: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const item = await get(context, id)
      if (context.json) return printJson(item)
      print(heading(item))
      for (const phase of item.phases) print(phaseLine(phase, item, undefined))
      for (const line of item.commands) print(`  $ ${clean(line)}`)
      if (isClosed(item)) for (const line of summaryLines(item)) print(line)
      else print(`${item.state} since ${time(item.createdAt)}`)
      if (item.state === 'awaiting-approval') print(`Look at it and approve it: holdfast approve ${item.id}`)
      if (item.error !== null)
        print(`${item.error.code}: ${clean(item.error.detail)}\n${clean(item.error.hint)}`)
      if (item.links.temporal !== null) print(`Temporal: ${clean(item.links.temporal)}`)
    })

  group
    .command('watch <operation>')
    .description('watch an operation until it ends (Ctrl-C stops the watching only)')
    .addHelpText('after', '\nExample:\n  holdfast operation watch 20261121T031400Z-full-9f3k')
    .action(async (id: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      await follow(context, await get(context, id), true)
    })

  group
    .command('log <operation>')
    .description('what hooks and tools printed')
    .addHelpText('after', '\nExample:\n  holdfast operation log op-7Qm2vX9f3kW1ab')
    .action(async (id: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/operations/${encodeURIComponent(id)}/log`
      for (let cursor: string | null | undefined; cursor !== null; ) {
        const query = { limit: '200', ...(cursor === undefined ? {} : { cursor }) }
        const answer = await context.client.get(page(logEntryView), path, query)
        for (const entry of answer.items) {
          if (context.json) printJson(entry)
          else print(`${time(entry.at)}  ${clean(entry.source)}\n${clean(entry.text.trimEnd())}\n`)
        }
        cursor = answer.nextCursor
      }
    })

  group
    .command('pause <operation>')
    .description('hold an operation at its next boundary: between two steps, or two parts of staged data')
    .addHelpText('after', '\nExample:\n  holdfast operation pause op-7Qm2vX9f3kW1ab')
    .action(async (id: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/operations/${encodeURIComponent(id)}/pause`
      const operation = await context.client.post(operationView, path)
      if (context.json) return printJson(operation)
      print(`${operation.id} pauses at its next boundary; go on: holdfast operation resume ${operation.id}`)
    })

  group
    .command('resume <operation>')
    .description('let a paused or parked operation go on at the step where it stopped')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only ask for it')
    .addHelpText('after', '\nExample:\n  holdfast operation resume op-7Qm2vX9f3kW1ab')
    .action(async (id: string, options: { wait: boolean }, command: Command) => {
      const context = contextOf(command)
      const known = await get(context, id)
      const path = `/v1/operations/${encodeURIComponent(id)}/resume`
      const operation = await context.client.post(operationView, path)
      await follow(context, operation, options.wait, known)
    })

  group
    .command('cancel <operation>')
    .description('cancel an operation; what it left is cleaned up')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only ask for it')
    .addHelpText('after', '\nExample:\n  holdfast operation cancel 20261121T031400Z-full-9f3k')
    .action(async (id: string, options: { wait: boolean }, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/operations/${encodeURIComponent(id)}/cancel`
      const operation = await context.client.post(operationView, path)
      if (!options.wait) {
        if (context.json) printJson(operation)
        else print(`${operation.id} is ${operation.state}`)
        return
      }
      const last = await watch(context, operation)
      if (!context.json) for (const line of summaryLines(last)) print(line)
      // Cancelled is what was asked for; an operation that ended otherwise first says so.
      process.exitCode = last.state === 'cancelled' ? 0 : exitOf(last)
    })
}
