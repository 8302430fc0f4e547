import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { statusView } from '../../model/views.ts'
import { type Context, contextOf } from '../context.ts'
import { statusLines } from '../status-lines.ts'
import { print, printJson } from '../terminal.ts'
import { wholeNumber } from './backup.ts'

interface StatusOptions {
  watch?: boolean
  interval: number
}

export function statusCommand(program: Command): void {
  program
    .command('status')
    .argument('[connection]', 'only this one, with everything there is to say')
    .description('per database: what can be restored, how long it takes, the command; worst first')
    .option('--watch', 'show it again and again, until Ctrl-C')
    .option('--interval <seconds>', 'between two looks', wholeNumber, 5)
    .addHelpText(
      'after',
      '\nExit codes: 0 all is well · 1 something is to be looked at · 2 something cannot be restored\n\nExamples:\n  holdfast status\n  holdfast status shop\n  holdfast status --json | jq ".databases[0].restore.command"',
    )
    .action(async (connection: string | undefined, options: StatusOptions, command: Command) => {
      const context = contextOf(command)
      for (;;) {
        await show(context, connection, options.watch === true)
        if (options.watch !== true) return
        await new Promise(resolve => setTimeout(resolve, Math.max(1, options.interval) * 1000))
      }
    })
}

const exits = { healthy: 0, warning: 1, critical: 2 } as const

async function show(context: Context, connection: string | undefined, again: boolean): Promise<void> {
  const whole = await context.client.get(statusView, '/v1/status')
  const databases =
    connection === undefined ? whole.databases : whole.databases.filter(one => one.connection === connection)
  const [only] = databases
  if (connection !== undefined && only === undefined) {
    throw new HoldfastError('request.not-found', `There is no connection named ${connection}.`)
  }
  const status = { ...whole, databases, ...(connection !== undefined && only ? { level: only.level } : {}) }
  process.exitCode = exits[status.level]
  if (context.json) return printJson(status)
  const lines = statusLines(status, {
    columns: process.stdout.columns ?? 80,
    detailed: connection !== undefined,
    flags: context.flags,
  })
  if (again && process.stdout.isTTY) process.stdout.write('\x1b[H\x1b[2J')
  for (const line of lines) print(line)
}
