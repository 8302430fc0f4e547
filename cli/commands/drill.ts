import { readFile, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { drillPage } from '../../model/drill-page.ts'
import { type SignedDrillReport, signedDrillReportSchema } from '../../model/drill-report.ts'
import { HoldfastError } from '../../model/errors.ts'
import { drillCleanupView, drillView, page } from '../../model/views.ts'
import { verifyDrillReport } from '../../storage/drill-report.ts'
import { contextOf } from '../context.ts'
import { byteCount, durationSeconds } from '../schedule-options.ts'
import { clean, duration, fields, note, paint, print, printJson, table, time } from '../terminal.ts'
import { follow, start } from '../watch.ts'
import { wholeNumber } from './backup.ts'
import { fullDrillCommand } from './full-drill.ts'
import { type Target, target, timeline } from './pitr.ts'

interface DrillOptions {
  target?: string
  directory?: string
  from?: string
  queries?: string
  jobs?: number
  owner: boolean
  bandwidth?: string
  maxTime?: number
  maxSize?: number
  container?: string
  containerEngine?: string
  wait: boolean
}

interface MomentOptions extends DrillOptions {
  to: Target
  timeline?: string | number
  base?: string
  walConfig?: string
  quick?: boolean
}

const colours = { passed: 'green', failed: 'red', cancelled: 'yellow' } as const

export function drillCommands(program: Command): void {
  const group = program
    .command('drill')
    .description('rehearse a restore: to a throw-away copy that is proven, measured and removed')
    .addHelpText('after', '\nExample:\n  holdfast drill run shop:latest --target spare')

  withWhere(group.command('run <backup>'))
    .description('restore, prove, count rows, look into structures, ask your queries, measure, remove')
    .option('--queries <file>', 'JSON: [{"name","sql","expect"}, …]; takes the role admin')
    .addHelpText(
      'after',
      '\nBACKUP is an id, CONNECTION:latest or CONNECTION:previous.\n\nExamples:\n  holdfast drill run shop:latest --target spare --max-time 30min\n  holdfast drill run notes:latest --directory /var/tmp --queries notes-checks.json',
    )
    .action(async (backup: string, options: DrillOptions, command: Command) => {
      const queries = options.queries === undefined ? {} : { queries: await queriesIn(options.queries) }
      await begin(command, { backup, ...queries }, options)
    })

  withWhere(group.command('quick <connection>'))
    .description('the newest backup, with the proofs of a restore alone')
    .addHelpText('after', '\nExample:\n  holdfast drill quick shop')
    .action(async (connection: string, options: DrillOptions, command: Command) => {
      await begin(command, { backup: `${connection}:latest`, quick: true }, options)
    })

  withWhere(group.command('moment <connection>'))
    .description('a server as it was at some moment: its base backup, and its archived log over it')
    .requiredOption(
      '--to <target>',
      'TIME with its zone, lsn:X/Y, xid:N, name:P, immediate or latest',
      target,
    )
    .option('--timeline <timeline>', 'latest, current (of the base backup), or its number', timeline)
    .option('--base <backup>', 'base backup to begin with; default: the newest that ended before')
    .option('--wal-config <path>', 'wal.json on that host; default: /etc/holdfast/wal.json')
    .option('--quick', 'with the proofs of a restore alone')
    .option('--queries <file>', 'JSON: [{"name","sql","expect"}, …]; takes the role admin')
    .addHelpText('after', '\nExample:\n  holdfast drill moment shop --to latest --directory /var/tmp')
    .action(async (connection: string, options: MomentOptions, command: Command) => {
      const { to, base, walConfig } = options
      const moment = {
        connection,
        to,
        ...(options.timeline === undefined ? {} : { timeline: options.timeline }),
        ...(base === undefined ? {} : { base }),
        ...(walConfig === undefined ? {} : { walConfig }),
      }
      const queries = options.queries === undefined ? {} : { queries: await queriesIn(options.queries) }
      await begin(command, { moment, ...(options.quick ? { quick: true } : {}), ...queries }, options)
    })

  fullDrillCommand(group)

  group
    .command('list [connection]')
    .description('drills, newest first')
    .addHelpText('after', '\nExample:\n  holdfast drill list shop')
    .action(async (connection: string | undefined, _options: unknown, command: Command) => {
      const context = contextOf(command)
      const { items } = await context.client.get(page(drillView), '/v1/drills', { connection })
      if (context.json) return printJson(items)
      if (items.length === 0) return note('No drills yet: holdfast drill quick CONNECTION')
      table(
        ['DRILL', 'OF', 'ON', 'BEGAN', 'VERDICT', 'RTO', 'RPO', 'COPY'],
        items.map(one => [
          one.id,
          one.connection,
          one.target,
          time(one.startedAt),
          one.verdict === null ? one.state : paint(colours[one.verdict], one.verdict),
          one.rtoMs === null ? '' : duration(one.rtoMs),
          one.rpoMs === null ? '' : duration(one.rpoMs),
          one.tornDownAt === null ? 'there' : 'removed',
        ]),
      )
    })

  group
    .command('report <operation>')
    .description('what a drill has shown, signed; as a page for printing and filing with --html')
    .option('--html <file>', 'write it as one page of HTML')
    .option('--out <file>', 'write the signed JSON')
    .addHelpText('after', '\nExample:\n  holdfast drill report op-7Qm2vX9f3kW1ab --html shop-drill.html')
    .action(async (drill: string, options: { html?: string; out?: string }, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/drills/${encodeURIComponent(drill)}/report`
      const report = await context.client.get(signedDrillReportSchema, path)
      if (options.html !== undefined) await writeFile(options.html, drillPage(report))
      if (options.out !== undefined) await writeFile(options.out, `${JSON.stringify(report)}\n`)
      if (context.json) return printJson(report)
      for (const file of [options.html, options.out]) if (file !== undefined) print(`written to ${file}`)
      if (options.html === undefined && options.out === undefined) show(report)
    })

  group
    .command('check <file>')
    .description(
      'is this report (JSON or page) what the installation of a fingerprint has signed? Needs no server',
    )
    .requiredOption('--fingerprint <fingerprint>', 'of its key, as `holdfast keys fingerprint` says it')
    .addHelpText(
      'after',
      '\nExample:\n  holdfast drill check shop-drill.html --fingerprint "$(holdfast keys fingerprint)"',
    )
    .action(async (file: string, options: { fingerprint: string }, command: Command) => {
      const { json }: { json?: boolean } = command.optsWithGlobals()
      const report = await verifyDrillReport(await documentIn(file), options.fingerprint.trim())
      if (json) return printJson(report)
      print(
        `signed by installation ${clean(report.installationId)}: drill ${clean(report.drill)} ${report.verdict}`,
      )
    })

  group
    .command('cleanup')
    .description('remove now what drills that were ended from outside have left; it goes by itself, too')
    .addHelpText('after', '\nExample:\n  holdfast drill cleanup')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const { items } = await context.client.post(drillCleanupView, '/v1/drills/cleanup')
      if (context.json) return printJson(items)
      if (items.length === 0) return print('Nothing is left of any drill.')
      for (const id of items) print(`what is left of ${id} is being removed; see: holdfast drill list`)
    })
}

const withWhere = (command: Command): Command =>
  command
    .option(
      '--target <connection>',
      'on whose server or machine the copy is made; default: where it came from',
    )
    .option('--directory <dir>', 'of a file or a data directory: where the copy is made')
    .option('--from <destination>', 'read the copy there; default: the first that answers and is whole')
    .option('--jobs <n>', 'parallel jobs, where the tool has them', wholeNumber)
    .option('--bandwidth <limit>', 'e.g. 20MB/s; see `holdfast bandwidth`')
    .option('--no-owner', 'leave owners and grants out')
    .option('--max-time <duration>', 'it fails when it takes longer, e.g. 30min', durationSeconds)
    .option('--max-size <size>', 'refuse what is larger when unpacked, e.g. 50GB', byteCount)
    .option(
      '--container <image>',
      'started in containers of this image, by its programs; takes the role admin',
    )
    .option('--container-engine <engine>', 'docker (default) or podman')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')

async function begin(command: Command, asked: Record<string, unknown>, options: DrillOptions): Promise<void> {
  const context = contextOf(command)
  const given = {
    target: options.target,
    directory: options.directory === undefined ? undefined : resolve(options.directory),
    from: options.from,
    jobs: options.jobs,
    bandwidth: options.bandwidth,
    noOwner: options.owner ? undefined : true,
    maxSeconds: options.maxTime,
    maxBytes: options.maxSize,
    container: containerOf(options),
  }
  const said = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const operation = await start(context, '/v1/drills', { ...asked, ...said })
  await follow(context, operation, options.wait)
}

/** Who runs it is of no use without an image. */
export const containerOf = (options: { container?: string; containerEngine?: string }) =>
  options.container === undefined && options.containerEngine === undefined
    ? undefined
    : { engine: options.containerEngine ?? 'docker', image: options.container ?? '' }

/** What it holds is for the API to judge. */
export async function queriesIn(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new HoldfastError('request.invalid', `Reading the queries in ${file}: ${reason}`)
  }
}

/** The signed document: the file itself, or what a page holds of it. */
async function documentIn(file: string): Promise<unknown> {
  try {
    const text = await readFile(file, 'utf8')
    const [, embedded] = /<script type="application\/json" id="report">(.*)<\/script>/.exec(text) ?? []
    return JSON.parse(embedded ?? text)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new HoldfastError('request.invalid', `Reading the report ${file}: ${reason}`)
  }
}

const byWords = { canary: ', by the canary', replay: ', by the last transaction', backup: '' } as const

function show(report: SignedDrillReport): void {
  const { backup, rto, rpo, target, checks, error, warnings } = report
  print(`${paint('bold', 'drill')} ${report.drill}  ${paint(colours[report.verdict], report.verdict)}`)
  fields([
    ...(report.moment === null ? [] : [['recovered to', report.moment.target] as const]),
    ['backup', `${backup.id} of ${clean(backup.connection)}${backup.newest ? ', the newest' : ''}`],
    [
      'copy made on',
      `${target.connection}${target.sameServer ? ' (the server that was backed up)' : ''}${target.image === null ? '' : `, by the programs of ${clean(target.image)}`}`,
    ],
    ['RTO', rto.totalMs === null ? 'not reached' : duration(rto.totalMs)],
    ...rto.steps.filter(one => one.ms > 0).map(one => [`  ${one.step}`, duration(one.ms)] as const),
    ['RPO', `${duration(rpo.ageMs)}, data as of ${time(rpo.dataAsOf)}${byWords[rpo.by]}`],
    ['removed', report.tornDownAt === null ? 'not yet' : time(report.tornDownAt)],
    ['signed by', `${report.installationId}, ${report.fingerprint}`],
  ])
  for (const { answer, title, detail } of checks) {
    const colour = answer === 'pass' ? 'green' : answer === 'warn' ? 'yellow' : 'red'
    print(`  ${paint(colour, answer)}  ${clean(title)}: ${clean(detail)}`)
  }
  for (const warning of warnings) print(`  ${paint('yellow', 'warn')}  ${clean(warning)}`)
  if (error !== null) print(`${paint('red', error.code)}: ${clean(error.detail)}`)
}
