import { type Command, InvalidArgumentError, Option } from 'commander'
import { type AuditView, auditCheckView, auditPruneView, auditView } from '../../model/access.ts'
import { HoldfastError } from '../../model/errors.ts'
import { page } from '../../model/views.ts'
import { contextOf } from '../context.ts'
import { note, print, printJson, table, time } from '../terminal.ts'

interface ListOptions {
  actor?: string
  action?: string
  object?: string
  outcome?: string
  since?: string
  until?: string
  limit: string
}

const timeOption = (text: string): string => {
  const at = new Date(text)
  if (Number.isNaN(at.getTime())) throw new InvalidArgumentError('use a time such as 2026-11-21T03:00:00Z')
  return at.toISOString()
}

export function auditCommands(program: Command): void {
  const group = program
    .command('audit')
    .description('who changed what, and who was refused')
    .addHelpText('after', '\nExample:\n  holdfast audit list')

  group
    .command('list')
    .description('the newest rows first')
    .option('--actor <name>', 'of this user, or token:NAME')
    .option('--action <action>', 'as it is shown, e.g. "POST /v1/backups"')
    .option('--object <path>', 'as it is shown, e.g. /v1/users/ada')
    .addOption(
      new Option('--outcome <outcome>', 'how it went').choices(['done', 'refused', 'failed', 'unknown']),
    )
    .option('--since <time>', 'not before', timeOption)
    .option('--until <time>', 'before', timeOption)
    .option('--limit <rows>', 'at most so many, up to 200', '50')
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast audit list --outcome refused --since 2026-11-20T00:00:00Z\n  holdfast audit list --actor ada --json',
    )
    .action(async (options: ListOptions, command: Command) => {
      const context = contextOf(command)
      const { items } = await context.client.get(page(auditView), '/v1/audit', { ...options })
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No such rows.')
      table(
        ['TIME', 'WHO', 'FROM', 'OUTCOME', 'ACTION', 'OBJECT', 'MORE'],
        items.map(row => [
          time(row.at),
          row.actor,
          row.address ?? '',
          row.outcome,
          row.action,
          row.object,
          more(row),
        ]),
      )
    })

  group
    .command('check')
    .description('are all rows as they were written?')
    .addHelpText('after', '\nExample:\n  holdfast audit check')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const found = await context.client.get(auditCheckView, '/v1/audit/check')
      if (context.json) printJson(found)
      else if (found.brokenAt === null) {
        const gone = found.prunedTo === 0 ? '' : ` Rows up to ${found.prunedTo} were pruned.`
        print(`${found.rows} rows, all as they were written.${gone} Newest: ${found.hash}`)
      }
      if (found.brokenAt === null) return
      throw new HoldfastError(
        'audit.broken',
        `Row ${found.brokenAt} of the audit is missing or not as it was written; ${found.rows} rows before it are.`,
      )
    })

  group
    .command('prune')
    .description('remove the oldest rows; the rest can still be checked, and a row says who did it')
    .requiredOption('--before <time>', 'the rows of before; those of the last thirty days stay', timeOption)
    .option('--reason <text>', 'why; kept in the audit')
    .option('--dry-run', 'only count them')
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast audit prune --before 2026-01-01 --dry-run\n  holdfast audit prune --before 2026-01-01 --reason "kept for a year"',
    )
    .action(async (options: { before: string; reason?: string; dryRun?: true }, command: Command) => {
      const context = contextOf(command)
      const { rows, prunedTo } = await context.client.post(auditPruneView, '/v1/audit/prune', options)
      if (context.json) return printJson({ rows, prunedTo })
      print(`${rows} rows ${options.dryRun ? 'would go' : 'are gone'}; the oldest kept is ${prunedTo + 1}.`)
    })
}

const more = ({ detail }: AuditView): string =>
  Object.entries(detail)
    .filter(([name]) => !['title', 'status'].includes(name))
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ')
    .slice(0, 200)
