import { readFile } from 'node:fs/promises'
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'
import { shellWord } from '../../model/shell.ts'
import { hooksView } from '../../model/views.ts'
import { type Context, contextOf } from '../context.ts'
import { clean, note, print, printJson, table } from '../terminal.ts'
import { wholeNumber } from './backup.ts'

type Hook = z.infer<typeof hooksView>['items'][number]

interface AddOptions {
  before?: 'backup' | 'restore'
  after?: 'backup' | 'restore'
  always?: boolean
  warn?: boolean
  timeout: number
  sql?: string
  sqlFile?: string
  secret?: Record<string, string>
}

const path = (connection: string) => `/v1/connections/${encodeURIComponent(connection)}/hooks`
const get = async (context: Context, connection: string): Promise<Hook[]> =>
  (await context.client.get(hooksView, path(connection))).items
const put = (context: Context, connection: string, items: readonly Hook[]): Promise<void> =>
  context.client.put(path(connection), { items })

const secret = (text: string, before: Record<string, string> = {}): Record<string, string> => {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('It must be VARIABLE=FIELD.')
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) }
}

const when = (flag: string, words: string) =>
  new Option(`${flag} <operation>`, words).choices(['backup', 'restore'])

export function hookCommands(program: Command): void {
  const group = program
    .command('hook')
    .description('programs and SQL that run before and after backups and restores of a connection')
    .addHelpText('after', '\nExample:\n  holdfast hook list shop')

  group
    .command('list <connection>')
    .description('in the order in which they run')
    .addHelpText('after', '\nExample:\n  holdfast hook list shop')
    .action(async (connection: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const items = await get(context, connection)
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No hooks.')
      table(
        ['HOOK', 'WHEN', 'LIMIT', 'FAILURE', 'RUNS'],
        items.map(hook => [
          hook.name,
          `${hook.at} ${hook.of}${hook.when === 'always' ? ', always' : ''}`,
          `${hook.timeoutSeconds} s`,
          hook.onFailure === 'warn' ? 'warns' : 'fails',
          'sql' in hook.run
            ? clean(hook.run.sql.replace(/\s+/g, ' '))
            : hook.run.argv.map(shellWord).join(' '),
        ]),
      )
    })

  group
    .command('add <connection> <name> [program...]')
    .description('run a program (no shell) or SQL; after the hooks that are there')
    .addOption(when('--before', 'run it before each backup or restore'))
    .addOption(when('--after', 'run it after each backup or restore'))
    .option('--sql <sql>', "SQL for the engine's own client, instead of a program")
    .option('--sql-file <file>', 'the same from a file')
    .option('--always', 'after: also when the operation failed or was cancelled')
    .option('--warn', 'its failure only warns')
    .option('--timeout <seconds>', 'stopped after so long', wholeNumber, 60)
    .option('--secret <variable=field>', "a secret of the connection in the program's environment", secret)
    .addHelpText(
      'after',
      "\nExamples:\n  holdfast hook add shop stop-writers --before backup -- systemctl stop shop-worker\n  holdfast hook add shop checkpoint --before backup --sql 'CHECKPOINT' --warn",
    )
    .action(
      async (connection: string, name: string, words: string[], options: AddOptions, command: Command) => {
        const context = contextOf(command)
        const items = await get(context, connection)
        if (items.some(hook => hook.name === name)) {
          throw new HoldfastError(
            'request.exists',
            `Connection ${connection} has a hook named ${name} already.`,
          )
        }
        const hook = await read(name, words, options)
        await put(context, connection, [...items, hook])
        if (context.json) printJson(hook)
        else
          print(`${name} runs ${options.before ? 'before' : 'after'} each ${options.before ?? options.after}`)
      },
    )

  group
    .command('remove <connection> <name>')
    .description('operations under way keep theirs')
    .addHelpText('after', '\nExample:\n  holdfast hook remove shop checkpoint')
    .action(async (connection: string, name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const items = await get(context, connection)
      if (!items.some(hook => hook.name === name)) {
        throw new HoldfastError('request.not-found', `Connection ${connection} has no hook named ${name}.`)
      }
      await put(
        context,
        connection,
        items.filter(hook => hook.name !== name),
      )
      if (context.json) printJson({ removed: name })
      else print(`${name} removed`)
    })
}

async function read(name: string, words: readonly string[], options: AddOptions): Promise<Hook> {
  const invalid = (detail: string) => new HoldfastError('request.invalid', detail)
  const of = options.before ?? options.after
  if (!of || (options.before && options.after)) throw invalid('Give --before or --after, one of them.')
  const sql = options.sqlFile === undefined ? options.sql : await readFile(options.sqlFile, 'utf8')
  const [program, ...args] = words
  if ((sql === undefined) === (program === undefined)) {
    throw invalid('Give a program after `--`, or --sql, or --sql-file; one of them.')
  }
  return {
    name,
    of,
    at: options.before ? 'before' : 'after',
    when: options.always ? 'always' : 'success',
    run: program === undefined ? { sql: sql ?? '' } : { argv: [program, ...args] },
    secretEnv: options.secret ?? {},
    timeoutSeconds: options.timeout,
    onFailure: options.warn ? 'warn' : 'fail',
  }
}
