import type { Command } from 'commander'
import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'
import { restorePointView } from '../../model/recovery-views.ts'
import { contextOf } from '../context.ts'
import { instant } from '../schedule-options.ts'
import { clean, note, print, printJson, table, time } from '../terminal.ts'
import { follow, start } from '../watch.ts'
import { several } from './backup.ts'

const path = (connection: string) => `/v1/connections/${encodeURIComponent(connection)}/restore-points`

export function restorePointCommands(program: Command): void {
  const group = program
    .command('restore-point')
    .description('named places in the log of a server, to recover to')
    .addHelpText('after', '\nExample:\n  holdfast restore-point create shop before-migration')

  group
    .command('create <connection> <name>')
    .description('name this moment; before-migration and before-deploy get the time appended')
    .option('--note <text>', 'why')
    .option('--keep', 'what it needs stays at hand, out of colder classes')
    .option('--keep-until <time>', 'so long, e.g. 2027-03-01T00:00:00Z', instant)
    .option('--backup', 'and make a backup, labelled with the name; watch it')
    .option('--to <destination>', 'where that goes; may be given again', several)
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast restore-point create shop before-migration --note "schema 42"\n  holdfast restore-point create shop before-deploy --backup --to vault',
    )
    .action(async (connection: string, name: string, options: CreateOptions, command: Command) => {
      const context = contextOf(command)
      const { backup, to, note: why, ...keeping } = options
      const keepUntil = keptUntil(keeping)
      const about = {
        ...(why === undefined ? {} : { note: why }),
        ...(keepUntil === undefined ? {} : { keepUntil }),
      }
      if (to !== undefined && !backup) throw new HoldfastError('request.invalid', '--to wants --backup.')
      const asked = { name: named(name, new Date()), ...about }
      const made = await context.client.post(restorePointView, path(connection), asked)
      if (context.json) printJson(made)
      else print(`${made.name} is ${made.lsn} on timeline ${made.timeline}, ${time(made.createdAt)}.`)
      if (!backup) return
      const operation = await start(context, '/v1/backups', {
        connection,
        ...(to === undefined ? {} : { destinations: to }),
        labels: { 'restore-point': made.name },
      })
      await follow(context, operation, true)
    })

  group
    .command('list <connection>')
    .description('the newest first')
    .addHelpText('after', '\nExample:\n  holdfast restore-point list shop')
    .action(async (connection: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const { items } = await context.client.get(
        z.object({ items: z.array(restorePointView) }),
        path(connection),
      )
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No restore points.')
      table(
        ['NAME', 'AT', 'LSN', 'TIMELINE', 'KEPT', 'BY', 'NOTE'],
        items.map(one => [
          one.name,
          time(one.createdAt),
          one.lsn,
          String(one.timeline),
          one.keepUntil === null ? '' : one.keepUntil === 'forever' ? 'forever' : time(one.keepUntil),
          clean(one.by),
          clean(one.note ?? ''),
        ]),
      )
    })

  group
    .command('keep <connection> <name>')
    .description('until when what it needs stays at hand; default: until it is told otherwise')
    .option('--until <time>', 'so long, e.g. 2027-03-01T00:00:00Z', instant)
    .option('--no-longer', 'from now on not for its sake')
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast restore-point keep shop before-42 --until 2027-03-01T00:00:00Z\n  holdfast restore-point keep shop before-42 --no-longer',
    )
    .action(
      async (
        connection: string,
        name: string,
        options: { until?: string; longer: boolean },
        command: Command,
      ) => {
        const context = contextOf(command)
        const keepUntil = options.longer ? (options.until ?? 'forever') : null
        const kept = await context.client.patch(
          restorePointView,
          `${path(connection)}/${encodeURIComponent(name)}`,
          { keepUntil },
        )
        if (context.json) return printJson(kept)
        print(
          kept.keepUntil === null
            ? `What ${name} needs is not kept for it any more.`
            : `What ${name} needs is kept${kept.keepUntil === 'forever' ? '' : ` until ${time(kept.keepUntil)}`}.`,
        )
      },
    )

  group
    .command('delete <connection> <name>')
    .description('forget the name; the place stays in the log')
    .addHelpText('after', '\nExample:\n  holdfast restore-point delete shop before-42')
    .action(async (connection: string, name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      await context.client.remove(`${path(connection)}/${encodeURIComponent(name)}`)
      if (context.json) printJson({ deleted: name })
      else print(`The name ${name} is forgotten.`)
    })
}

interface CreateOptions {
  note?: string
  keep?: boolean
  keepUntil?: string
  backup?: boolean
  to?: string[]
}

const keptUntil = ({ keep, keepUntil }: Pick<CreateOptions, 'keep' | 'keepUntil'>) =>
  keepUntil ?? (keep ? 'forever' : undefined)

const templates = ['before-migration', 'before-deploy']

/** A template names a kind of moment, of which there are many. */
const named = (name: string, now: Date): string =>
  templates.includes(name)
    ? `${name}-${now.toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', 't').toLowerCase()}z`
    : name
