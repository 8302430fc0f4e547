/** What restores and recoveries are told alike: how they run, and how they treat what they replace. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type Allowance, allowances } from '../../model/types.ts'
import type { Context } from '../context.ts'
import { showDryRun } from '../dry-run.ts'
import { follow, start } from '../watch.ts'

export interface ReplacingOptions {
  bandwidth?: string
  safetyBackup?: string
  keepOld?: number
  allow?: Allowance[]
  reason?: string
  dryRun?: boolean
  unattended?: boolean
  wait: boolean
}

export const replacingOptions = (command: Command): Command =>
  command
    .option('--safety-backup <destination>', 'back up what is to be replaced first')
    .option('--keep-old <time>', 'how long to keep what was replaced: 90s, 30m, 24h, 7d', seconds)
    .addOption(
      new Option(
        '--allow <what...>',
        'replace it although it is a standby, or its log or tablespaces lie elsewhere',
      ).choices(allowances),
    )
    .option('--reason <text>', 'why; kept with the operation and the audit')
    .option('--dry-run', 'every check and the plan, and nothing of it is done')
    .option('--unattended', 'nobody watches: park instead of failing where an operator is needed')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')

/** Asks for it with what these options say, and shows what becomes of it. */
export async function startReplacing(
  context: Context,
  path: '/v1/pitr' | '/v1/restores',
  request: Record<string, unknown>,
  options: ReplacingOptions,
): Promise<void> {
  const operation = await start(context, path, {
    ...request,
    ...(options.bandwidth === undefined ? {} : { bandwidth: options.bandwidth }),
    ...(options.safetyBackup === undefined ? {} : { safetyBackup: { destination: options.safetyBackup } }),
    ...(options.keepOld === undefined ? {} : { keepOldSeconds: options.keepOld }),
    ...(options.allow === undefined ? {} : { allow: options.allow }),
    ...(options.reason === undefined ? {} : { reason: options.reason }),
    ...(options.dryRun ? { dryRun: true } : {}),
    ...(options.unattended ? { unattended: true } : {}),
  })
  if (options.dryRun) await showDryRun(context, operation)
  else await follow(context, operation, options.wait)
}

const units = { s: 1, m: 60, h: 3600, d: 86_400 } as const

/** `90s`, `30m`, `24h`, `7d`. */
function seconds(text: string): number {
  const match = /^(\d{1,6})([smhd])$/.exec(text)
  if (!match) throw new InvalidArgumentError('use a number and s, m, h or d, as in 24h')
  return Number(match[1]) * units[match[2] as keyof typeof units]
}
