import { resolve } from 'node:path'
import type { Command } from 'commander'
import { connectionView } from '../../model/views.ts'
import { contextOf } from '../context.ts'
import { wholeNumber } from './backup.ts'
import { type ReplacingOptions, replacingOptions, startReplacing } from './replacing.ts'

interface RestoreOptions extends ReplacingOptions {
  target: string
  from?: string
  database: string
  jobs?: number
  owner: boolean
  preempt?: boolean
  overwriteExisting?: boolean
}

export function restoreCommand(program: Command): void {
  const command = program
    .command('restore <backup>')
    .description('restore a backup beside, under a new name; or over what is there, once approved')
    .requiredOption('--target <connection>', 'the server to restore into')
    .requiredOption('--database <new>', 'name of the new database, or path of the new file')
    .option('--from <destination>', 'read the copy there; default: the first that answers and is whole')
    .option('--jobs <n>', 'parallel jobs, where the tool has them', wholeNumber)
    .option('--bandwidth <limit>', 'e.g. 20MB/s; see `holdfast bandwidth`')
    .option('--no-owner', 'leave owners and grants out')
    .option('--preempt', 'cancel a backup that holds the server, and be the next')
    .option('--overwrite-existing', 'replace what is there under that name; waits for `holdfast approve`')
  replacingOptions(command)
    .addHelpText(
      'after',
      '\nBACKUP is an id, CONNECTION:latest or CONNECTION:previous.\n\nExamples:\n  holdfast restore shop:latest --target shop --database shop_copy\n  holdfast restore 20261121T031400Z-full-9f3k --target notes --database ./notes-copy.sqlite\n  holdfast restore shop:latest --target shop --database shop --overwrite-existing --reason "bad migration" --safety-backup vault',
    )
    .action(async (backup: string, options: RestoreOptions, command: Command) => {
      const context = contextOf(command)
      const path = `/v1/connections/${encodeURIComponent(options.target)}`
      const target = await context.client.get(connectionView, path)
      await startReplacing(
        context,
        '/v1/restores',
        {
          backup,
          target: {
            connection: options.target,
            database: target.engine === 'sqlite' ? resolve(options.database) : options.database,
          },
          ...(options.from === undefined ? {} : { from: options.from }),
          ...(options.jobs === undefined ? {} : { jobs: options.jobs }),
          ...(options.owner ? {} : { noOwner: true }),
          ...(options.preempt ? { preempt: true } : {}),
          ...(options.overwriteExisting ? { overwriteExisting: true } : {}),
        },
        options,
      )
    })
}
