import { type Command, Option } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { verifyLevels } from '../../model/types.ts'
import {
  type BackupListed,
  type BackupShown,
  type BackupView,
  backupListedView,
  backupShownView,
  backupView,
  page,
} from '../../model/views.ts'
import { type Context, contextOf } from '../context.ts'
import { byteCount } from '../schedule-options.ts'
import { bytes, clean, duration, fields, note, print, printJson, table, time } from '../terminal.ts'
import { follow, start } from '../watch.ts'
import { wholeNumber } from './backup.ts'

interface CopyOptions {
  to: string
  from?: string
  unattended?: boolean
  wait: boolean
}

interface VerifyOptions {
  level?: string
  from?: string
  thaw?: boolean
  wait: boolean
}

export function backupsCommands(program: Command): void {
  const group = program
    .command('backups')
    .description('backups there are')
    .addHelpText('after', '\nExample:\n  holdfast backups list')

  group
    .command('list')
    .description('backups, the newest first')
    .option('--connection <connection>', 'only of this connection')
    .option('--limit <n>', 'at most so many', wholeNumber, 50)
    .option('--locks', 'ask the stores until when each is locked')
    .addHelpText('after', '\nExample:\n  holdfast backups list --connection shop --limit 10')
    .action(async (options: { connection?: string; limit: number; locks?: boolean }, command: Command) => {
      const context = contextOf(command)
      const { items } = await context.client.get(page(backupListedView), '/v1/backups', {
        connection: options.connection,
        limit: String(options.limit),
        stored: options.locks ? 'true' : undefined,
      })
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No backups yet: holdfast backup CONNECTION')
      table(
        [
          'BACKUP',
          'CONNECTION',
          'DESTINATION',
          'ENDED',
          'DATABASE',
          'STORED',
          'VERIFIED',
          ...(options.locks ? ['LOCKED'] : []),
        ],
        items.map(item => [
          item.id,
          item.foreign ? `foreign: ${clean(item.foreign.file)}` : item.connection,
          places(item),
          time(item.endedAt),
          item.foreign && item.toolBytes === 0 ? '' : bytes(item.toolBytes),
          bytes(item.storedBytes),
          item.state === 'deleted' ? (item.foreign ? 'gone' : 'deleted') : verified(item),
          ...(options.locks ? [locksOf(item)] : []),
        ]),
        ['DATABASE', 'STORED'],
      )
    })

  group
    .command('show <backup>')
    .description('one backup')
    .addHelpText('after', '\nExample:\n  holdfast backups show shop:latest')
    .action(async (reference: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const item = await context.client.get(backupShownView, await pathOf(context, reference))
      if (context.json) return printJson(item)
      fields([
        ['backup', item.id],
        ...(item.foreign ? foreignFields(item, item.foreign) : ownFields(item)),
        ...item.artifacts.flatMap((artifact): [string, string][] => [
          [artifact.name, sizesOf(artifact)],
          ...(artifact.advice === null ? [] : ([['', artifact.advice]] as [string, string][])),
        ]),
        ...(item.foreign ? [] : timeFields(item)),
        ['verified', verified(item)],
        ['proven', proven(item)],
        [
          'labels',
          Object.entries(item.labels)
            .map(([name, value]) => `${name}=${value}`)
            .join(', '),
        ],
        ...item.stored.map((one): [string, string] => [`at ${one.destination}`, storedWords(one)]),
        ['state', item.state === 'deleted' ? (item.foreign ? 'gone' : 'deleted') : ''],
      ])
      print('')
      table(
        ['COPY AT', 'STATE', 'SINCE', 'VERIFIED', 'WHERE'],
        item.copies.map(copy => [
          copy.destination,
          copyState(copy),
          copy.committedAt === null ? '' : time(copy.committedAt),
          copy.state === 'committed' ? verified(copy) : '',
          copy.uri,
        ]),
      )
    })

  group
    .command('copy <backup>')
    .description('copy a backup to another destination as it is, and watch it')
    .requiredOption('--to <destination>', 'where to')
    .option('--from <destination>', 'read the copy there; default: the first that answers and is whole')
    .option('--unattended', 'nobody watches: park instead of failing where an operator is needed')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')
    .addHelpText('after', '\nExample:\n  holdfast backups copy shop:latest --to offsite')
    .action(async (reference: string, options: CopyOptions, command: Command) => {
      const context = contextOf(command)
      const operation = await start(context, `${await pathOf(context, reference)}/copy`, {
        to: options.to,
        ...(options.from === undefined ? {} : { from: options.from }),
        ...(options.unattended ? { unattended: true } : {}),
      })
      await follow(context, operation, options.wait)
    })

  group
    .command('verify <backup>')
    .description('prove that a backup is whole')
    .addOption(
      new Option(
        '--level <level>',
        'exists (sizes), checksum (default: read everything again) or deep (also decrypt, unpack and parse)',
      ).choices(verifyLevels),
    )
    .option('--from <destination>', 'look at the copy there; default: the first that answers')
    .option('--thaw', 'bring back from an archive what it has to read: the store takes money for that')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')
    .addHelpText('after', '\nExample:\n  holdfast backups verify shop:latest --level checksum')
    .action(async (reference: string, options: VerifyOptions, command: Command) => {
      const context = contextOf(command)
      const body = {
        ...(options.level === undefined ? {} : { level: options.level }),
        ...(options.from === undefined ? {} : { from: options.from }),
        ...(options.thaw ? { thaw: true } : {}),
      }
      const operation = await start(context, `${await pathOf(context, reference)}/verify`, body)
      await follow(context, operation, options.wait)
    })
  scrubCommand(group)
}

type Fields = [string, string][]

const ownFields = (item: BackupView): Fields => [
  ['connection', item.connection],
  ['database', `${item.database} (${item.engine} ${item.serverVersion})`],
  ['made', `${item.method}, ${item.format}, ${item.type}; consistent as of: ${item.consistency}`],
]

const timeFields = (item: BackupView): Fields => [
  ['encrypted', item.encrypted ? 'yes' : 'no'],
  ['began', time(item.startedAt)],
  ['took', duration(Date.parse(item.endedAt) - Date.parse(item.startedAt))],
]

/** Nobody signed it; what is known of it was seen. */
const foreignFields = (item: BackupView, foreign: NonNullable<BackupView['foreign']>): Fields => [
  ['foreign', 'not made by Holdfast, signed by nobody'],
  ['file', clean(foreign.file)],
  ['format', item.engine === '' ? 'not known' : `${item.engine}, ${item.format}`],
  ['wrapped in', foreign.wrapping ?? ''],
  ['written', time(foreign.modifiedAt)],
  ['sha256', foreign.sha256 ?? `not read yet: holdfast backups verify ${item.id} --level deep`],
  ['tag', clean(foreign.tag ?? '')],
]

function scrubCommand(group: Command): void {
  group
    .command('scrub')
    .description('verify the backups that were least recently found whole, as many as a budget allows')
    .option('--to <destination>', 'of this destination only')
    .option('--budget <size>', 'stored bytes to read at most, e.g. 50GB; default: every backup', byteCount)
    .addOption(new Option('--level <level>', 'as for verify; default: checksum').choices(verifyLevels))
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')
    .addHelpText('after', '\nExample:\n  holdfast backups scrub --budget 50GB --level deep')
    .action(
      async (options: { to?: string; budget?: number; level?: string; wait: boolean }, command: Command) => {
        const context = contextOf(command)
        const { to: destination, budget: budgetBytes, level } = options
        await follow(
          context,
          await start(context, '/v1/scrub', { destination, budgetBytes, level }),
          options.wait,
        )
      },
    )
}

/** A copy that is to be there and is not yet: `vault, (attic)`. */
const places = ({ copies }: BackupView): string =>
  copies
    .filter(copy => copy.state !== 'deleted')
    .map(copy => (copy.state === 'committed' ? copy.destination : `(${copy.destination})`))
    .join(', ')

function copyState({ state, wantedUntil, trouble }: BackupView['copies'][number]): string {
  if (state !== 'missing') return state
  const next = wantedUntil === null ? 'copy it' : `copied by itself until ${time(wantedUntil)}`
  return `missing (${trouble === null ? '' : `${trouble} `}${next})`
}

/** What each stage did to the size. */
function sizesOf(artifact: BackupView['artifacts'][number]): string {
  const { toolBytes, compressedBytes, storedBytes, compression, encrypted } = artifact
  const times = compressedBytes > 0 ? `, ${(toolBytes / compressedBytes).toFixed(1)}×` : ''
  const packed =
    compression === 'not compressed' ? compression : `${bytes(compressedBytes)} (${compression}${times})`
  return `${bytes(toolBytes)} → ${packed} → ${encrypted ? `${bytes(storedBytes)} encrypted` : 'stored as it is'}`
}

/** Of each copy in a store that has locks and answered. */
const locksOf = ({ stored = [] }: BackupListed): string =>
  stored
    .map(one => {
      const words = [
        ...(one.lockedUntil === null ? [] : [`until ${time(one.lockedUntil)}`]),
        ...(one.legalHold ? ['legal hold'] : []),
      ]
      return `${one.destination}: ${words.join(', ') || 'no'}`
    })
    .join('; ')

const storedWords = (stored: BackupShown['stored'][number]): string =>
  [
    stored.lockedUntil === null ? 'not locked' : `locked until ${time(stored.lockedUntil)}`,
    ...(stored.legalHold ? ['under a legal hold'] : []),
    ...(stored.storageClass === null ? [] : [stored.storageClass]),
    ...(stored.archived ? ['a restore has to bring it back first'] : []),
  ].join('; ')

const verified = (item: Pick<BackupView, 'verified'>): string =>
  item.verified === null
    ? 'not yet'
    : `${item.verified.ok ? item.verified.level : `FAILED: ${item.verified.detail}`}, ${time(item.verified.at)}`

/** The last time that each level found it whole. */
const proven = ({ verified: found }: BackupView): string =>
  verifyLevels
    .flatMap(level => (found?.proven?.[level] === undefined ? [] : [`${level} ${time(found.proven[level])}`]))
    .join(', ')

/** BACKUP as people write it: an id, `CONNECTION:latest`, `CONNECTION:previous`. */
async function pathOf(context: Context, reference: string): Promise<string> {
  const match = /^(.+):(latest|previous)$/.exec(reference)
  if (match === null) return `/v1/backups/${encodeURIComponent(reference)}`
  const connection = match[1] ?? ''
  const { items } = await context.client.get(page(backupView), '/v1/backups', { connection, limit: '100' })
  const whole = items.filter(item => item.state === 'committed')
  const found = whole[match[2] === 'latest' ? 0 : 1]
  if (found !== undefined) return `/v1/backups/${encodeURIComponent(found.id)}`
  throw new HoldfastError(
    'backup.not-found',
    `There is no ${reference}: ${connection} has ${whole.length} backup${whole.length === 1 ? '' : 's'}.`,
  )
}
