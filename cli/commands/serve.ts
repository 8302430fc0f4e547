/** The two processes that `up` runs, one by one: for machines with a Temporal of their own. */
import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { homePaths } from '../../model/settings.ts'
import { settingsOf } from '../context.ts'

export function serveCommands(program: Command): void {
  program
    .command('worker')
    .description('carry out the steps of backups and restores')
    .addHelpText('after', '\nExample:\n  HOLDFAST_TEMPORAL_ADDRESS=temporal.example:7233 holdfast worker')
    .action(async (_options: unknown, command: Command) => {
      const settings = settingsOf(command.optsWithGlobals().home)
      const { startWorker } = await import('../../activities/worker.ts')
      const path = homePaths(settings.home).workerToken
      const workerToken = await readFile(path, 'utf8').catch(error => {
        throw new HoldfastError(
          'settings.invalid',
          `The worker's token ${path} cannot be read: ${error.message}.`,
          {
            hint: 'The API makes it at its first start; on another machine put a copy there, readable by its user only.',
          },
        )
      })
      const worker = await startWorker({ settings, workerToken: workerToken.trim() })
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => worker.shutdown())
      await worker.run()
      // Native threads of the SDK may linger; everything of ours is settled here.
      process.exit(0)
    })
}
