import { type Command, InvalidArgumentError } from 'commander'
import type { CompressionRequest } from '../../model/compression.ts'
import { compression, compressionHelp } from '../compression-option.ts'
import { contextOf } from '../context.ts'
import { showDryRun } from '../dry-run.ts'
import { follow, start } from '../watch.ts'

interface BackupOptions {
  to?: string[]
  failover?: string
  type?: string
  format?: string
  jobs?: number
  compression?: CompressionRequest
  bandwidth?: string
  /** `--no-encrypt` makes it false. */
  encrypt: boolean
  encryptTo?: string[]
  label?: Record<string, string>
  unattended?: boolean
  dryRun?: boolean
  wait: boolean
}

export const wholeNumber = (text: string): number => {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.')
  return Number(text)
}

export const several = (text: string, before: string[] = []): string[] => [...before, text]

export const label = (text: string, before: Record<string, string> = {}): Record<string, string> => {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('It must be NAME=VALUE.')
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) }
}

export function backupCommand(program: Command): void {
  program
    .command('backup <connection>')
    .description('make a backup and watch it (Ctrl-C stops the watching, not the backup)')
    .option('--to <destination>', 'where to; may be given again, for copies at several', several)
    .option('--failover <destination>', 'where to while one of these is away; none: nowhere')
    .option('--type <type>', 'full, or incremental (PostgreSQL 17, physical)')
    .option('--format <format>', 'what the tool writes, e.g. custom, directory, copy, dump')
    .option('--jobs <n>', 'parallel jobs, where the tool has them', wholeNumber)
    .option('--compression <how>', compressionHelp, compression)
    .option('--bandwidth <limit>', 'e.g. 20MB/s or "08:00-18:00 Europe/Berlin 10MB/s, otherwise none"')
    .option('--encrypt-to <key...>', 'names of keys; default: every key in use')
    .option('--no-encrypt', 'keep this backup in the clear')
    .option('--label <name=value>', 'a label; may be given again', label)
    .option('--dry-run', 'every check and the plan, and nothing of it is done')
    .option('--unattended', 'nobody watches: park instead of failing where an operator is needed')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only start it')
    .addHelpText(
      'after',
      '\nExamples:\n  holdfast backup shop --to vault\n  holdfast backup shop --to vault --to offsite\n  holdfast backup shop --format directory --jobs 4 --label reason=upgrade --no-wait --json',
    )
    .action(async (connection: string, options: BackupOptions, command: Command) => {
      const context = contextOf(command)
      const operation = await start(context, '/v1/backups', {
        connection,
        ...(options.to === undefined ? {} : { destinations: options.to }),
        ...(options.failover === undefined
          ? {}
          : { failover: options.failover === 'none' ? null : options.failover }),
        ...(options.type === undefined ? {} : { type: options.type }),
        ...(options.format === undefined ? {} : { format: options.format }),
        ...(options.jobs === undefined ? {} : { jobs: options.jobs }),
        ...(options.compression === undefined ? {} : { compression: options.compression }),
        ...(options.bandwidth === undefined ? {} : { bandwidth: options.bandwidth }),
        ...(options.encrypt ? {} : { encryptTo: [] }),
        ...(options.encryptTo === undefined ? {} : { encryptTo: options.encryptTo }),
        ...(options.label === undefined ? {} : { labels: options.label }),
        ...(options.unattended ? { unattended: true } : {}),
        ...(options.dryRun ? { dryRun: true } : {}),
      })
      if (options.dryRun) await showDryRun(context, operation)
      else await follow(context, operation, options.wait)
    })
}
