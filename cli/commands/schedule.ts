import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { z } from 'zod'
import type { CompressionRequest } from '../../model/compression.ts'
import {
  type ScheduleRunView,
  type ScheduleView,
  scheduleDetail,
  scheduleView,
} from '../../model/schedule-schemas.ts'
import { seconds } from '../../model/schedule-words.ts'
import { page } from '../../model/views.ts'
import { compression } from '../compression-option.ts'
import { contextOf } from '../context.ts'
import { byteCount, durationSeconds, instant, times, weekdays, wholeNumbers } from '../schedule-options.ts'
import { fields, note, paint, print, printJson, table } from '../terminal.ts'
import { follow, start } from '../watch.ts'
import { label, several, wholeNumber } from './backup.ts'
import { containerOf, queriesIn } from './drill.ts'

interface Options {
  cron?: string
  at?: string[]
  on?: number[]
  days?: number[]
  months?: number[]
  zone?: string
  every?: number
  offset?: number
  to?: string[]
  failover?: string
  kind?: string
  jitter?: number
  overlap?: string
  catchUp?: number
  startDeadline?: number
  from?: string
  until?: string
  note?: string
  type?: string
  format?: string
  jobs?: number
  compression?: CompressionRequest
  bandwidth?: string
  encrypt: boolean
  encryptTo?: string[]
  label?: Record<string, string>
  check?: string
  scrub?: boolean
  sweep?: boolean
  budget?: number
  target?: string
  directory?: string
  queries?: string
  quick?: boolean
  owner: boolean
  maxTime?: number
  maxSize?: number
  container?: string
  containerEngine?: string
  endOfLog?: true
  walConfig?: string
}

/** Options that `add` and `edit` share. */
const withWhen = (command: Command): Command =>
  command
    .option('--at <times>', 'times of day, e.g. 02:30 or 06:00,18:00', times)
    .option('--on <weekdays>', 'with --at: e.g. mon,thu; default: every day', weekdays)
    .option('--days <numbers>', 'with --at: days of the month, e.g. 1,15', wholeNumbers)
    .option('--months <numbers>', 'with --at: e.g. 1,7', wholeNumbers)
    .option('--cron <line>', 'five fields, as crontab(5) has them')
    .option('--zone <zone>', "time zone of --at and --cron, e.g. Europe/Berlin; default: this machine's")
    .option('--every <duration>', 'instead of times: e.g. 6h, 90min', durationSeconds)
    .option('--offset <duration>', 'with --every: after midnight UTC, e.g. 30min', durationSeconds)
    .option('--to <destination>', 'where to; may be given again; not needed when there is only one', several)
    .option('--failover <destination>', 'of a backup: where to while one of these is away; none: nowhere')
    .option('--jitter <duration>', 'start up to this much later, by chance', durationSeconds)
    .option('--overlap <policy>', 'when the former run is not over: skip (default), buffer-one, queue')
    .option('--catch-up <duration>', 'how late it may start after an outage; default: 12h', durationSeconds)
    .option('--start-deadline <duration>', 'how long to wait for its server; default: 4h', durationSeconds)
    .option('--from <time>', 'not before this time, e.g. 2026-12-01T00:00:00Z', instant)
    .option('--until <time>', 'not after this time', instant)
    .option('--note <text>', 'why it is there')
    .option('--type <type>', 'of a backup: full (default) or incremental')
    .option('--format <format>', 'of a backup: what the tool writes')
    .option('--jobs <n>', 'of a backup: parallel jobs', wholeNumber)
    .option('--compression <how>', 'of a backup: e.g. zstd:19, lz4, auto', compression)
    .option('--bandwidth <limit>', 'of a backup: e.g. 20MB/s')
    .option('--encrypt-to <key...>', 'of a backup: names of keys; default: every key in use')
    .option('--no-encrypt', 'keep these backups in the clear')
    .option('--label <name=value>', 'of a backup: a label; may be given again', label)
    .option('--check <level>', 'of a verification or a scrub: exists, checksum (default) or deep')
    .option('--target <connection>', 'of a drill: where the copy is made; default: where it came from')
    .option('--directory <dir>', 'of a drill: where a file or a data directory is made')
    .option('--queries <file>', 'of a drill: JSON, as for `holdfast drill run`; takes the role admin')
    .option('--quick', 'of a drill: the proofs of a restore alone')
    .option('--end-of-log', 'of a drill: with the archived log over the base backup, up to its end')
    .option('--wal-config <path>', 'of a drill with --end-of-log: wal.json on that host')
    .option('--no-owner', 'of a drill: leave owners and grants out')
    .option('--max-time <duration>', 'of a drill: it fails when it takes longer', durationSeconds)
    .option('--max-size <size>', 'of a drill: refuse what is larger when unpacked', byteCount)
    .option('--container <image>', 'of a drill: started by programs of this image; takes the role admin')
    .option('--container-engine <engine>', 'of a drill: docker (default) or podman')
    .option('--budget <size>', 'of a scrub: stored bytes to read at most, e.g. 50GB', byteCount)

const kindOf = ({ scrub, sweep, kind }: Options): { kind?: string } =>
  scrub ? { kind: 'scrub' } : sweep ? { kind: 'sweep' } : kind === undefined ? {} : { kind }

export function scheduleCommands(program: Command): void {
  const group = program
    .command('schedule')
    .description('operations that start by themselves')
    .addHelpText('after', '\nExample:\n  holdfast schedule add nightly shop --at 02:30')

  withWhen(group.command('add <name> [connection]'))
    .description('start backups, verifications or drills of a connection, a scrub or a sweep, by themselves')
    .option(
      '--kind <kind>',
      'backup (default), verify or drill: the latest backup, or tiering: of a destination',
    )
    .option('--scrub', 'verify the backups that were least recently found whole, of every connection')
    .option('--sweep', 'remove what ended operations have left, everywhere or at --to')
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast schedule add nightly shop --at 02:30 --zone Europe/Berlin --to vault --to offsite\n  holdfast schedule add often shop --every 6h --jitter 10min --overlap queue\n  holdfast schedule add proof shop --kind verify --cron "0 6 * * sun"\n  holdfast schedule add rehearsal shop --kind drill --target spare --at 04:00 --on sun\n  holdfast schedule add scrub --scrub --budget 50GB --check deep --at 12:00\n  holdfast schedule add tidy --sweep --every 24h',
    )
    .action(async (name: string, connection: string | undefined, options: Options, command: Command) => {
      const context = contextOf(command)
      const added = await context.client.post(scheduleView, '/v1/schedules', {
        name,
        ...(connection === undefined ? {} : { connection }),
        ...kindOf(options),
        ...(await bodyOf(options)),
        spec: specOf(options) ?? {},
      })
      if (context.json) return printJson(added)
      print(`${added.name}: ${subject(added)}, ${added.words}`)
      upcoming(added)
    })

  withWhen(group.command('edit <schedule>'))
    .description('change what is given; the rest stays')
    .addHelpText('after', '\nExample:\n  holdfast schedule edit nightly --at 03:00 --catch-up 6h')
    .action(async (name: string, options: Options, command: Command) => {
      const context = contextOf(command)
      const spec = specOf(options)
      const body = { ...(await bodyOf(options)), ...(spec === undefined ? {} : { spec }) }
      const edited = await context.client.patch(scheduleView, pathOf(name), body)
      if (context.json) return printJson(edited)
      print(`${edited.name}: ${subject(edited)}, ${edited.words}`)
      upcoming(edited)
    })

  group
    .command('list')
    .description('all schedules, what comes next and what ran last')
    .addHelpText('after', '\nExample:\n  holdfast schedule list')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const { items } = await context.client.get(page(scheduleView), '/v1/schedules')
      if (context.json) return printJson(items)
      if (items.length === 0)
        return note('No schedules yet: holdfast schedule add NAME CONNECTION --at 02:30')
      table(
        ['NAME', 'WHAT', 'WHEN', 'NEXT', 'LAST'],
        items.map(item => [
          item.name,
          subject(item),
          item.words,
          item.paused ? 'paused' : clock(item, item.next[0]),
          item.lastRun === null ? '' : `${outcome(item.lastRun)} ${clock(item, item.lastRun.dueAt)}`,
        ]),
      )
      for (const item of items) {
        if (item.lastRun?.state === 'missed') note(`warning: ${item.name} was missed: ${item.lastRun.detail}`)
      }
    })

  group
    .command('show <schedule>')
    .description('one schedule: what comes, what ran, what was missed and why')
    .addHelpText('after', '\nExample:\n  holdfast schedule show nightly')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const shown = await context.client.get(scheduleDetail, pathOf(name))
      if (context.json) return printJson(shown)
      show(shown)
    })

  group
    .command('pause <schedule>')
    .description('let it come due no more; what runs goes on')
    .option('--note <text>', 'why')
    .addHelpText('after', '\nExample:\n  holdfast schedule pause nightly --note "until the move is done"')
    .action(async (name: string, options: { note?: string }, command: Command) => {
      const context = contextOf(command)
      const paused = await context.client.post(scheduleView, `${pathOf(name)}/pause`, { ...options })
      if (context.json) printJson(paused)
      else print(`${name} is paused.`)
    })

  group
    .command('resume <schedule>')
    .description('let it come due again')
    .addHelpText('after', '\nExample:\n  holdfast schedule resume nightly')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const resumed = await context.client.post(scheduleView, `${pathOf(name)}/resume`)
      if (context.json) return printJson(resumed)
      print(`${name} comes due again.`)
      upcoming(resumed)
    })

  group
    .command('trigger <schedule>')
    .description('run it now and watch it, as if it had been asked for by hand')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')
    .addHelpText('after', '\nExample:\n  holdfast schedule trigger nightly')
    .action(async (name: string, options: { wait: boolean }, command: Command) => {
      const context = contextOf(command)
      await follow(context, await start(context, `${pathOf(name)}/trigger`, {}), options.wait)
    })

  group
    .command('remove <schedule>')
    .description('forget a schedule; operations and backups stay')
    .addHelpText('after', '\nExample:\n  holdfast schedule remove nightly')
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command)
      await context.client.remove(pathOf(name))
      if (context.json) printJson({ removed: name })
      else print(`${name} removed; its backups stay.`)
    })
}

const pathOf = (name: string): string => `/v1/schedules/${encodeURIComponent(name)}`

const given = (entries: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined))

/** undefined: nothing was said of when. What does not go together is for the API to refuse. */
function specOf(options: Options): Record<string, unknown> | undefined {
  const { cron, at, every, offset } = options
  const zone = options.zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone
  const spec = given({
    cron,
    at,
    weekdays: options.on,
    days: options.days,
    months: options.months,
    everySeconds: every,
    offsetSeconds: offset,
    timeZone: options.zone ?? (cron === undefined && at === undefined ? undefined : zone),
  })
  return Object.keys(spec).length === 0 ? undefined : spec
}

async function bodyOf(options: Options): Promise<Record<string, unknown>> {
  const kindOptions = given({
    type: options.type,
    format: options.format,
    jobs: options.jobs,
    compression: options.compression,
    bandwidth: options.bandwidth,
    failover: options.failover === 'none' ? null : options.failover,
    encryptTo: options.encrypt ? options.encryptTo : [],
    labels: options.label,
    level: options.check,
    budgetBytes: options.budget,
    target: options.target,
    directory: options.directory === undefined ? undefined : resolve(options.directory),
    queries: options.queries === undefined ? undefined : await queriesIn(options.queries),
    quick: options.quick,
    endOfLog: options.endOfLog,
    walConfig: options.walConfig,
    noOwner: options.owner ? undefined : true,
    maxSeconds: options.maxTime,
    maxBytes: options.maxSize,
    container: containerOf(options),
  })
  return given({
    destinations: options.to,
    jitterSeconds: options.jitter,
    overlap: options.overlap,
    catchUpSeconds: options.catchUp,
    startDeadlineSeconds: options.startDeadline,
    startAt: options.from,
    endAt: options.until,
    note: options.note,
    options: Object.keys(kindOptions).length === 0 ? undefined : kindOptions,
  })
}

function subject({ kind, connection, destinations }: ScheduleView): string {
  const where = destinations.join(', ')
  if (connection === null) return `${kind} ${where || 'every destination'}`
  if (kind === 'backup') return `backup ${connection} → ${where}`
  return `${kind} ${connection}${where && ` at ${where}`}`
}

/** In the schedule's zone; of an interval, in this machine's. */
function clock({ spec }: ScheduleView, iso: string | undefined): string {
  if (iso === undefined) return ''
  const zone = 'timeZone' in spec ? { timeZone: spec.timeZone } : {}
  const format = new Intl.DateTimeFormat('en-CA', {
    ...zone,
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
    timeZoneName: 'shortOffset',
  })
  return format.format(new Date(iso)).replace(', ', ' ').replace(',', '')
}

const outcome = (run: ScheduleRunView): string =>
  run.state === 'started' ? (run.outcome ?? 'started') : run.state

function upcoming(schedule: ScheduleView): void {
  const times = schedule.next.slice(0, 3).map(time => clock(schedule, time))
  if (times.length > 0) print(`next: ${times.join('\n      ')}`)
  else print(schedule.paused ? 'paused' : 'does not come due any more')
}

function show(schedule: z.infer<typeof scheduleDetail>): void {
  fields([
    ['schedule', schedule.name],
    ['what', subject(schedule)],
    ['when', schedule.words],
    ['jitter', schedule.jitterSeconds === 0 ? '' : `up to ${seconds(schedule.jitterSeconds)}`],
    ['overlap', schedule.overlap],
    ['catch-up', `starts up to ${seconds(schedule.catchUpSeconds)} late after an outage`],
    ['deadline', `waits ${seconds(schedule.startDeadlineSeconds)} for its server`],
    ['from', schedule.startAt ?? ''],
    ['until', schedule.endAt ?? ''],
    ['note', schedule.note ?? ''],
    ['in Temporal', schedule.drift ? `brought back ${schedule.drift.at}: ${schedule.drift.detail}` : ''],
  ])
  print()
  upcoming(schedule)
  if (schedule.runs.length === 0) return
  print()
  table(
    ['DUE', 'STATE', 'OPERATION', 'WHY'],
    schedule.runs.map(run => [
      clock(schedule, run.dueAt),
      outcome(run),
      run.operation ?? '',
      run.triggeredBy === null
        ? [run.reason, run.detail].filter(Boolean).join(': ')
        : `by ${run.triggeredBy}`,
    ]),
  )
  const older = schedule.missed.filter(run => !schedule.runs.some(({ dueAt }) => dueAt === run.dueAt))
  if (older.length === 0) return
  print()
  print(paint('dim', 'missed before that'))
  for (const run of older) print(`${clock(schedule, run.dueAt)}  ${run.reason}: ${run.detail}`)
}
