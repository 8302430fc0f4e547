import { type Command, InvalidArgumentError, Option } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { type RecoveryWindowsView, recoveryWindowsView } from '../../model/recovery-views.ts'
import { contextOf } from '../context.ts'
import { bytes, note, print, printJson, time } from '../terminal.ts'
import { archiversCommands } from './archivers.ts'
import { archivingCommands } from './archiving.ts'
import { wholeNumber } from './backup.ts'
import { type ReplacingOptions, replacingOptions, startReplacing } from './replacing.ts'

export type Target = { kind: 'immediate' | 'latest' } | { kind: string; [value: string]: string }

interface RecoverOptions extends ReplacingOptions {
  to: Target
  directory: string
  target?: string
  port?: number
  start?: boolean
  only?: string
  into?: string
  as?: string
  overwriteExisting?: boolean
  exclusive?: boolean
  timeline?: string | number
  action: string
  base?: string
  walConfig?: string
  inPlace?: boolean
}

/** What it is worth the API says. */
export function target(text: string): Target {
  if (text === 'immediate' || text === 'latest') return { kind: text }
  const [, kind, value] = /^(lsn|xid|name):(.+)$/s.exec(text) ?? []
  if (kind !== undefined && value !== undefined) return { kind, [kind]: value }
  if (/^\d{4}-/.test(text)) return { kind: 'time', time: text }
  throw new InvalidArgumentError('use a time with its zone, lsn:X/Y, xid:N, name:P, immediate or latest')
}

export function timeline(text: string): string | number {
  if (text === 'latest' || text === 'current') return text
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('use latest, current, or a number')
}

export function pitrCommands(program: Command): void {
  const group = program.command('pitr').description('recovery to a point in time, and what can be reached')

  const recover = group
    .command('recover <connection>', { isDefault: true })
    .description('recover a server to a moment, into a new data directory beside it')
    .requiredOption(
      '--to <target>',
      'TIME with its zone, lsn:X/Y, xid:N, name:P, immediate or latest',
      target,
    )
    .requiredOption('--directory <path>', 'the new data directory; it is not there yet, or empty')
    .option('--target <connection>', 'whose host gets it; default: that of the server itself')
    .option('--port <n>', 'the new server listens there; default: as its configuration says', wholeNumber)
    .option('--start', 'leave it running on that port, still without archiving')
    .option('--only <database>', 'not the server but this database of it; needs --into. The copy is removed')
    .option('--into <connection>', 'logical connection of the server that gets it')
    .option('--as <name>', 'its name there; default: as it was called')
    .option('--overwrite-existing', 'with --only: replace the one that is there, once it is approved')
    .option('--exclusive', 'stop before what is exactly there')
    .option(
      '--timeline <timeline>',
      'latest, current (of the base backup), or its number; default: that of a restore point, else latest',
      timeline,
    )
    .addOption(
      new Option('--action <action>', 'at the target')
        .choices(['promote', 'pause', 'shutdown'])
        .default('promote'),
    )
    .option('--base <backup>', 'base backup to begin with; default: the newest that ended before')
    .option('--wal-config <path>', 'wal.json on that host; default: /etc/holdfast/wal.json')
    .option('--bandwidth <limit>', 'of the base backup, e.g. 20MB/s; see `holdfast bandwidth`')
    .option('--in-place', 'exchange it for the data directory that is there; waits for `holdfast approve`')
  replacingOptions(recover)
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast pitr shop --to "2026-11-22 03:14:00+01:00" --directory /var/lib/postgresql/15/shop_0314 --port 5433\n  holdfast pitr recover shop --to lsn:16/B374D848 --exclusive --directory /srv/shop_before',
    )
    .action(async (connection: string, options: RecoverOptions, command: Command) => {
      const context = contextOf(command)
      if (options.only !== undefined && options.into === undefined) {
        throw new HoldfastError(
          'request.invalid',
          '--only: say which server gets the database: --into CONNECTION.',
        )
      }
      const inclusive = options.exclusive ? { inclusive: false } : {}
      const bounded = ['time', 'lsn', 'xid'].includes(options.to.kind)
      await startReplacing(
        context,
        '/v1/pitr',
        {
          connection,
          to: { ...options.to, ...(bounded ? inclusive : {}) },
          ...(options.timeline === undefined ? {} : { timeline: options.timeline }),
          action: options.action,
          target: {
            directory: options.directory,
            ...(options.target === undefined ? {} : { connection: options.target }),
          },
          ...(options.port === undefined ? {} : { port: options.port }),
          ...(options.start ? { start: true } : {}),
          ...(options.only === undefined
            ? {}
            : {
                only: {
                  database: options.only,
                  into: { connection: options.into ?? '', database: options.as ?? options.only },
                  ...(options.overwriteExisting ? { overwriteExisting: true } : {}),
                },
              }),
          ...(options.base === undefined ? {} : { base: options.base }),
          ...(options.walConfig === undefined ? {} : { walConfig: options.walConfig }),
          ...(options.inPlace ? { overwriteExisting: true } : {}),
        },
        options,
      )
    })

  archivingCommands(group)
  archiversCommands(group)

  group
    .command('windows <connection>')
    .description('which places of the log can be recovered, from which base backup; and the holes')
    .addHelpText(
      'after',
      '\nExit codes: 0 there is something, without holes · 1 otherwise\n\nExample:\n  holdfast pitr windows shop',
    )
    .action(async (connection: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/connections/${encodeURIComponent(connection)}/windows`
      const found = await context.client.get(recoveryWindowsView, path)
      const windows = found.archives.flatMap(archive => archive.windows)
      const whole =
        windows.some(one => one.intervals.length > 0) && windows.every(one => one.gaps.length === 0)
      process.exitCode = whole && found.unknown.length === 0 ? 0 : 1
      if (context.json) return printJson(found)
      show(found)
    })
}

function show({ connection, archives, unknown }: RecoveryWindowsView): void {
  for (const { destination, segments, storedBytes, newest, windows } of archives) {
    const last = newest === null ? '' : `, the last one ${newest.name} at ${time(newest.archivedAt)}`
    print(`${destination}: ${segments} segments, ${bytes(storedBytes)}${last}`)
    for (const { timeline, parent, intervals, bases, gaps } of windows) {
      const from = parent === null ? '' : `, branched off timeline ${parent.timeline} at ${parent.leftAt}`
      print(`  timeline ${timeline}${from}`)
      for (const { from: first, to } of intervals) print(`    can be recovered   ${first} to ${to}`)
      for (const base of bases)
        print(`    base backup        ${base.backup}, from ${base.from} to ${base.to}`)
      if (bases.length === 0) print('    no base backup: nothing of it can be recovered')
      for (const { first, last: end, lost } of gaps) {
        const what = first === end ? first : `${first} to ${end}`
        const until = lost.to === null ? 'on, until there is another base backup' : `to ${lost.to}`
        print(`    missing            ${what}: lost from ${lost.from} ${until}`)
      }
      if (gaps.length > 0)
        note(
          `    hint: on the database host, \`holdfast wal repair --pgdata DIR\`; else take a new base backup.`,
        )
    }
  }
  for (const { destination, code, detail, hint } of unknown) {
    note(`error ${code}: ${destination}: ${detail}`)
    note(`hint: ${hint}`)
  }
  if (archives.length === 0)
    note(`No destination has an archive of ${connection}'s log: docs/log-archiving.md.`)
}
