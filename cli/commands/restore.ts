import { resolve } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type Allowance, allowances } from '../../model/types.ts'
import { connectionView } from '../../model/views.ts'
import { contextOf } from '../context.ts'
import { showDryRun } from '../dry-run.ts'
import { follow, start } from '../watch.ts'
import { wholeNumber } from './backup.ts'

interface RestoreOptions {
  target: string
  from?: string
  database: string
  jobs?: number
  bandwidth?: string
  owner: boolean
  reason?: string
  unattended?: boolean
  dryRun?: boolean
  preempt?: boolean
  overwriteExisting?: boolean
  safetyBackup?: string
  keepOld?: number
  allow?: Allowance[]
  wait: boolean
}

export function restoreCommand(program: Command): void {
  program
    .command('restore <backup>')
    .description('restore a backup beside, under a new name; or over what is there, once approved')
    .requiredOption('--target <connection>', 'the server to restore into')
    .requiredOption('--database <new>', 'name of the new database, or path of the new file')
    .option('--from <destination>', 'read the copy there; default: the first that answers and is whole')
    .option('--jobs <n>', 'parallel jobs, where the tool has them', wholeNumber)
    .option('--bandwidth <limit>', 'e.g. 20MB/s; see `holdfast bandwidth`')
    .option('--no-owner', 'leave owners and grants out')
    .option('--reason <text>', 'why; kept with the operation')
    .option('--preempt', 'cancel a backup that holds the server, and be the next')
    .option('--dry-run', 'every check and the plan, and nothing of it is done')
    .option('--unattended', 'nobody watches: park instead of failing where an operator is needed')
    .option('--overwrite-existing', 'replace what is there under that name; waits for `holdfast approve`')
    .option('--safety-backup <destination>', 'back up what is to be replaced first')
    .option('--keep-old <time>', 'how long to keep what was replaced: 90s, 30m, 24h, 7d', seconds)
    .addOption(
      new Option(
        '--allow <what...>',
        'replace it although it is a standby, or its log or tablespaces lie elsewhere',
      ).choices(allowances),
    )
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')
    .addHelpText(
      'after',
      '\nBACKUP is an id, CONNECTION:latest or CONNECTION:previous.\n\nExamples:\n  holdfast restore shop:latest --target shop --database shop_copy\n  holdfast restore 20261121T031400Z-full-9f3k --target notes --database ./notes-copy.sqlite\n  holdfast restore shop:latest --target shop --database shop --overwrite-existing --reason "bad migration" --safety-backup vault',
    )
    .action(async (backup: string, options: RestoreOptions, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/connections/${encodeURIComponent(options.target)}`
      const target = await context.client.get(connectionView, path)
      const operation = await start(context, '/v1/restores', {
        backup,
        target: {
          connection: options.target,
          database: target.engine === 'sqlite' ? resolve(options.database) : options.database,
        },
        ...(options.from === undefined ? {} : { from: options.from }),
        ...(options.jobs === undefined ? {} : { jobs: options.jobs }),
        ...(options.bandwidth === undefined ? {} : { bandwidth: options.bandwidth }),
        ...(options.owner ? {} : { noOwner: true }),
        ...(options.reason === undefined ? {} : { reason: options.reason }),
        ...(options.unattended ? { unattended: true } : {}),
        ...(options.dryRun ? { dryRun: true } : {}),
        ...(options.preempt ? { preempt: true } : {}),
        ...(options.overwriteExisting ? { overwriteExisting: true } : {}),
        ...(options.safetyBackup === undefined
          ? {}
          : { safetyBackup: { destination: options.safetyBackup } }),
        ...(options.keepOld === undefined ? {} : { keepOldSeconds: options.keepOld }),
        ...(options.allow === undefined ? {} : { allow: options.allow }),
      })
      if (options.dryRun) await showDryRun(context, operation)
      else await follow(context, operation, options.wait)
    })
}

const units = { s: 1, m: 60, h: 3600, d: 86_400 } as const

/** `90s`, `30m`, `24h`, `7d`. */
export function seconds(text: string): number {
  const match = /^(\d{1,6})([smhd])$/.exec(text)
  if (!match) throw new InvalidArgumentError('use a number and s, m, h or d, as in 24h')
  return Number(match[1]) * units[match[2] as keyof typeof units]
}
